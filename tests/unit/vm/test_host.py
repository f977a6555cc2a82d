# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts can run guests."""

from typing import cast

import pytest

from xenner import abi
from xenner.errors import HostError
from xennerd.vm.kvm.cpuid import GuestCpuid
from xennerd.vm.kvm.host import cpuid_for
from xennerd.vm.kvm.machine import CpuidEntry, Kvm


class NoFeatures:
    """A KVM that supports leaves without a bit in them."""

    def supported_cpuid(self) -> list[CpuidEntry]:
        return [CpuidEntry(leaf, 0, 0, 0, 0, 0, 0) for leaf in (0, 1, 7)]


@pytest.fixture
def kvm(monkeypatch: pytest.MonkeyPatch) -> Kvm:
    monkeypatch.setattr(GuestCpuid, "has_fsgsbase", lambda _self: False)
    return cast(Kvm, NoFeatures())


def test_hardware_kvm_needs_no_fsgsbase(kvm: Kvm) -> None:
    assert not cpuid_for(kvm, 0).has_fsgsbase()


def test_emu_at_ring_3_needs_it(kvm: Kvm) -> None:
    with pytest.raises(HostError, match="FSGSBASE"):
        cpuid_for(kvm, abi.EMU_QUIRK_SLOW_RING0)

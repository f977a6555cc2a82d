# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of host this is: its KVM, its processor."""

import os
from pathlib import Path

from xenner import abi
from xenner.errors import ConfigError, HostError
from xennerd.vm.kvm._vcpu import ffi, lib
from xennerd.vm.kvm.cpuid import GuestCpuid, guest_cpuid
from xennerd.vm.kvm.machine import Kvm

_SOFTWARE_KVM = Path("/sys/module/kvm_pvm")


def detect_quirks() -> int:
    """EMU_QUIRK_* of this host's KVM."""
    override = os.environ.get("XENNER_QUIRKS")
    if override is not None:
        try:
            return int(override, 0)
        except ValueError:
            raise ConfigError(
                f"XENNER_QUIRKS={override}: not a number"
            ) from None
    if _SOFTWARE_KVM.exists() or not _has_virtualisation():
        return abi.EMU_QUIRK_SLOW_RING0
    return 0


def _has_virtualisation() -> bool:
    """Does the processor run guests by itself (proc_cpuinfo(5))?"""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return not {"vmx", "svm"}.isdisjoint(value.split())
    return False


def cpuid_for(kvm: Kvm, quirks: int) -> GuestCpuid:
    """The guest's CPUID on this host; HostError if it lacks what emu needs.

    Segment bases are loaded by their MSRs where ring 0 is the processor's;
    where it is interpreted, emu is at ring 3 and has the instructions alone.
    """

    def host(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        out = ffi.new("uint32_t[4]")
        lib.host_cpuid(leaf, subleaf, out)
        return out[0], out[1], out[2], out[3]

    cpuid = guest_cpuid(
        kvm.supported_cpuid(),
        host=host,
        host_xcr0=lib.host_xcr0(),
        ring3_sees_host=bool(quirks & abi.EMU_QUIRK_SLOW_RING0),
        null_clears_base=bool(lib.host_null_clears_base()),
    )
    if quirks & abi.EMU_QUIRK_SLOW_RING0 and not cpuid.has_fsgsbase():
        raise HostError(
            "the processor lacks FSGSBASE, which a KVM without "
            "hardware virtualisation needs",
            "Intel from Ivy Bridge and AMD from Excavator on have it",
        )
    return cpuid

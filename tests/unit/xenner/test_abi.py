# SPDX-License-Identifier: GPL-2.0-or-later
"""A name that no header has is an error: here, and of mypy, which complains
of an `ignore` that ignores nothing."""

import pytest

from blkbackd._engine import lib as blk
from netbackd._engine import lib as net
from xenner import abi
from xenner._abi import lib
from xenner._xenstore import lib as xenstore
from xennerd.vm.kvm._vcpu import lib as vcpu


def test_a_misspelt_constant_is_an_error() -> None:
    with pytest.raises(AttributeError):
        _ = abi.EMU_SHARED_GPE  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = vcpu.VCPU_EXIT_KIKED  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = blk.BLK_EXIT_KIKED  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = net.NET_EXIT_KIKED  # type: ignore[attr-defined]


def test_a_misspelt_function_is_an_error() -> None:
    with pytest.raises(AttributeError):
        _ = lib.memory_barier  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = xenstore.xs_raed  # type: ignore[attr-defined]


def test_so_is_a_wrong_number_of_arguments() -> None:
    with pytest.raises(TypeError):
        lib.memory_barrier(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        vcpu.host_xcr0(1)  # type: ignore[call-arg]


def test_constants_are_the_compilers() -> None:
    assert abi.EMU_NR_EVTCHN == lib.EMU_NR_EVTCHN == 4096
    assert abi.GDT_WINDOW_VIRT == 0xFFFF8180_0000_0000
    assert abi.EVTCHND_SELF == 0x7FF0


def test_linuxs_numbers_are_the_kernels() -> None:
    assert (abi.BLKSSZGET, abi.BLKGETSIZE64) == (0x1268, 0x80081272)
    assert (abi.TUNSETIFF, abi.TUNSETOFFLOAD) == (0x400454CA, 0x400454D0)
    assert (abi.IFF_TAP, abi.IFF_MULTI_QUEUE) == (0x0002, 0x0100)
    assert (abi.SIOCGIFFLAGS, abi.IFF_UP) == (0x8913, 1)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual machine as KVM knows it: memory, vCPUs, interrupts, eventfds.

Numbers and layouts are <linux/kvm.h>'s.
"""

import errno
import fcntl
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from xenner.errors import HostError
from xennerd.vm._vcpu import lib
from xennerd.vm.kvmstats import open_stats

_KVMIO = 0xAE
_VERSION = 12


def _io(nr: int) -> int:
    return _KVMIO << 8 | nr


def _iow(nr: int, size: int) -> int:
    return 1 << 30 | size << 16 | _io(nr)


def _iowr(nr: int, size: int) -> int:
    return 3 << 30 | size << 16 | _io(nr)


_GET_API_VERSION = _io(0x00)
_CREATE_VM = _io(0x01)
_CHECK_EXTENSION = _io(0x03)
_GET_VCPU_MMAP_SIZE = _io(0x04)
_GET_SUPPORTED_CPUID = _iowr(0x05, 8)
_CREATE_VCPU = _io(0x41)
_SET_USER_MEMORY_REGION = _iow(0x46, 32)
_CREATE_IRQCHIP = _io(0x60)
_SET_GSI_ROUTING = _iow(0x6A, 8)
_IRQFD = _iow(0x76, 32)
_IOEVENTFD = _iow(0x79, 64)
_SET_CPUID2 = _iow(0x90, 8)
_GET_TSC_KHZ = _io(0xA3)

_CAPABILITIES = {
    0: "in-kernel interrupt controller",
    3: "user memory regions",
    32: "irqfd",
    36: "ioeventfd",
    61: "TSC frequency",
    136: "immediate exit",
}

_TSS_ADDRESS = 0xFFFBD000
_IOEVENTFD_DATAMATCH = 1
_IOEVENTFD_DEASSIGN = 1 << 2
_IOEVENTFD_PIO = 2
_ROUTING_MSI = 2
_MSI_ADDRESS = 0xFEE00000

_HINTS = {
    errno.EBUSY: "another hypervisor holds the processor's virtualisation",
    errno.ENOMEM: "the host is short of memory",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=)",
    errno.ENOTSUP: "virtualisation may be off in the firmware",
}


def _ioctl(
    fd: int, request: int, argument: int | bytes | bytearray, *, what: str
) -> int:
    """An ioctl that has to work; HostError says what did not.

    Only a bytearray shows what KVM wrote and may have more than 1024 bytes.
    """
    if isinstance(argument, bytes):
        argument = bytearray(argument)
    try:
        return int(fcntl.ioctl(fd, request, argument))
    except OSError as error:
        raise HostError(
            f"KVM cannot {what}: {error.strerror}",
            _HINTS.get(error.errno or 0, ""),
        ) from error


@dataclass(frozen=True, slots=True)
class CpuidEntry:
    """One row of struct kvm_cpuid_entry2; flags bit 0: subleaf counts."""

    leaf: int
    subleaf: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int

    _LAYOUT = struct.Struct("<7I12x")

    def pack(self) -> bytes:
        return self._LAYOUT.pack(
            self.leaf,
            self.subleaf,
            self.flags,
            self.eax,
            self.ebx,
            self.ecx,
            self.edx,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(*cls._LAYOUT.unpack(data))


class _Closing(ABC):
    """Used in a with statement: closed when it ends."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Kvm(_Closing):
    """An open /dev/kvm. HostError where it cannot run guests of ours."""

    def __init__(self, path: Path = Path("/dev/kvm")) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise HostError(
                f"{path}: no such device",
                "load kvm_intel or kvm_amd; virtualisation may be off in the "
                "firmware",
            ) from None
        except PermissionError:
            raise HostError(
                f"{path}: permission denied",
                "run as root or as a member of the group that owns it",
            ) from None
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error
        try:
            self._check(path)
        except BaseException:
            os.close(self._fd)
            raise

    def _check(self, path: Path) -> None:
        try:
            version = fcntl.ioctl(self._fd, _GET_API_VERSION, 0)
        except OSError:
            raise HostError(f"{path}: not a KVM device") from None
        if version != _VERSION:
            raise HostError(f"{path}: KVM API version {version}, not 12")
        for number, name in _CAPABILITIES.items():
            if fcntl.ioctl(self._fd, _CHECK_EXTENSION, number) <= 0:
                raise HostError(
                    f"{path}: this KVM has no {name}", "use a newer kernel"
                )

    def supported_cpuid(self) -> tuple[CpuidEntry, ...]:
        """What KVM can give a guest (KVM_GET_SUPPORTED_CPUID)."""
        count = 256
        buffer = bytearray(8 + count * 40)
        struct.pack_into("<I", buffer, 0, count)
        _ioctl(self._fd, _GET_SUPPORTED_CPUID, buffer, what="list CPUID")
        (count,) = struct.unpack_from("<I", buffer)
        return tuple(
            CpuidEntry.unpack(bytes(buffer[8 + i * 40 : 48 + i * 40]))
            for i in range(count)
        )

    def create_vm(self) -> int:
        """A new VM's descriptor."""
        return _ioctl(self._fd, _CREATE_VM, 0, what="create a VM")

    def run_bytes(self) -> int:
        """Size of a vCPU's shared run structure."""
        return _ioctl(self._fd, _GET_VCPU_MMAP_SIZE, 0, what="run vCPUs")

    def close(self) -> None:
        os.close(self._fd)


class Vm(_Closing):
    """One VM with an in-kernel LAPIC. Closing it closes its vCPUs."""

    def __init__(self, kvm: Kvm) -> None:
        self._stack = ExitStack()
        self._kvm = kvm
        self._fd = kvm.create_vm()
        self._stack.callback(os.close, self._fd)
        # Intel only; elsewhere without effect.
        rc = lib.vm_set_tss_address(self._fd, _TSS_ADDRESS)
        if rc < 0:
            raise HostError(f"KVM cannot place a TSS: {os.strerror(-rc)}")
        _ioctl(self._fd, _CREATE_IRQCHIP, 0, what="make interrupt controllers")

    def map_memory(
        self, address: int, ranges: Iterable[tuple[int, int]]
    ) -> None:
        """Guest-physical ranges (start, bytes) of a mapping at `address`."""
        for slot, (start, size_bytes) in enumerate(ranges):
            region = struct.pack(
                "<IIQQQ", slot, 0, start, size_bytes, address + start
            )
            _ioctl(
                self._fd,
                _SET_USER_MEMORY_REGION,
                region,
                what=f"map {size_bytes >> 20} MiB of memory",
            )

    def create_vcpu(self, number: int, cpuid: Iterable[CpuidEntry]) -> int:
        """A new vCPU's descriptor, with its CPUID set."""
        fd = _ioctl(
            self._fd, _CREATE_VCPU, number, what=f"create vCPU {number}"
        )
        self._stack.callback(os.close, fd)
        entries = [entry.pack() for entry in cpuid]
        buffer = struct.pack("<II", len(entries), 0) + b"".join(entries)
        _ioctl(fd, _SET_CPUID2, bytearray(buffer), what="set CPUID")
        return fd

    def open_stats(self) -> int | None:
        """A descriptor of the VM's own statistics, the caller's to close."""
        return open_stats(self._fd)

    def tsc_khz(self, vcpu_fd: int) -> int:
        """Frequency of the TSC that guests read."""
        return _ioctl(vcpu_fd, _GET_TSC_KHZ, 0, what="tell the TSC's rate")

    def route_msi(self, gsi: int, vector: int) -> None:
        """`gsi` raises `vector` on vCPU 0; replaces all earlier routes."""
        entry = struct.pack(
            "<IIIIIII20x", gsi, _ROUTING_MSI, 0, 0, _MSI_ADDRESS, 0, vector
        )
        table = struct.pack("<II", 1, 0) + entry
        _ioctl(self._fd, _SET_GSI_ROUTING, table, what="route an interrupt")

    def irqfd(self, eventfd: int, gsi: int) -> None:
        """Writing to the eventfd raises `gsi`."""
        request = struct.pack("<IIII16x", eventfd, gsi, 0, 0)
        _ioctl(self._fd, _IRQFD, request, what="attach an irqfd")

    def ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        """A 32-bit `out` of `value` to I/O port `port` signals the eventfd."""
        self._ioeventfd(eventfd, port, value, flags=0)

    def remove_ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        """Undo ioeventfd(); `eventfd` is the same one or its duplicate."""
        self._ioeventfd(eventfd, port, value, flags=_IOEVENTFD_DEASSIGN)

    def _ioeventfd(
        self, eventfd: int, port: int, value: int, *, flags: int
    ) -> None:
        flags |= _IOEVENTFD_DATAMATCH | _IOEVENTFD_PIO
        request = struct.pack("<QQIiI36x", value, port, 4, eventfd, flags)
        _ioctl(self._fd, _IOEVENTFD, request, what="attach an ioeventfd")

    def close(self) -> None:
        self._stack.close()

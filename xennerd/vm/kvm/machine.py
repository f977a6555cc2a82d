# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual machine as KVM knows it: memory, vCPUs, interrupts, eventfds.

Numbers and layouts are <linux/kvm.h>'s, through csrc/kvm.h.
"""

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xenner.errors import HostError
from xennerd.vm.kvm._vcpu import ffi, lib
from xennerd.vm.kvm.stats import open_stats

_CAPABILITIES = {
    lib.KVM_CAP_IRQCHIP: "in-kernel interrupt controller",
    lib.KVM_CAP_USER_MEMORY: "user memory regions",
    lib.KVM_CAP_IRQFD: "irqfd",
    lib.KVM_CAP_IOEVENTFD: "ioeventfd",
    lib.KVM_CAP_GET_TSC_KHZ: "TSC frequency",
    lib.KVM_CAP_IMMEDIATE_EXIT: "immediate exit",
}

_TSS_ADDRESS = 0xFFFBD000

_HINTS = {
    errno.EBUSY: "another hypervisor holds the processor's virtualisation",
    errno.ENOMEM: "the host is short of memory",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=)",
    errno.ENOTSUP: "virtualisation may be off in the firmware",
}


def _ioctl(fd: int, request: int, argument: Any, *, what: str) -> int:
    """An ioctl that has to work; HostError says what did not.

    `argument` is a number, or a structure that KVM may write to.
    """
    try:
        if not isinstance(argument, int):
            argument = ffi.buffer(argument)
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
            version = fcntl.ioctl(self._fd, lib.KVM_GET_API_VERSION, 0)
        except OSError:
            raise HostError(f"{path}: not a KVM device") from None
        if version != lib.KVM_API_VERSION:
            raise HostError(f"{path}: KVM API version {version}, not 12")
        for number, name in _CAPABILITIES.items():
            if fcntl.ioctl(self._fd, lib.KVM_CHECK_EXTENSION, number) <= 0:
                raise HostError(
                    f"{path}: this KVM has no {name}", "use a newer kernel"
                )

    def supported_cpuid(self) -> tuple[CpuidEntry, ...]:
        """What KVM can give a guest (KVM_GET_SUPPORTED_CPUID)."""
        table = ffi.new("struct kvm_cpuid2 *", {"nent": 256, "entries": 256})
        request = lib.KVM_GET_SUPPORTED_CPUID
        _ioctl(self._fd, request, table, what="list CPUID")
        return tuple(
            CpuidEntry(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx)
            for e in table.entries[0 : table.nent]
        )

    def create_vm(self) -> int:
        """A new VM's descriptor."""
        return _ioctl(self._fd, lib.KVM_CREATE_VM, 0, what="create a VM")

    def run_bytes(self) -> int:
        """Size of a vCPU's shared run structure."""
        return _ioctl(self._fd, lib.KVM_GET_VCPU_MMAP_SIZE, 0, what="run vCPUs")

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
        _ioctl(
            self._fd,
            lib.KVM_CREATE_IRQCHIP,
            0,
            what="make interrupt controllers",
        )

    def map_memory(
        self, address: int, ranges: Iterable[tuple[int, int]]
    ) -> None:
        """Guest-physical ranges (start, bytes) of a mapping at `address`."""
        for slot, (start, size_bytes) in enumerate(ranges):
            region = ffi.new("struct kvm_userspace_memory_region *")
            region.slot = slot
            region.guest_phys_addr = start
            region.memory_size = size_bytes
            region.userspace_addr = address + start
            _ioctl(
                self._fd,
                lib.KVM_SET_USER_MEMORY_REGION,
                region,
                what=f"map {size_bytes >> 20} MiB of memory",
            )

    def create_vcpu(self, number: int, cpuid: Iterable[CpuidEntry]) -> int:
        """A new vCPU's descriptor, with its CPUID set."""
        fd = _ioctl(
            self._fd, lib.KVM_CREATE_VCPU, number, what=f"create vCPU {number}"
        )
        self._stack.callback(os.close, fd)
        rows = [
            (e.leaf, e.subleaf, e.flags, e.eax, e.ebx, e.ecx, e.edx)
            for e in cpuid
        ]
        table = ffi.new(
            "struct kvm_cpuid2 *", {"nent": len(rows), "entries": rows}
        )
        _ioctl(fd, lib.KVM_SET_CPUID2, table, what="set CPUID")
        return fd

    def open_stats(self) -> int | None:
        """A descriptor of the VM's own statistics, the caller's to close."""
        return open_stats(self._fd)

    def tsc_khz(self, vcpu_fd: int) -> int:
        """Frequency of the TSC that guests read."""
        return _ioctl(
            vcpu_fd, lib.KVM_GET_TSC_KHZ, 0, what="tell the TSC's rate"
        )

    def route_msi(self, gsi: int, vector: int) -> None:
        """`gsi` raises `vector` on vCPU 0; replaces all earlier routes."""
        rc = lib.vm_route_msi(self._fd, gsi, vector)
        if rc < 0:
            raise HostError(
                f"KVM cannot route an interrupt: {os.strerror(-rc)}"
            )

    def irqfd(self, eventfd: int, gsi: int) -> None:
        """Writing to the eventfd raises `gsi`."""
        request = ffi.new("struct kvm_irqfd *", {"fd": eventfd, "gsi": gsi})
        _ioctl(self._fd, lib.KVM_IRQFD, request, what="attach an irqfd")

    def ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        """A 32-bit `out` of `value` to I/O port `port` signals the eventfd."""
        self._ioeventfd(eventfd, port, value, flags=0)

    def remove_ioeventfd(self, eventfd: int, port: int, value: int) -> None:
        """Undo ioeventfd(); `eventfd` is the same one or its duplicate."""
        self._ioeventfd(
            eventfd, port, value, flags=lib.KVM_IOEVENTFD_FLAG_DEASSIGN
        )

    def _ioeventfd(
        self, eventfd: int, port: int, value: int, *, flags: int
    ) -> None:
        request = ffi.new("struct kvm_ioeventfd *")
        request.datamatch, request.addr, request.len = value, port, 4
        request.fd = eventfd
        request.flags = (
            flags
            | lib.KVM_IOEVENTFD_FLAG_DATAMATCH
            | lib.KVM_IOEVENTFD_FLAG_PIO
        )
        _ioctl(self._fd, lib.KVM_IOEVENTFD, request, what="attach an ioeventfd")

    def close(self) -> None:
        self._stack.close()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain file, xl.cfg(5), as one frozen value. Pure.

What a key may be and what it means without a value are those of Xen's
tools/xl/xl_parse.c. A key that nobody knows, or that has no effect on a PV
guest here, is a warning; what the guest would miss is an error.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from xenner.errors import ConfigError
from xenner.unitname import MAX_BYTES, escaped
from xenner.xlcpus import Cpus, Step, parse_cpus
from xenner.xldisk import Disk, parse_disk
from xenner.xlsyntax import Assignment, Atom, Items, Value, parse_assignments
from xenner.xlvif import Vif, parse_vif

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_MAX_MEMORY_MIB = 1 << 17
_MAX_VCPUS = 32
# Less than TimeoutStartSec= of a unit that says nothing of it.
_MAX_WAIT_S = 80

PVGRUB64 = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
"""What `firmware="pvgrub64"` means: GRUB as a guest, as Debian's grub-xen-host
has it. xl's own place for it is a link to that file, where somebody made it."""
# A guest with one of these expects what is not there: why.
_REFUSED = {
    # It would read what the guest writes, on the host and with its rights.
    "bootloader": "nothing on the host reads a guest's disk; for what its "
    'grub.cfg says give firmware="pvgrub64", else kernel and ramdisk',
    "pci": "no PCI device can be passed to a guest of this host",
    "ioports": "no I/O port can be passed to a guest of this host",
    "irqs": "no interrupt can be passed to a guest of this host",
    "iomem": "no device memory can be passed to a guest of this host",
    "usbctrl": "there is no USB backend",
    "usbdev": "there is no USB backend",
    "vtpm": "there is no TPM backend",
    "p9": "there is no 9p backend",
    "pvcalls": "there is no PV calls backend",
    "vdispl": "there is no display backend",
    "vsnd": "there is no sound backend",
    "vkb": "there is no keyboard backend",
    "channel": "there are no channels but the console",
    "driver_domain": "only domain 0 serves devices",
}
# Known, and without effect on a PV guest of this host.
_IGNORED = frozenset(
    """
    bootargs bootloader_args bootloader_restrict bootloader_user claim_mode
    cpuid cpus_soft device_model_args_pv e820_host init_seclabel localtime
    max_event_channels max_grant_frames max_grant_version max_maptrack_frames
    nomigrate on_soft_reset passthrough pool rtc_timeoffset
    seclabel tsc_mode vfb vnuma vpmu xend_suspend_evtchn_compat
    xenstore_feature_mask xenstore_quota
    """.split()
)
_BUILDERS = frozenset({"generic", "linux", ""})
_Result = TypeVar("_Result")


class Action(StrEnum):
    """What becomes of a domain that ended: on_poweroff and its like."""

    DESTROY = "destroy"
    RESTART = "restart"
    RENAME_RESTART = "rename-restart"
    PRESERVE = "preserve"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"


@dataclass(frozen=True, slots=True)
class DomainConfig:
    """A guest as its file has it. Paths are not looked at."""

    name: str
    kernel: str
    ramdisk: str = ""
    cmdline: str = ""
    handle: uuid.UUID | None = None
    """The file's uuid; without one each start has a new one."""
    memory_mib: int = 32
    maxmem_mib: int = 32
    nr_vcpus: int = 1
    max_vcpus: int = 1
    cpus: Cpus | None = None
    """The host's CPUs that may run it; None: all."""
    cpu_weight: int = 256
    cap_percent: int = 0
    """Percent of one host CPU for all of its own; 0: no limit."""
    io_weight: int = 100
    """systemd's, of what the guest's own process reads and writes. No key of
    xl's, which takes what it does not know."""
    wait_devices_s: int = 0
    """How long a start waits for the devices to be connected; 0: it does not.
    A key of ours too."""
    on_poweroff: Action = Action.DESTROY
    on_reboot: Action = Action.RESTART
    on_crash: Action = Action.DESTROY
    on_watchdog: Action = Action.DESTROY
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    warnings: tuple[str, ...] = ()
    """One line each, with the place: for the person, not for the guest."""


def check_name(name: str) -> None:
    """xl takes any; this one is a part of paths, of units and of tables.
    ValueError: no domain can be called that here."""
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"name {name!r}: cannot be a part of a path")
    if not name.isprintable() or any(c.isspace() for c in name):
        raise ValueError(
            f"name {name!r}: a blank or a control character would end it "
            "where domains are listed"
        )
    if len(escaped(name)) > MAX_BYTES:
        raise ValueError(f"name {name!r}: too long for a unit's")


def parse_config(
    text: str, *, file: str, extra: str = "", default_name: str = ""
) -> DomainConfig:
    """The domain that a file describes.

    `extra` is more of the same that wins over the file, as words on xl's
    command line do; `default_name` is for a file without a name. ConfigError
    with file and line: xl would refuse it, or the guest could not run here.
    """
    keys = parse_assignments(text, file=file)
    keys |= parse_assignments(extra, file="command line")
    return _Reader(keys, file, frozenset(_lines(extra))).config(default_name)


def _lines(extra: str) -> set[str]:
    return set(parse_assignments(extra, file="command line"))


class _Reader:
    """Takes keys out; what is left over is unknown."""

    def __init__(
        self,
        keys: Mapping[str, Assignment],
        file: str,
        from_command_line: frozenset[str],
    ) -> None:
        self._keys = dict(keys)
        self._file = file
        self._from_command_line = from_command_line
        self._key = ""
        self._line: int | None = None
        self.warnings: list[str] = []

    def config(self, default_name: str) -> DomainConfig:
        self._refuse()
        name = self._text("name", default_name)
        if not name:
            raise ConfigError("no name: xl's files have one", file=self._file)
        try:
            check_name(name)
        except ValueError as error:
            raise self._error(str(error)) from None
        if not (kernel := self._kernel()):
            raise ConfigError("no kernel: nothing to boot", file=self._file)
        memory_mib = self._number("memory", 32, 1, _MAX_MEMORY_MIB)
        nr_vcpus = self._number("vcpus", 1, 1, _MAX_VCPUS)
        config = DomainConfig(
            name=name,
            kernel=kernel,
            ramdisk=self._text("ramdisk"),
            cmdline=self._cmdline(),
            handle=self._converted("uuid", _handle),
            memory_mib=memory_mib,
            maxmem_mib=self._maximum("maxmem", memory_mib, _MAX_MEMORY_MIB),
            nr_vcpus=nr_vcpus,
            max_vcpus=self._maximum("maxvcpus", nr_vcpus, _MAX_VCPUS),
            cpus=self._cpus(),
            cpu_weight=self._number("cpu_weight", 256, 1, 65535),
            cap_percent=self._cap(),
            io_weight=self._number("io_weight", 100, 1, 10000),
            wait_devices_s=self._number("wait_devices", 0, 0, _MAX_WAIT_S),
            on_poweroff=self._action("on_poweroff", Action.DESTROY),
            on_reboot=self._action("on_reboot", Action.RESTART),
            on_crash=self._action("on_crash", Action.DESTROY),
            on_watchdog=self._action("on_watchdog", Action.DESTROY),
            disks=self._disks(),
            vifs=self._vifs(),
        )
        self._warn_of_rest()
        return _with_warnings(config, self.warnings)

    def _refuse(self) -> None:
        kind = self._text("type", "pv").lower()
        if kind != "pv":
            raise self._error(f"type {kind}: only PV guests run here")
        builder = self._text("builder")
        if builder not in _BUILDERS:
            raise self._error(f"builder {builder}: only PV guests run here")
        for key, reason in _REFUSED.items():
            value = self._take(key)
            if value is not None and not _is_empty(value):
                raise self._error(f"{key}: {reason}")

    def _kernel(self) -> str:
        kernel, firmware = self._text("kernel"), self._text("firmware")
        if not firmware:
            return kernel
        if kernel:
            raise self._error("firmware: there is a kernel too")
        if firmware != "pvgrub64":
            raise self._error(f"firmware {firmware!r}: only pvgrub64 runs here")
        return PVGRUB64

    def _warn_of_rest(self) -> None:
        for key, assignment in sorted(
            self._keys.items(), key=lambda item: item[1].line
        ):
            what = "an unknown key"
            if key in _IGNORED:
                if _is_empty(assignment.value):
                    continue
                what = "has no effect here"
            self._key, self._line = key, assignment.line
            self.warnings.append(f"{self._here()}: {key}: {what}")

    def _cmdline(self) -> str:
        root, extra = self._text("root"), self._text("extra")
        cmdline = self._text("cmdline")
        if cmdline:
            if root or extra:
                self.warnings.append(
                    f"{self._here()}: root and extra: cmdline is used instead"
                )
            return cmdline
        words = ([f"root={root}"] if root else []) + ([extra] if extra else [])
        return " ".join(words)

    def _maximum(self, key: str, least: int, most: int) -> int:
        value = self._number(key, least, 1, most)
        if value < least:
            raise self._error(f"{key} {value}: less than there is ({least})")
        if value > least and key == "maxvcpus":
            self.warnings.append(
                f"{self._here()}: {key}: more than at the start is not there"
            )
        return value

    def _cap(self) -> int:
        # Ganeti writes cpu_cap, xl reads cap.
        cap = self._number("cpu_cap", 0, 0, 100 * _MAX_VCPUS)
        return self._number("cap", cap, 0, 100 * _MAX_VCPUS)

    def _action(self, key: str, default: Action) -> Action:
        text = self._text(key, default)
        try:
            return Action(text)
        except ValueError:
            raise self._error(
                f"{key} {text!r}: use {', '.join(Action)}"
            ) from None

    def _cpus(self) -> Cpus | None:
        """`cpus`, or Ganeti's `cpu` for one of them."""
        lists, has_all = [], False
        for key in ("cpus", "cpu"):
            for atom in self._atoms(key):
                try:
                    # What follows it may take some out again.
                    has_all |= parse_cpus(atom.text)[-1] == Step(None)
                    lists.append(atom.text)
                except ValueError as error:
                    raise self._error(f"{key}: {error}", atom.line) from None
        return None if has_all or not lists else Cpus(tuple(lists))

    def _disks(self) -> tuple[Disk, ...]:
        disks = tuple(
            self._parsed(parse_disk, atom) for atom in self._atoms("disk")
        )
        self._check_twice("vdev", [(d.devid, d.line) for d in disks])
        return disks

    def _vifs(self) -> tuple[Vif, ...]:
        vifs = tuple(
            self._parsed(
                lambda text, line, devid=devid: parse_vif(
                    text, devid=devid, line=line
                ),
                atom,
            )
            for devid, atom in enumerate(self._atoms("vif"))
        )
        self._check_twice("devid", [(v.devid, v.line) for v in vifs])
        return vifs

    def _parsed(self, parse: Callable[..., _Result], atom: Atom) -> _Result:
        try:
            return parse(atom.text, line=atom.line)
        except ValueError as error:
            raise self._error(f"{self._key}: {error}", atom.line) from None

    def _check_twice(self, what: str, numbers: list[tuple[int, int]]) -> None:
        seen: dict[int, int] = {}
        for number, line in numbers:
            if number in seen:
                raise self._error(
                    f"{self._key}: {what} {number} again, as on line "
                    f"{seen[number]}",
                    line,
                )
            seen[number] = line

    def _take(self, key: str) -> Value | None:
        self._key = key
        assignment = self._keys.pop(key, None)
        self._line = assignment.line if assignment else None
        return assignment.value if assignment else None

    def _text(self, key: str, default: str = "") -> str:
        value = self._take(key)
        if isinstance(value, Items):
            raise self._error(f"{key}: a string is expected, not a list")
        return default if value is None else value.text

    def _converted(
        self, key: str, convert: Callable[[str], _Result]
    ) -> _Result | None:
        text = self._text(key)
        try:
            return convert(text) if text else None
        except ValueError:
            raise self._error(f"{key} {text!r}: not a {key}") from None

    def _number(self, key: str, default: int, low: int, high: int) -> int:
        text = self._text(key)
        if not text:
            return default
        if not _NUMBER.fullmatch(text) or len(text) > 18:
            raise self._error(f"{key} {text!r}: not a number")
        is_octal = text[0] == "0" and text.isdigit()
        value = int(text, 8) if is_octal else int(text, 0)
        if not low <= value <= high:
            raise self._error(f"{key} {value}: must be {low} to {high}")
        return value

    def _atoms(self, key: str) -> list[Atom]:
        """A list's strings; one alone is a list of one, if not empty."""
        value = self._take(key)
        if value is None:
            return []
        if isinstance(value, Atom):
            return [value] if value.text else []
        atoms = []
        for item in value.items:
            if isinstance(item, Items):
                raise self._error(f"{key}: a list within the list", item.line)
            atoms.append(item)
        return atoms

    def _here(self) -> str:
        """Of the key that was taken last."""
        if self._key in self._from_command_line:
            return "command line"
        return f"{self._file}:{self._line}"

    def _error(self, text: str, line: int | None = None) -> ConfigError:
        if self._key in self._from_command_line:
            return ConfigError(text, file="command line")
        return ConfigError(text, file=self._file, line=line or self._line)


def _with_warnings(config: DomainConfig, warnings: list[str]) -> DomainConfig:
    values = {name: getattr(config, name) for name in config.__slots__}
    return DomainConfig(**{**values, "warnings": tuple(warnings)})


def _is_empty(value: Value) -> bool:
    if isinstance(value, Items):
        return not value.items
    return value.text in ("", "0")


def _handle(text: str) -> uuid.UUID:
    return uuid.UUID(text)

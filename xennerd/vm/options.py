# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `xenner`: qemu's manner, one dash or two. Pure."""

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from xenner import abi
from xenner.errors import ConfigError
from xenner.types import MAX_DOMID
from xenner.xldisk import Disk
from xenner.xlvif import Vif
from xennerd.vm.deviceoptions import Devices

USAGE = """\
usage: xenner -kernel FILE [option...]

Run one Xen PV guest on /dev/kvm, without Xen.

  -kernel FILE       bzImage or ELF kernel with Xen PV support
  -initrd FILE       initial ramdisk
  -append TEXT       kernel command line
  -m SIZE[,maxmem=SIZE]
                     memory, MiB or with suffix K, M, G (default 256), and
                     what the guest can grow to
  -smp N             vCPUs, 1 to 32 (default 1)
  -name NAME         domain name (default guest-DOMID)
  -uuid UUID         domain handle (default: random)
  -domid N           domain number (default: the lowest free one)
  -serial, -console  stdio, pty, unix:PATH, file:PATH or null (default stdio),
                     or xenconsoled: another daemon's, with -xenstore
  -nographic         accepted: there are no graphics
  -hda FILE, ... -hdd, -cdrom FILE
                     raw disks: xvda to xvdd; the CD is xvdc
  -drive file=FILE[,format=raw|qcow2...][,readonly=on][,index=N][,media=cdrom]
  -disk SPEC         a disk as in xl's domain files
  -nic SPEC          an interface, bridge=xenbr0,mac=... as there
  -monitor WHERE     QMP monitor: none, unix:PATH or stdio (default none)
  -S                 do not start; wait for the monitor's "cont"
  -no-reboot         end instead of rebooting
  -daemonize         go to the background when the guest runs
  -pidfile FILE      write the process number there
  -d LIST            to standard error: console, exits, trace, stats, all
  -evtchnd PATH      evtchnd's socket: event channels to the outside
  -xenstore PATH     xenstore's socket; with -evtchnd
  -xenstore private  one for this guest alone, as disks and interfaces have it
                     where these two are not given
  -runtime-dir DIR   where the vmcore goes, on tmpfs (default
                     $XENNER_RUNTIME_DIR, /run/xenner, or /dev/shm/xenner
                     where /run is no tmpfs)
  -version, -help

Exit status: 0 the guest powered off, 1 it crashed or could not be run,
2 the command line or a file it names is wrong. Ctrl-] leaves the console.
"""

_LATER = {
    "blockdev fda fdb": "such disks (-drive and -disk are)",
    "net netdev": "such interfaces (-nic is)",
    "vnc display vga sdl spice k": "graphics",
    "incoming loadvm": "saving and restoring",
    "device object chardev mon qmp": "devices given one by one",
    "gdb s": "the debugger stub (gdb opens the vmcore instead)",
}

_TOPICS = frozenset({"exits", "console", "trace", "stats", "all"})
_SIZE = re.compile(r"([0-9]+)([KMGkmg]?)[Bb]?")
_SHIFT = {"": 20, "k": 10, "m": 20, "g": 30}
_MAX_MEMORY = 1 << 37


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; paths are not opened yet."""

    kernel: Path
    initrd: Path | None = None
    append: str = ""
    memory_bytes: int = 256 << 20
    max_memory_bytes: int = 0
    """What the guest can have at most; 0: what it starts with."""
    nr_vcpus: int = 1
    name: str = ""
    handle: uuid.UUID = field(default_factory=uuid.uuid4)
    domid: int | None = None
    serial: str = "stdio"
    monitor: str = "none"
    is_stopped: bool = False
    is_reboot_allowed: bool = True
    is_daemon: bool = False
    pidfile: Path | None = None
    topics: frozenset[str] = frozenset()
    runtime_dir: Path | None = None
    evtchnd: Path | None = None
    xenstore: Path | None = None
    is_standalone: bool = False
    """The guest gets daemons of its own: standalone/host.py."""
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    wait_devices_s: int = 0


class Help(Exception):  # noqa: N818 - the person asked
    """-help or -version: print the text, status 0."""


def parse_memory(text: str) -> int:
    """Bytes from qemu's notation; MiB without suffix. ConfigError if odd."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ConfigError(f"-m {text}: not a size; write 512, 512M or 2G")
    size_bytes = int(match[1]) << _SHIFT[match[2].lower()]
    if size_bytes < 1 << 20 or size_bytes % 4096:
        raise ConfigError(f"-m {text}: at least 1 MiB, in whole pages")
    if size_bytes > _MAX_MEMORY:
        raise ConfigError(f"-m {text}: at most {_MAX_MEMORY >> 30} GiB")
    return size_bytes


def _memory(text: str) -> dict[str, object]:
    """QEMU's -m: `512`, `size=512M,maxmem=1G`."""
    size, *rest = text.removeprefix("size=").split(",")
    least = parse_memory(size)
    found: dict[str, object] = {"memory_bytes": least}
    for word in rest:
        name, _, value = word.partition("=")
        if name != "maxmem":
            raise ConfigError(f"-m {text}: {name}: only maxmem is known here")
        most = parse_memory(value)
        found["max_memory_bytes"] = most
        if most < least:
            raise ConfigError(f"-m {text}: maxmem is less than the size")
    return found


def _number(option: str, text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{option} {text}: not a number")
    value = int(text)
    if not low <= value <= high:
        raise ConfigError(f"{option} {text}: must be {low} to {high}")
    return value


def _smp(text: str) -> int:
    first = text.split(",")[0].removeprefix("cpus=")
    return _number("-smp", first, 1, abi.EMU_MAX_VCPUS)


def _name(text: str) -> str:
    # Lines, tables and xenstore have it: bytes that are no text are not.
    if not text.isprintable():
        raise ConfigError(f"-name {text!a}: not a printable text")
    return text


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ConfigError(f"-uuid {text}: not a UUID") from None


def _topics(text: str) -> frozenset[str]:
    topics = frozenset(text.split(","))
    unknown = topics - _TOPICS
    if unknown:
        raise ConfigError(
            f"-d {text}: no topic {min(unknown)!r}; "
            f"there are {', '.join(sorted(_TOPICS))}"
        )
    return topics


_FLAGS: dict[str, dict[str, object]] = {
    "nographic": {},
    "S": {"is_stopped": True},
    "no-reboot": {"is_reboot_allowed": False},
    "daemonize": {"is_daemon": True},
}
_VALUES: dict[str, Callable[[str], dict[str, object]]] = {
    "kernel": lambda v: {"kernel": Path(v)},
    "initrd": lambda v: {"initrd": Path(v)},
    "append": lambda v: {"append": v},
    "m": _memory,
    "smp": lambda v: {"nr_vcpus": _smp(v)},
    "name": lambda v: {"name": _name(v)},
    "uuid": lambda v: {"handle": _uuid(v)},
    "domid": lambda v: {"domid": _number("-domid", v, 1, MAX_DOMID)},
    "serial": lambda v: {"serial": v},
    "console": lambda v: {"serial": v},
    "monitor": lambda v: {"monitor": v},
    "pidfile": lambda v: {"pidfile": Path(v)},
    "d": lambda v: {"topics": _topics(v)},
    "runtime-dir": lambda v: {"runtime_dir": Path(v)},
    "evtchnd": lambda v: {"evtchnd": Path(v)},
    "xenstore": lambda v: (
        {"is_standalone": True} if v == "private" else {"xenstore": Path(v)}
    ),
}


def parse_options(arguments: list[str], *, version: str) -> Options:
    """ConfigError for what makes no sense, Help for -help and -version."""
    given: dict[str, object] = {}
    devices = Devices()
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-") or argument == "-":
            raise ConfigError(f"{argument}: not an option (see xenner -help)")
        name, equals, value = argument.lstrip("-").partition("=")
        if name in ("help", "h", "?"):
            raise Help(USAGE)
        if name == "version":
            raise Help(f"xenner {version}\n")
        if name in _FLAGS:
            given |= _FLAGS[name]
        elif name in _VALUES or devices.takes(name):
            if not (equals and argument.startswith("--")):
                value = _next(rest, f"-{name}")
            if devices.takes(name):
                devices.add(name, value)
            else:
                given |= _VALUES[name](value)
        else:
            raise ConfigError(_refusal(name))
    if "kernel" not in given:
        raise ConfigError("no -kernel given (see xenner -help)")
    given |= {"disks": tuple(devices.disks), "vifs": tuple(devices.vifs)}
    options = Options(**given)  # type: ignore[arg-type]
    _check_together(options)
    if (options.disks or options.vifs) and options.xenstore is None:
        options = replace(options, is_standalone=True)
    return options


def _next(rest: Iterator[str], option: str) -> str:
    value = next(rest, None)
    if value is None:
        raise ConfigError(f"{option}: needs a value")
    return value


def _refusal(name: str) -> str:
    for names, what in _LATER.items():
        if name in names.split():
            return f"-{name}: {what} are not there in this version"
    return f"-{name}: no such option (see xenner -help)"


def _check_together(options: Options) -> None:
    if options.monitor == "stdio" and options.serial == "stdio":
        raise ConfigError("-monitor stdio: standard input is the console's")
    if options.is_daemon and "stdio" in (options.serial, options.monitor):
        raise ConfigError(
            "-daemonize: a console on stdio cannot go to the background; "
            "use -serial pty, unix:PATH, file:PATH or null"
        )
    if options.xenstore is not None and options.evtchnd is None:
        raise ConfigError("-xenstore: a guest reaches it by -evtchnd only")
    has_devices = options.disks or options.vifs
    if options.evtchnd is not None and options.xenstore is None and has_devices:
        raise ConfigError("-evtchnd: disks and interfaces need -xenstore too")
    if options.evtchnd is not None and options.is_standalone:
        raise ConfigError("-xenstore private: it has an evtchnd of its own")
    if options.serial == "xenconsoled" and options.xenstore is None:
        raise ConfigError("-serial xenconsoled: it hears of guests by xenstore")
    if not re.fullmatch(r"none|null|stdio|unix:.+", options.monitor):
        raise ConfigError(
            f"-monitor {options.monitor}: use none, unix:PATH or stdio"
        )

# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner-start`: the guest of a domain file, in this process.

What a unit runs, and xennerd: the process is the VM process, and its end is
the guest's. The status says what the file wants next.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from xenner.errors import ConfigError, HostError
from xenner.types import Domid, ShutdownReason
from xenner.xlcfg import Action, DomainConfig, parse_config
from xennerd.journal import Event, Subject, set_up_logging, tell
from xennerd.policy import MAX_STARTS, action_for, is_too_often, verdict_for
from xennerd.slices import slice_properties
from xennerd.vm.host import default_runtime_dir
from xennerd.vm.options import Options
from xennerd.vm.session import run_session
from xennerd.vm.vmcore import find_free_domid

CONFIG_DIR = Path("/etc/xenner")
DUMP_DIR = Path("/var/lib/xenner/dump")
EVTCHND = Path("/run/xenner/evtchnd.socket")
XENSTORE = Path("/run/xenstored/socket")

_MODULE = "xennerd.start"

EXIT_RESTART = 75
"""The file wants the guest started again: the unit's
RestartForceExitStatus=."""


def config_path(instance: str, directory: Path = CONFIG_DIR) -> Path:
    """The file of a unit's instance; what has a slash is a path itself."""
    return Path(instance) if "/" in instance else directory / f"{instance}.cfg"


def options_for(
    config: DomainConfig,
    domid: Domid,
    *,
    runtime_dir: Path,
    evtchnd: Path,
    xenstore: Path,
    is_stopped: bool = False,
) -> Options:
    """What the VM process is asked for. Pure."""
    return Options(
        kernel=Path(config.kernel),
        initrd=Path(config.ramdisk) if config.ramdisk else None,
        append=config.cmdline,
        memory_bytes=config.memory_mib << 20,
        nr_vcpus=config.nr_vcpus,
        name=config.name,
        handle=config.handle or uuid.uuid4(),
        domid=domid,
        serial="pty",
        monitor=f"unix:{runtime_dir}/monitor.{domid}",
        is_stopped=is_stopped,
        is_reboot_allowed=config.on_reboot is Action.RESTART,
        runtime_dir=runtime_dir,
        evtchnd=evtchnd,
        xenstore=xenstore,
        disks=config.disks,
        vifs=config.vifs,
    )


def kept_warnings(config: DomainConfig) -> list[str]:
    """The keys that ask for a dead domain to stay, which none does. Pure."""
    given = {
        "on_poweroff": config.on_poweroff,
        "on_reboot": config.on_reboot,
        "on_crash": config.on_crash,
    }
    return [
        f"{key}: {action}: the dead domain does not stay"
        for key, action in given.items()
        if action in (Action.PRESERVE, Action.RENAME_RESTART)
    ]


class _End:
    """What the guest's end was, and its core if the file wants it."""

    def __init__(
        self, config: DomainConfig, subject: Subject, dump_dir: Path
    ) -> None:
        self._config = config
        self._subject = subject
        self._dump_dir = dump_dir
        self.restarts = False

    def take(self, reason: ShutdownReason, vmcore: Path) -> None:
        """Called while the guest's memory is still there."""
        verdict = verdict_for(self._config, reason)
        word = reason.name.lower().replace("_", "-")
        is_crash = reason in (ShutdownReason.CRASH, ShutdownReason.WATCHDOG)
        tell(
            Event.CRASHED if is_crash else Event.ENDED,
            f"has ended: {word}, which means "
            f"{action_for(self._config, reason)}",
            self._subject,
            XENNER_REASON=word,
        )
        self.restarts = verdict.restarts
        if verdict.dumps:
            self._dump(vmcore)

    def _dump(self, vmcore: Path) -> None:
        stamp = time.strftime("%Y-%m%d-%H%M.%S")
        target = self._dump_dir / f"{stamp}-{self._config.name}.core"
        try:
            self._dump_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The guest is at rest: this is its memory as it ended.
            with vmcore.open("rb") as source, target.open("xb") as copy:
                target.chmod(0o600)
                shutil.copyfileobj(source, copy, 1 << 20)
        except OSError as error:
            print(
                f"xenner-start: no core in {target}: {error.strerror}",
                file=sys.stderr,
            )
            return
        print(f"xenner-start: core in {target}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("xenner-start", description=__doc__)
    add = parser.add_argument
    add("instance", help="domid or name of a file in /etc/xenner, or a path")
    add("--domid", type=int, help="default: the instance, or one that is free")
    add("--name", help="instead of the file's")
    add("--set", default="", metavar="TEXT", help="settings that win")
    add(
        "--keep",
        action="store_true",
        help="start it again, as a child, as long as its file says so",
    )
    add("--limits", action="store_true", help="set the slice's limits only")
    add("--paused", action="store_true", help="wait for the monitor's cont")
    add("--runtime-dir", type=Path, default=default_runtime_dir())
    add("--dump-dir", type=Path, default=DUMP_DIR)
    add("--evtchnd", type=Path, default=EVTCHND)
    add(
        "--xenstore",
        type=Path,
        default=Path(os.environ.get("XENSTORED_PATH", XENSTORE)),
    )
    return parser


def run(arguments: argparse.Namespace, *, started_at: float) -> int:
    """Run the guest to its end; raises ConfigError, HostError."""
    path = config_path(arguments.instance)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not a text file (UTF-8)")
        raise ConfigError(str(reason), file=path) from None
    extra = arguments.set
    if arguments.name:
        extra += f"\nname='{arguments.name}'"
    config = parse_config(
        text, file=str(path), extra=extra, default_name=path.stem
    )
    if arguments.limits:
        _set_limits(arguments.instance, config)
        return 0
    for warning in (*config.warnings, *kept_warnings(config)):
        print(f"xenner-start: warning: {warning}", file=sys.stderr)
    domid = arguments.domid
    if domid is None and arguments.instance.isdigit():
        domid = int(arguments.instance)
    if domid is None:
        arguments.runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        domid = find_free_domid(arguments.runtime_dir)
    options = options_for(
        config,
        Domid(domid),
        runtime_dir=arguments.runtime_dir,
        evtchnd=arguments.evtchnd,
        xenstore=arguments.xenstore,
        is_stopped=arguments.paused,
    )
    subject = Subject(Domid(domid), config.name, str(options.handle))
    end = _End(config, subject, arguments.dump_dir)
    status = run_session(
        options,
        started_at=started_at,
        on_logging=lambda: set_up_logging(subject),
        on_running=lambda: tell(Event.RUNNING, "is running", subject),
        on_end=end.take,
    )
    return EXIT_RESTART if end.restarts else status


def _set_limits(instance: str, config: DomainConfig) -> None:
    """Have the service manager limit the instance's slice, until it boots
    again. HostError: it refuses."""
    properties = slice_properties(config)
    done = subprocess.run(
        [
            *("systemctl", "set-property", "--runtime"),
            f"xenner-{instance}.slice",
            *(f"{name}={value}" for name, value in properties.items()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HostError(f"limits: {done.stderr.strip()}")


def _keep(words: Sequence[str]) -> int:
    """What a unit's RestartForceExitStatus= does, where there is no unit."""
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: object) -> None:
        if child is not None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    starts_s: list[float] = []
    while True:
        starts_s = [*starts_s[-MAX_STARTS:], time.monotonic()]
        child = subprocess.Popen([sys.executable, "-m", _MODULE, *words])
        status = child.wait()
        if status != EXIT_RESTART:
            return status if status >= 0 else 1
        if is_too_often(starts_s, now_s=time.monotonic()):
            print("xenner-start: ends too often, left alone", file=sys.stderr)
            return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    started_at = time.monotonic()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        if options.keep:
            return _keep([word for word in words if word != "--keep"])
        return run(options, started_at=started_at)
    except ConfigError as error:
        print(f"xenner-start: {error}", file=sys.stderr)
        return 2
    except HostError as error:
        print(f"xenner-start: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

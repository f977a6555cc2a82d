# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU that is the lab machine: Debian's newest, unpacked beside its own
libraries and started by its own loader, whatever this system has installed.

KVM under the TCG of QEMU 10 loses a guest once in 10 to 25 boots, where each
processor has a thread (see README.md); 11 does not. The release's backports
end at 10, so it comes from unstable; where that cannot be had or does not run,
from the backports.
"""

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.archive import Apt, sources
from lab.cache import find_or_make, key_of, remove
from lab.errors import LabError
from lab.steps import run_quietly, step

# The emulator and its firmware; their libraries are the installed QEMU's.
_BACKPORTS = (
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
)
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_PROGRAM = "usr/bin/qemu-system-x86_64"
# Packages of the simulated installation that no emulator is made of.
_NEEDLESS = frozenset({"systemd", "ipxe-qemu", "openssl-provider-legacy"})


@dataclass(frozen=True, slots=True)
class Qemu:
    """One unpacked QEMU."""

    directory: Path

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start the emulator, with its firmware's places."""
        share = self.directory / "usr/share"
        return (
            *_program(self.directory),
            *("-L", f"{share}/qemu", "-L", f"{share}/seabios"),
        )


def _program(directory: Path) -> tuple[str, ...]:
    loader, program = directory / _LOADER, str(directory / _PROGRAM)
    if not loader.exists():
        return (program,)
    return (
        *(str(loader), "--library-path", str(directory / _LIBRARIES)),
        program,
    )


@cache
def find_qemu() -> Qemu:
    """The emulator, unpacked where it is not in the cache yet.

    Raises LabError where no archive has one that runs here.
    """
    key = key_of([Path(__file__), Path(__file__).with_name("archive.py")])
    try:
        return Qemu(find_or_make("qemu", key, _unpack_newest))
    except LabError as error:
        reason = str(error).splitlines()[0]
    print(
        f"lab: no QEMU from Debian's unstable suite ({reason}); that of the "
        "backports loses a guest now and then",
        file=sys.stderr,
    )
    return Qemu(find_or_make("backports-qemu", key, _unpack_backports))


def _unpack_newest(directory: Path) -> None:
    """With all libraries: their versions and this system's need not agree."""
    with step("qemu"):
        state = directory / "apt"
        apt = Apt(state, sources("unstable"), is_empty_system=True)
        packages = [
            name
            for name in apt.installation("qemu-system-x86")
            if name not in _NEEDLESS
        ]
        _unpack(apt, packages, directory)


def _unpack_backports(directory: Path) -> None:
    with step("qemu"):
        apt = Apt(directory / "apt", sources("backports"))
        _unpack(apt, _BACKPORTS, directory)


def _unpack(
    apt: Apt, packages: list[str] | tuple[str, ...], directory: Path
) -> None:
    for deb in apt.download(packages, directory):
        run_quietly(["dpkg-deb", "--extract", deb, directory])
        deb.unlink()
    remove(directory / "apt")
    if not (directory / _PROGRAM).exists():
        raise LabError("the archive's qemu-system-x86 has no emulator in it")
    # It runs, or it is no use to anyone.
    version = run_quietly([*_program(directory), "-version"])
    if not re.match(r"QEMU emulator version \d", version):
        raise LabError(f"an emulator of no version: {version!r}")

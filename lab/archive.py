# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab takes from Debian's archive without installing it here."""

import re
from collections.abc import Sequence
from pathlib import Path

from lab.cache import find_or_make, key_of, remove
from lab.errors import LabError
from lab.steps import run_quietly, step

SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"
# The emulator and its firmware; their libraries are the installed QEMU's.
_QEMU_PACKAGES = (
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
)


def mirror() -> str:
    """The Debian mirror that this machine's apt uses, or Debian's own."""
    listing = run_quietly(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(SITE) $(ORIGIN) $(RELEASE)",
            "Identifier: Packages",
        ]
    )
    for line in listing.splitlines():
        if match := re.fullmatch(rf"(\S+) Debian {SUITE}", line):
            return match[1]
    return _MIRROR


def sources(*, backports: bool = False) -> list[str]:
    """Lines of sources.list for the suite, its updates and its security."""
    signed = f"deb [signed-by={KEYRING}]"
    site = mirror()
    if backports:
        return [f"{signed} {site} {SUITE}-backports main"]
    security = re.sub(r"/debian/?$", "/debian-security", site)
    if not security.endswith("/debian-security"):
        security = _SECURITY
    return [
        f"{signed} {site} {SUITE} main",
        f"{signed} {site} {SUITE}-updates main",
        f"{signed} {security} {SUITE}-security main",
    ]


class Apt:
    """An apt of its own in a directory: this machine's is not changed.

    Raises LabError where the archive cannot be reached.
    """

    def __init__(self, state: Path, lines: Sequence[str]) -> None:
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True)
        (state / "sources.list").write_text("".join(f"{x}\n" for x in lines))
        self._options = [
            "-q",
            *("-o", f"Dir::Etc::sourcelist={state}/sources.list"),
            *("-o", "Dir::Etc::sourceparts=/dev/null"),
            *("-o", f"Dir::State::lists={state}/lists"),
            *("-o", f"Dir::Cache={state}/cache"),
            *("-o", "APT::Sandbox::User=root"),
            *("-o", "Acquire::Retries=3"),
        ]
        run_quietly(["apt-get", *self._options, "update"])

    def dependencies(self, package: str) -> list[str]:
        """Names of the packages that `package` depends on."""
        listing = run_quietly(
            ["apt-cache", *self._options, "depends", "--important", package]
        )
        return re.findall(r"^ *\|?Depends: (\S+)$", listing, re.MULTILINE)

    def download(self, packages: Sequence[str], directory: Path) -> list[Path]:
        """The packages' newest .deb files, in `directory`."""
        run_quietly(
            ["apt-get", *self._options, "download", *packages], cwd=directory
        )
        return sorted(directory.glob("*.deb"))


def find_qemu() -> Path:
    """Directory with the newest QEMU of Debian's archives for this release,
    unpacked: its programs are in usr/bin."""
    key = key_of([Path(__file__)])
    return find_or_make("qemu", key, _unpack_qemu)


def _unpack_qemu(directory: Path) -> None:
    with step("qemu"):
        state = directory / "apt"
        apt = Apt(state, sources(backports=True))
        for deb in apt.download(_QEMU_PACKAGES, directory):
            run_quietly(["dpkg-deb", "--extract", deb, directory])
            deb.unlink()
        remove(state)
        emulator = directory / "usr/bin/qemu-system-x86_64"
        if not emulator.exists():
            raise LabError(f"no {emulator.name} in Debian's backports")
        run_quietly([emulator, "-version"])

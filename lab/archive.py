# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab takes from Debian's archive without installing it here."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lab.steps import run_quietly

SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"


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


def sources(kind: Literal["release", "backports", "unstable"]) -> list[str]:
    """Lines of sources.list for the release with its updates and its security,
    for its backports, or for the suite from which releases are made."""
    signed = f"deb [signed-by={KEYRING}]"
    site = mirror()
    if kind == "backports":
        return [f"{signed} {site} {SUITE}-backports main"]
    if kind == "unstable":
        return [f"{signed} {site} unstable main"]
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

    `is_empty_system`: it is to know of no installed package.
    Raises LabError where the archive cannot be reached.
    """

    def __init__(
        self,
        state: Path,
        lines: Sequence[str],
        *,
        is_empty_system: bool = False,
    ) -> None:
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
        if is_empty_system:
            (state / "status").touch()
            self._options += ["-o", f"Dir::State::status={state}/status"]
        run_quietly(["apt-get", *self._options, "update"])

    def dependencies(self, package: str) -> list[str]:
        """Names of the packages that `package` depends on."""
        listing = run_quietly(
            ["apt-cache", *self._options, "depends", "--important", package]
        )
        return re.findall(r"^ *\|?Depends: (\S+)$", listing, re.MULTILINE)

    def installation(self, package: str) -> list[str]:
        """Names of what its installation would bring, without what is only
        recommended."""
        words = ["--no-install-recommends", "--simulate", "install", package]
        listing = run_quietly(["apt-get", *self._options, *words])
        return re.findall(r"^Inst (\S+) ", listing, re.MULTILINE)

    def download(self, packages: Sequence[str], directory: Path) -> list[Path]:
        """The packages' newest .deb files, in `directory`."""
        run_quietly(
            ["apt-get", *self._options, "download", *packages], cwd=directory
        )
        return sorted(directory.glob("*.deb"))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels of Debian's archive, each booted for the demo's session.

They are fetched once, into build/soak/kernels; a suite that the archive does
not offer any more is said to be absent.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from demo.initramfs import make_initramfs
from lab.archive import KEYRING, Apt, mirror
from lab.errors import LabError
from soak.results import AbsentError, Result
from soak.running import TOP, command, explain, run_guest

PART = "kernels"
_KEPT = TOP / "build/soak/kernels"
_BOOT_S = 120.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """A package that depends on the suite's kernel of the day."""

    suite: str
    package: str

    @property
    def directory(self) -> Path:
        return _KEPT / f"{self.suite}-{self.package}"


KERNELS = tuple(
    Kernel(suite, f"linux-image-{flavour}amd64")
    for suite in (
        "bullseye",
        "bookworm",
        "bookworm-backports",
        "trixie",
        "trixie-backports",
        "sid",
        "experimental",
    )
    for flavour in ("", "cloud-", "rt-")
)


def fetch(kernel: Kernel) -> Path:
    """Its vmlinuz. AbsentError if the archive does not have it."""
    kept = list(kernel.directory.glob("vmlinuz-*"))
    if kept:
        return kept[0]
    line = f"deb [signed-by={KEYRING}] {mirror()} {kernel.suite} main"
    kernel.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kernel.directory) as name:
        try:
            apt = Apt(Path(name) / "apt", [line], is_empty_system=True)
            package = _package(apt, kernel.package)
            (archive,) = apt.download([package], Path(name))
        except (LabError, LookupError) as error:
            raise AbsentError(str(error).splitlines()[0]) from error
        unpack = (
            f"dpkg-deb --fsys-tarfile {archive} | "
            f"tar -x --wildcards -C {name} '*/vmlinuz*'"
        )
        subprocess.run(["bash", "-c", unpack], check=True)
        release = package.split("-", 2)[2]
        image = kernel.directory / f"vmlinuz-{release}"
        next(Path(name).rglob("vmlinuz*")).rename(image)
    return image


def _package(apt: Apt, package: str) -> str:
    """What has the kernel itself: since 7.3 the image depends on it."""
    for prefix in ("linux-image-", "linux-binary-"):
        words = apt.dependencies(package)
        package = next((x for x in words if x.startswith(prefix)), package)
    if not package.split("-", 2)[2][0].isdigit():
        raise LookupError(f"no kernel of the day for {package}")
    return package


def boot(image: Path) -> str:
    """What is wrong with its session, or nothing."""
    init = (TOP / "demo/init.sh").read_bytes()
    with tempfile.NamedTemporaryFile(prefix="soak.") as initrd:
        initrd.write(make_initramfs(init, {}))
        initrd.flush()
        ended = run_guest(
            command(
                image, "-initrd", initrd.name, "-m", "256", "-no-reboot",
                "-append", "console=hvc0 panic=-1 demo.do=script",
            ),
            most_s=_BOOT_S,
            name=PART,
        )  # fmt: skip
    if ended.status == 0 and "== end" in ended.lines and not ended.wrong():
        return ""
    explain(ended)
    return ended.wrong() or (
        "no end" if ended.was_ended else f"status {ended.status}"
    )


def on_host(minutes: float) -> Result:
    """All of them, as long as there is time for another one."""
    began = time.monotonic()
    booted, found = [], []
    for kernel in KERNELS:
        if time.monotonic() - began > minutes * 60:
            break
        name = f"{kernel.suite} {kernel.package}"
        try:
            image = fetch(kernel)
        except AbsentError as reason:
            print(f"{PART}: {name}: absent: {reason}", file=sys.stderr)
            continue
        wrong = boot(image)
        booted.append(image.name.removeprefix("vmlinuz-"))
        print(f"{PART}: {booted[-1]}: {wrong or 'ok'}", file=sys.stderr)
        if wrong:
            found.append(f"{booted[-1]}: {wrong}")
    return Result(
        PART, "host", time.monotonic() - began, len(booted), "kernels",
        "; ".join(found) or "ok", {"kernels": booted},
    )  # fmt: skip

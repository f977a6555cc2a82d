# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab machine as a real Xen host: Xen is booted in Linux' place, and
Debian's kernel is its domain 0, with Xen's own tools.

Guests there are Xen's, paravirtual ones, which need nothing of the processor.
Of this project only the backends and the store's clients have a meaning there.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.archive import Apt, sources
from lab.cache import find_or_make, key_of, remove
from lab.errors import LabError
from lab.machine import Machine, boot_machine
from lab.root import HERE
from lab.steps import run_quietly, step

_PACKAGES = HERE / "xen-packages.txt"


@dataclass(frozen=True, slots=True)
class XenFiles:
    """What makes a Xen host of the machine. All are read only."""

    directory: Path

    @property
    def hypervisor(self) -> Path:
        """An ELF file with a multiboot header."""
        return self.directory / "xen"

    @property
    def layer(self) -> Path:
        """A tar of Xen's tools and libraries, to be laid over the root."""
        return self.directory / "layer.tar"


def find_xen() -> XenFiles:
    """Debian's Xen, unpacked if the cache has none."""
    key = key_of([Path(__file__), HERE / "archive.py", _PACKAGES])
    return XenFiles(find_or_make("xen", key, _unpack))


def _unpack(directory: Path) -> None:
    with step("xen"):
        state, root = directory / "apt", directory / "root"
        apt = Apt(state, sources("release"))
        lines = _PACKAGES.read_text().splitlines()
        names = [line for line in lines if line[:1] not in ("", "#")]
        for deb in apt.download(names, directory):
            run_quietly(["dpkg-deb", "--extract", deb, root])
            deb.unlink()
        remove(state)
        files = XenFiles(directory)
        images = [*(root / "boot").glob("xen-*-amd64.gz")]
        if len(images) != 1:
            raise LabError(f"not one image of Xen in Debian's: {images}")
        with (
            gzip.open(images[0]) as source,
            files.hypervisor.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        remove(root / "boot")
        run_quietly(["tar", "-C", root, "-cf", files.layer, "."])
        remove(root)


@contextmanager
def boot_xen_host(*, stage: Path, out: Path) -> Iterator[Machine]:
    """A Xen host that has booted, as boot_machine(); Xen's daemons run with
    the first command."""
    files = find_xen()
    shutil.copyfile(files.layer, stage / "xen.tar")
    with boot_machine(
        stage=stage, out=out, hypervisor=files.hypervisor
    ) as machine:
        yield machine

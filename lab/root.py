# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's root directory for the lab, made from packages alone."""

import os
import shutil
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from lab.archive import SUITE, sources
from lab.cache import find_or_make, key_of
from lab.errors import LabError
from lab.steps import run_quietly, step

HERE = Path(__file__).resolve().parent
# Configuration laid over the packages' own, at the same paths: root/ in the
# machine and the container alike, machine/ in the machine only.
FILES = HERE / "files"

# Nothing in the lab shows documentation; it is a third of the installation.
_LEFT_OUT = ("doc", "man", "locale", "info", "lintian")
# Units that wait for hardware or for a network that is not there, and timers
# that would wake in the middle of a test.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "lvm2-monitor.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "serial-getty@ttyS0.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-fsck-root.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-timesyncd.service",
)

# Where the lab has what only tests import.
TEST_TOOLS = Path("/opt/lab/python")
_TEST_TOOLS = (
    "pytest",
    "pytest-trio",
    "pytest-xdist",
    "hypothesis",
    "qemu.qmp",
)
# Of what these require, the versions under test.
_FROM_DEBIAN = ("trio", "cffi", "lz4", "zstandard", "pyroute2")


def package_names() -> list[str]:
    """The packages that packages.txt lists."""
    lines = (HERE / "packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_tools() -> list[metadata.Distribution]:
    """What the tests need in the lab beyond Debian's packages: the same
    versions as here, taken from this Python's own site-packages."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [name for name in _TEST_TOOLS if _is_installed(name)]
    while waiting:
        name = waiting.pop()
        if name in found or name in _FROM_DEBIAN:
            continue
        found[name] = metadata.distribution(name)
        requirements = map(Requirement, found[name].requires or ())
        waiting += [
            requirement.name
            for requirement in requirements
            if not requirement.marker or requirement.marker.evaluate()
        ]
    return list(found.values())


def _is_installed(name: str) -> bool:
    return any(metadata.distributions(name=name))


def root_inputs() -> list[Path | str]:
    """What the root directory is made from, for key_of()."""
    return [
        HERE / "archive.py",
        HERE / "packages.txt",
        HERE / "root.py",
        *tree_inputs(FILES / "root"),
        *(f"{tool.name} {tool.version}" for tool in test_tools()),
    ]


def tree_inputs(directory: Path) -> list[Path | str]:
    """The names and contents of all files below `directory`, for key_of()."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return [*files, *(str(path.relative_to(directory)) for path in files)]


def find_root() -> Path:
    """The root directory, built if the cache has none. Nobody writes to it.

    Raises LabError if this process is not root or a program is missing.
    """
    return find_or_make("root", key_of(root_inputs()), _make_root) / "root"


def _make_root(directory: Path) -> None:
    if os.geteuid() != 0:
        raise LabError("the lab's root is made by root only: try as root")
    root = directory / "root"
    with step("root"):
        run_quietly(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--include={','.join(package_names())}",
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=Acquire::Retries "3"',
                '--aptopt=APT::Install-Recommends "0"',
                *(
                    f"--dpkgopt=path-exclude=/usr/share/{name}/*"
                    for name in _LEFT_OUT
                ),
                SUITE,
                str(root),
                *sources("release"),
            ]
        )
        _configure(root)


def _configure(root: Path) -> None:
    install_files(FILES / "root", root)
    (root / "srv/xenner").mkdir()
    for mount_point in ("stage", "out"):
        (root / mount_point).mkdir()
    for tool in test_tools():
        for file in tool.files or ():
            # Not the scripts: they name this machine's Python.
            if ".." not in file.parts:
                target = root / TEST_TOOLS.relative_to("/") / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)
    # No password; the way in is a key, or being root outside.
    shadow = root / "etc/shadow"
    lines = shadow.read_text().splitlines(keepends=True)
    shadow.write_text(
        "".join(
            "root::" + line.split(":", 2)[2] if line[:5] == "root:" else line
            for line in lines
        )
    )
    units = root / "etc/systemd/system"
    for name in _MASKED:
        (units / name).symlink_to("/dev/null")


def install_files(files: Path, root: Path) -> None:
    """Lay the directory `files` over `root`; a sbin's can be executed."""
    shutil.copytree(files, root, dirs_exist_ok=True, copy_function=_install)


def _install(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if "/sbin/" in target else 0o644)

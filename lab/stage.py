# SPDX-License-Identifier: GPL-2.0-or-later
"""What is laid over the lab's root for one run: the tree under test, and the
suite as its wheel installs it.

    stage/root/    files at their places below /
    stage/tree/    the source tree, for TREE
    stage/env      NAME=value lines for the command's environment
    stage/all.tar  root/ and tree/ in one archive, for the machine
"""

import compileall
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from lab.root import TEST_TOOLS
from lab.steps import run_quietly, step

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build/lab"
TREE = Path("/srv/xenner")
# Where a package of Debian's would install to.
_SCHEME = {
    "purelib": "/usr/lib/python3/dist-packages",
    "platlib": "/usr/lib/python3/dist-packages",
    "headers": "/usr/include",
    "scripts": "/usr/bin",
    # meson-python's data are what meson has below its datadir.
    "data": "/usr/share",
}
# Where what the build makes for the system belongs, below /.
_PLACES = {
    "tmpfiles": "usr/lib/tmpfiles.d",
    "sysusers": "usr/lib/sysusers.d",
    "catalog": "usr/lib/systemd/catalog",
}
# Built here, there is no compiler in the lab.
_BUILT = ("build/debian", "build/tests", "build/xen-utils/etc/xen/scripts")
# Of Xen's programs those that a test starts there, and their libraries.
_XEN = "build/xen-utils/usr/lib"
_XEN_FILES = (
    "xen-4.17/bin/xenstored",
    "xen-4.17/bin/oxenstored",
    "x86_64-linux-gnu/libxenctrl.so.4.17",
    "x86_64-linux-gnu/libxenguest.so.4.17",
)


@contextmanager
def make_stage() -> Iterator[Path]:
    """A directory with everything above, removed at the end."""
    with step("wheel"):
        wheel = _build_wheel()
    with TemporaryDirectory(prefix="stage-", dir=BUILD) as name:
        stage = Path(name)
        _install_wheel(wheel, stage / "root")
        _copy_tree(stage / "tree")
        _write_environment(stage / "env")
        _pack(stage)
        yield stage


def _build_wheel() -> Path:
    """Build it with the tools of this Python's environment."""
    directory = BUILD / "wheel"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    build = (
        "import mesonpy, sys; "
        "mesonpy.build_wheel(sys.argv[1], {'build-dir': sys.argv[2]})"
    )
    programs = Path(sys.executable).parent
    run_quietly(
        [sys.executable, "-c", build, directory, TOP / "build/wheel"],
        cwd=TOP,
        environment={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
        },
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def _install_wheel(wheel: Path, root: Path) -> None:
    destination = SchemeDictionaryDestination(
        _SCHEME,
        interpreter="/usr/bin/python3",
        script_kind="posix",
        destdir=str(root),
    )
    with WheelFile.open(wheel) as source:
        install(source, destination, additional_metadata={})
    # As a package does it: a wheel cannot install where systemd looks.
    units = root / "usr/share/xenner/units"
    units.rename(_made(root / "usr/lib/systemd") / "system")
    system = root / "usr/share/xenner/system"
    for kind, target in _PLACES.items():
        name = "xenner.catalog" if kind == "catalog" else "xenner.conf"
        (system / f"xenner.{kind}").rename(_made(root / target) / name)
    packages = root / _SCHEME["purelib"].removeprefix("/")
    # The drop-in libraries, which nothing finds unless it is told.
    libs = packages / ".xenner.mesonpy.libs/xenner"
    libs.rename(_made(root / "usr/lib/x86_64-linux-gnu") / "xenner")
    with redirect_stdout(StringIO()):
        compileall.compile_dir(
            packages, quiet=1, stripdir=str(root), prependdir="/"
        )


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _copy_tree(tree: Path) -> None:
    """The files that git has or would take, and what tests need built."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=TOP,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        # A deleted file is listed until its deletion is committed.
        if (TOP / name).is_file():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target)
    for name in _BUILT:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, tree / name, symlinks=True)
    for name in _XEN_FILES:
        source = TOP / _XEN / name
        if source.is_file():
            target = _made((tree / _XEN / name).parent) / source.name
            shutil.copy2(source, target)


def _write_environment(file: Path) -> None:
    # The installed suite, then what only tests import, then the tree.
    path = f"{_SCHEME['purelib']}:{TEST_TOOLS}:{TREE}"
    variables = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": path,
        "PYTHONSAFEPATH": "1",
    }
    for name in ("XENNER_REQUIRE", "TERM"):
        if name in os.environ:
            variables[name] = os.environ[name]
    file.write_text("".join(f"{k}={v}\n" for k, v in variables.items()))


def _pack(stage: Path) -> None:
    def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(stage / "all.tar", "w") as archive:
        archive.add(stage / "root", ".", filter=as_root)
        archive.add(stage / "tree", str(TREE.relative_to("/")), filter=as_root)

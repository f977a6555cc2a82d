# SPDX-License-Identifier: GPL-2.0-or-later
"""The build lists what there is, and installs what is needed."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.environments.programs import emu_sources
from tests.style.tree import TOP, project_files

_PACKAGES = (
    *("blkbackd", "evtchnd", "netbackd"),
    *("xenner", "xennerd", "xenstored"),
)


def test_every_emu_source_is_built() -> None:
    named = emu_sources("emu_portable", "emu_entry_half", "emu_assembly")
    there = {
        TOP / path
        for path in project_files()
        if path.parts[0] == "emu" and path.suffix in (".c", ".S")
    }
    # The linker script and the offsets go their own ways.
    own = {TOP / "emu/emu64.lds.S", TOP / "emu/offsets.c"}
    assert sorted(named) == sorted(there - own)


def test_one_version() -> None:
    """Of the build, of Python's package and of Debian's."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    built = re.search(r"version: '(.*)',", (TOP / "meson.build").read_text())
    packaged = re.match(
        r"xenner \((.*)\) ", (TOP / "debian/changelog").read_text()
    )
    assert built is not None
    assert packaged is not None
    assert built[1] == packaged[1] == project["version"]


def test_installation_is_whole(tmp_path: Path) -> None:
    """What `pip install` would put in place, from the build that is there."""
    meson = Path(sys.executable).with_name("meson")
    build = TOP / "build/meson"
    if not (build / "build.ninja").exists():
        pytest.skip("build: tools/setup was not run: no build/meson")
    # The ninja that has built it: another version's log has all built again.
    path = f"{meson.parent}:{os.environ['PATH']}"
    for words in (
        ["setup", "--reconfigure", str(TOP), str(build)],
        [
            "install",
            "-C",
            str(build),
            "--no-rebuild",
            "--destdir",
            str(tmp_path),
        ],
    ):
        subprocess.run(
            [meson, *words],
            check=True,
            capture_output=True,
            env={**os.environ, "PATH": path},
        )
    installed = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    packages = [
        path
        for path in project_files()
        if path.parts[0] in _PACKAGES and path.suffix == ".py"
    ]
    assert packages
    missing = [
        str(path) for path in packages if not list(tmp_path.rglob(str(path)))
    ]
    assert not missing
    assert "emu64" in installed
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    manual = {path.stem for path in tmp_path.rglob("man/man?/*")}
    assert manual >= project["scripts"].keys()
    assert {name.split(".")[0] for name in installed} >= {
        *("_abi", "_vcpu", "libxencall", "libxenevtchn"),
        *("libxenforeignmemory", "libxengnttab"),
    }
    # What else the build writes, for mypy and for Python.
    assert installed >= {
        *("_abi.pyi", "_constants.py", "_engine.pyi", "_vcpu.pyi"),
        "_xenstore.pyi",
    }


def test_debian_has_what_python_asks_for() -> None:
    """The package and the lab's root, by Debian's names for it."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    wanted = {
        "python3-" + re.split("[^a-z0-9_-]", each)[0].removesuffix("-python")
        for each in project["dependencies"]
    }
    control = (TOP / "debian/control").read_text()
    depends = re.search(
        r"^Package: xenner\n.*?^Depends: (.*?)^\S", control, re.M | re.S
    )
    assert depends is not None
    assert wanted <= set(re.findall(r"[a-z0-9-]+", depends[1]))
    assert wanted <= set((TOP / "lab/packages.txt").read_text().splitlines())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive is what cpio(1) and the kernel read."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.initramfs import BUSYBOX, make_initramfs

pytestmark = pytest.mark.skipif(
    not BUSYBOX.exists() or not shutil.which("cpio"),
    reason="tools: busybox-static and cpio are not installed",
)


def listing(archive: bytes, *options: str) -> list[str]:
    done = subprocess.run(
        ["cpio", "--quiet", "-t", *options],
        input=gzip.decompress(archive),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().splitlines()


def test_cpio_lists_every_member() -> None:
    archive = make_initramfs(b"#!/bin/sh\n", {"bin/payload": b"\x7fELF"})
    assert {
        "init",
        "bin/busybox",
        "bin/sh",
        "bin/payload",
        "dev/console",
    } <= set(listing(archive))


def test_directories_come_before_what_is_in_them() -> None:
    """The kernel makes none by itself (init/initramfs.c)."""
    files = {"lib/x86_64-linux-gnu/libc.so.6": b"", "lib64/ld.so": b""}
    names = listing(make_initramfs(b"", files))
    assert len(names) == len(set(names))
    for name in names:
        parent = name.rpartition("/")[0]
        assert not parent or names.index(parent) < names.index(name), name


def test_members_keep_their_contents(tmp_path: Path) -> None:
    # Lengths that are no multiple of the padding.
    extra = {f"bin/p{n}": bytes(range(n)) for n in (1, 2, 3, 5, 255)}
    archive = make_initramfs(b"#!/bin/sh\n", extra)
    subprocess.run(
        ["cpio", "--quiet", "-i", "-d", "bin/*", "init"],
        input=gzip.decompress(archive),
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    for name, contents in extra.items():
        assert (tmp_path / name).read_bytes() == contents
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/busybox").read_bytes() == BUSYBOX.read_bytes()


def test_console_is_a_device() -> None:
    rows = listing(make_initramfs(b"", {}), "-v")
    console = next(row for row in rows if row.endswith("dev/console"))
    assert console.startswith("crw-------")
    assert "5,   1" in console


def test_same_files_make_same_bytes() -> None:
    assert make_initramfs(b"a", {}) == make_initramfs(b"a", {})
    assert make_initramfs(b"a", {}) != make_initramfs(b"b", {})


def test_from_the_command_line(tmp_path: Path) -> None:
    init = tmp_path / "init.sh"
    init.write_bytes(b"#!/bin/sh\n")
    program = tmp_path / "program"
    program.write_bytes(b"12345")
    output = tmp_path / "initramfs.gz"
    subprocess.run(
        [sys.executable, "-m", "demo.initramfs", init, output, program],
        check=True,
    )
    assert output.read_bytes() == make_initramfs(
        b"#!/bin/sh\n", {"bin/program": b"12345"}
    )

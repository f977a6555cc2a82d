# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache saves time and does nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from xenner.errors import ConfigError
from xennerd.vm.boot import kernel as kernel_module
from xennerd.vm.boot.kernel import load_kernel
from xennerd.vm.boot.kernelcache import KernelCache, default_cache_dir


@pytest.fixture
def packed(kernels: Any, tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernels.bzimage(kernels.elf(), "xz"))
    return path


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.exists() else []


def test_second_load_unpacks_nothing(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = KernelCache(tmp_path / "cache")
    first = load_kernel(packed, cache=cache)
    (entry,) = _entries(tmp_path / "cache")
    assert entry.stat().st_mode & 0o777 == 0o600

    def no_unpacking(image: Any) -> Any:
        assert image[:4] == b"\x7fELF"
        return image

    monkeypatch.setattr(kernel_module, "unwrap_kernel", no_unpacking)
    second = load_kernel(packed, cache=cache)
    assert second == first
    assert second.segments[0].data == first.segments[0].data


def test_another_kernel_is_another_entry(
    packed: Path, tmp_path: Path, kernels: Any
) -> None:
    cache = KernelCache(tmp_path / "cache")
    load_kernel(packed, cache=cache)
    packed.write_bytes(kernels.bzimage(kernels.elf((999, b"x")), "xz"))
    load_kernel(packed, cache=cache)
    assert len(_entries(tmp_path / "cache")) == 2


def test_plain_kernels_are_not_kept(tmp_path: Path, kernels: Any) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernels.elf())
    load_kernel(path, cache=KernelCache(tmp_path / "cache"))
    assert _entries(tmp_path / "cache") == []


def test_bad_kernels_are_not_kept(tmp_path: Path, kernels: Any) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernels.bzimage(kernels.elf(pv=False)))
    with pytest.raises(ConfigError, match="not a Xen PV kernel"):
        load_kernel(path, cache=KernelCache(tmp_path / "cache"))
    assert _entries(tmp_path / "cache") == []


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", b"junk" * 99])
def test_damaged_entry_is_replaced(
    packed: Path, tmp_path: Path, damage: bytes
) -> None:
    cache = KernelCache(tmp_path / "cache")
    expected = load_kernel(packed, cache=cache)
    (entry,) = _entries(tmp_path / "cache")
    good = entry.read_bytes()
    entry.write_bytes(damage)
    assert load_kernel(packed, cache=cache) == expected
    (entry,) = _entries(tmp_path / "cache")
    assert entry.read_bytes() == good


def test_only_a_few_are_kept(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "cache")
    for number in range(9):
        assert cache.store(b"%d" % number, b"\x7fELF%d" % number)
    assert len(_entries(tmp_path / "cache")) == 4
    assert cache.find(b"8") is not None
    assert cache.find(b"0") is None


def test_what_others_can_write_is_not_believed(
    packed: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "cache"
    cache = KernelCache(directory)
    load_kernel(packed, cache=cache)
    image = packed.read_bytes()
    kept = cache.find(image)
    assert kept is not None
    directory.chmod(0o777)
    assert cache.find(image) is None
    assert not cache.store(b"x", b"y")
    directory.chmod(0o700)
    _entries(directory)[0].chmod(0o666)
    assert cache.find(image) is None


def test_unusable_directory(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = KernelCache(tmp_path / "file" / "cache")
    assert load_kernel(packed, cache=cache) == load_kernel(packed)


def test_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_cache_dir() == Path("/var/cache/xenner")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/.cache")
    assert default_cache_dir() == Path("/home/me/.cache/xenner")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/xenner/vm")
    assert default_cache_dir() == Path("/var/cache/xenner/vm")

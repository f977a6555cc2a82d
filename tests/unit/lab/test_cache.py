# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's cache: made once, never half, and not without end."""

import os
from pathlib import Path

import pytest

from lab.cache import cache_directory, find_or_make, key_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XENNER_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_is_made_once() -> None:
    made: list[Path] = []

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "file").write_text("contents")

    entry = find_or_make("thing", "k1", make)
    assert (entry / "file").read_text() == "contents"
    assert find_or_make("thing", "k1", make) == entry
    assert len(made) == 1


def test_what_failed_is_not_found_and_is_made_anew(cache: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError):
        find_or_make("thing", "k1", fail)
    assert not (cache / "thing-k1").exists()
    entry = find_or_make("thing", "k1", lambda _: None)
    assert not list(entry.iterdir())


def test_two_of_a_kind_are_kept_by_last_use(cache: Path) -> None:
    for age, key in enumerate(("old", "used", "new")):
        entry = find_or_make("thing", key, lambda _: None)
        os.utime(entry, (1000 + age, 1000 + age))
        if key == "used":
            find_or_make("other", "x", lambda _: None)
    # Both were used before the next one is made.
    find_or_make("thing", "newest", lambda _: None)
    left = {path.name for path in cache.glob("thing-*")}
    assert left == {"thing-new", "thing-newest"}
    assert (cache / "other-x").is_dir()


def test_key_is_of_contents_and_their_bounds(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("ab")
    assert key_of([file, "c"]) == key_of(["ab", "c"])
    assert key_of(["ab", "c"]) != key_of(["a", "bc"])
    assert len(key_of([])) == 16


def test_directory_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XENNER_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_directory() == Path("/x/xenner-lab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/user")
    assert cache_directory() == Path("/home/user/.cache/xenner-lab")

# SPDX-License-Identifier: GPL-2.0-or-later
import os
from pathlib import Path

import pytest

from xenner import paths
from xenner.errors import HostError
from xenner.paths import Paths, check_runtime_dir, make_runtime_dir
from xenner.types import Domid

NOBODY = 65534


def test_what_the_environment_says() -> None:
    found = Paths.of(
        {
            "XENNER_RUNTIME_DIR": "/r",
            "XENSTORED_PATH": "/x",
            "XENNER_LOG_DIR": "/l",
        }
    )
    assert found == Paths(Path("/r"), Path("/x"), log_dir=Path("/l"))
    assert found.evtchnd == Path("/r/evtchnd.socket")
    assert found.xennerd == Path("/r/xennerd.socket")
    assert found.backend("blkbackd") == Path("/r/blkbackd.socket")
    assert found.vmcore(Domid(7)) == Path("/r/vmcore.7")
    assert found.monitor(Domid(7)) == Path("/r/monitor.7")
    assert found.console(Domid(7)) == Path("/r/console.7")


def test_what_is_given_wins() -> None:
    environment = {"XENNER_RUNTIME_DIR": "/r", "XENSTORED_PATH": "/x"}
    found = Paths.of(environment, runtime_dir=Path("/g"), xenstore=Path("/h"))
    assert found == Paths(Path("/g"), Path("/h"))


def test_xenstore_as_xens_library_has_it() -> None:
    assert paths.xenstore_of({}) == Path("/run/xenstored/socket")
    assert paths.xenstore_of({"XENSTORED_RUNDIR": "/x"}) == Path("/x/socket")


@pytest.mark.parametrize(
    ("tmpfs", "expected"),
    [
        ({"/run", "/dev/shm"}, "/run/xenner"),
        ({"/run"}, "/run/xenner"),
        ({"/dev/shm"}, "/dev/shm/xenner"),
        (set(), "/run/xenner"),
    ],
)
def test_where_memory_is(
    tmpfs: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_is_tmpfs", lambda path: str(path) in tmpfs)
    assert str(paths.runtime_dir_of({})) == expected
    # Set to nothing is not set.
    assert str(paths.runtime_dir_of({"XENNER_RUNTIME_DIR": ""})) == expected


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "xenner"
    monkeypatch.setattr(paths, "SHARED_MEMORY_DIR", path)
    return path


def test_what_others_may_have_made(shared: Path) -> None:
    check_runtime_dir(shared)
    make_runtime_dir(shared)
    make_runtime_dir(shared)
    # A group that serves domains may write.
    shared.chmod(0o2775)
    check_runtime_dir(shared)
    shared.chmod(0o1777)
    for look in (check_runtime_dir, make_runtime_dir):
        with pytest.raises(HostError, match="everybody may write"):
            look(shared)


def test_a_link_is_no_directory(shared: Path, tmp_path: Path) -> None:
    shared.symlink_to(tmp_path)
    with pytest.raises(HostError, match="is no directory"):
        make_runtime_dir(shared)


@pytest.mark.skipif(os.geteuid() != 0, reason="root: gives a directory away")
def test_somebody_elses(shared: Path) -> None:
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    with pytest.raises(HostError, match=f"belongs to user {NOBODY}"):
        make_runtime_dir(shared)
    # Who names another one knows whose it is.
    os.chown(shared.parent, NOBODY, NOBODY)
    check_runtime_dir(shared.parent)

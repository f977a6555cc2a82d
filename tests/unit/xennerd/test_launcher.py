# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests as units, with a systemctl that writes down what it is asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.xennerd.samples import RECORD
from xenner.errors import HostError
from xenner.journal import Line, Subject
from xenner.paths import Paths
from xennerd.domain.pausing import is_pause_requested, pause_path
from xennerd.domain.records import write_record
from xennerd.supervisor.launcher import StartRequest, SystemdLauncher
from xennerd.supervisor.programs import environment
from xennerd.units.manager import Outcome, Systemd

_SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> {directory}/asked
ls {directory}/run/config >> {directory}/beside 2>/dev/null
cat {directory}/answer 2>/dev/null
exit $(cat {directory}/status 2>/dev/null || echo 0)
"""


class Rig:
    """A host whose systemd is a script."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bin").mkdir()
        program = directory / "bin/systemctl"
        program.write_text(_SYSTEMCTL.format(directory=directory))
        program.chmod(0o755)
        for name in ("etc", "run"):
            (directory / name).mkdir()
        paths = Paths(directory / "run", directory / "xs")
        self.launcher = SystemdLauncher(
            paths, Systemd(), config_dir=directory / "etc"
        )

    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()

    def started(self) -> list[str]:
        return [line for line in self.asked() if line.startswith("start ")]

    def file(self, name: str) -> Path:
        path = self.directory / name
        path.write_text("name='web'\nmemory=64\n")
        return path


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Rig(tmp_path)


def test_an_operators_file_is_its_unit(rig: Rig) -> None:
    rig.launcher.start(StartRequest("web", rig.file("etc/7.cfg")))
    assert rig.started() == ["start xenner@7.service"]
    assert not (rig.directory / "run/config").exists()


class Ending:
    """A service manager that has not yet seen the last of a guest."""

    def __init__(self) -> None:
        self._states = iter(("active", "deactivating", "failed"))
        self.asked: list[str] = []

    def start(self, instance: str) -> None:
        self.asked.append(f"start {instance}")

    def outcome(self, instance: str) -> Outcome:
        state = next(self._states)
        self.asked.append(state)
        return Outcome(state, "signal")

    def log_event(self, instance: str, subject: Subject, line: Line) -> None:
        raise AssertionError(line)


def test_one_that_is_still_ending_is_waited_for(rig: Rig) -> None:
    units = Ending()
    paths = Paths(rig.directory / "run", rig.directory)
    launcher = SystemdLauncher(paths, units, config_dir=rig.directory / "etc")
    launcher.start(StartRequest("web", rig.file("etc/7.cfg")))
    assert units.asked == ["active", "deactivating", "failed", "start 7"]


def test_any_other_file_is_written_down_for_a_unit(rig: Rig) -> None:
    request = StartRequest(
        "web", rig.file("a.cfg"), "memory=32", is_paused=True
    )
    rig.launcher.start(request)
    assert rig.started() == ["start xenner@web.service"]
    own = rig.directory / "run/config/web.cfg"
    assert own.read_text() == "name='web'\nmemory=64\n\nmemory=32\n"
    # The wish was there for as long as the unit started.
    assert "web.paused\n" in (rig.directory / "beside").read_text()
    assert [path.name for path in own.parent.iterdir()] == ["web.cfg"]
    # Started again, it is what stands there already.
    rig.launcher.start(StartRequest("web", own))
    assert rig.started()[1:] == ["start xenner@web.service"]
    rig.launcher.forget(replace(RECORD, unit="xenner@web.service"))
    assert not own.exists()
    rig.launcher.forget(RECORD)


class Late(Ending):
    """It sees the end of the guest before when the next one is ordered."""

    def __init__(self, forget: Callable[[], None], file: Path) -> None:
        super().__init__()
        self._forget, self._file = forget, file

    def start(self, instance: str) -> None:
        self._forget()
        assert self._file.exists()


def test_one_whose_name_is_the_next_ones_already(rig: Rig) -> None:
    """Who forgets it late does not take the next one's file away."""
    run = rig.directory / "run"
    file = run / "config/web.cfg"
    before = replace(RECORD, unit="xenner@web.service")
    paths = Paths(run, rig.directory)
    units = Late(lambda: launcher.forget(before), file)
    launcher = SystemdLauncher(paths, units, config_dir=rig.directory / "etc")
    launcher.start(StartRequest("web", rig.file("a.cfg")))
    write_record(run, replace(before, pid=before.pid + 1))
    launcher.forget(before)
    assert file.exists()
    launcher.forget(replace(before, pid=before.pid + 1))
    assert not file.exists()


class Starting(Ending):
    """It looks, as the start of a unit does, whether it is to pause."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.found: list[bool] = []

    def start(self, instance: str) -> None:
        self.found.append(is_pause_requested(self._path))

    def outcome(self, instance: str) -> Outcome:
        return Outcome("failed", "signal")


def test_a_pause_is_asked_of_one_start(rig: Rig) -> None:
    paths = Paths(rig.directory / "run", rig.directory)
    path = pause_path(paths.runtime_dir, "7")
    units = Starting(path)
    launcher = SystemdLauncher(paths, units, config_dir=rig.directory / "etc")
    request = StartRequest("web", rig.file("etc/7.cfg"))
    launcher.start(replace(request, is_paused=True))
    assert units.found == [True]
    assert not path.exists()
    # An xennerd that was killed has left it, and nobody asks any more.
    path.touch()
    launcher.start(request)
    assert units.found == [True, False]
    launcher.start(replace(request, is_paused=True))
    assert units.found == [True, False, True]


def test_a_pause_that_cannot_be_asked_for(rig: Rig) -> None:
    (rig.directory / "run/config").touch()
    request = StartRequest("web", rig.file("etc/7.cfg"), is_paused=True)
    with pytest.raises(HostError, match=r"7\.paused: "):
        rig.launcher.start(request)
    assert rig.started() == []


def test_a_new_name_goes_on_in_its_unit(rig: Rig) -> None:
    """As one that reboots does: nobody who stops that unit is mistaken."""
    etc = rig.file("etc/7.cfg")
    unit = "xenner@7.service"
    rig.launcher.start(StartRequest("shop", etc, "name='shop'", unit=unit))
    assert rig.started() == ["start xenner@7.service"]
    assert not (rig.directory / "run/config").exists()


def test_a_unit_whose_file_is_gone(rig: Rig) -> None:
    """No unit starts without one; what it is started from is in its record."""
    request = StartRequest(
        "web",
        rig.directory / "etc/7.cfg",
        "memory=32",
        text="name='web'",
        unit="xenner@7.service",
        is_restart=True,
    )
    rig.launcher.start(request)
    assert rig.started() == ["start xenner@7.service"]
    own = rig.directory / "run/config/7.cfg"
    assert own.read_text() == "name='web'\nmemory=32\n"
    own.unlink()
    rig.file("etc/7.cfg")
    rig.launcher.start(request)
    assert not own.exists()


def test_a_name_whose_unit_another_still_has(rig: Rig) -> None:
    """It was called web when it was started."""
    rig.launcher.start(StartRequest("web", rig.file("a.cfg")))
    own = rig.directory / "run/config"
    before = (own / "web.cfg").read_text()
    unit = "xenner@web.service"
    renamed = replace(RECORD, name="shop", unit=unit, file="/a", end="")
    write_record(rig.directory / "run", renamed)
    rig.launcher.start(StartRequest("web", rig.file("b.cfg"), "memory=32"))
    assert rig.started()[1:] == ["start xenner@web.2.service"]
    assert (own / "web.cfg").read_text() == before
    rig.launcher.forget(renamed)
    assert [path.name for path in own.iterdir()] == ["web.2.cfg"]


def test_what_its_file_says_may_be_known(rig: Rig) -> None:
    text = "name='web'\nmemory=96\n"
    rig.launcher.start(
        StartRequest("web", rig.directory / "none.cfg", text=text)
    )
    own = rig.directory / "run/config/web.cfg"
    assert own.read_text() == f"{text}\n\n"


def test_settings_make_it_another_one(rig: Rig) -> None:
    rig.launcher.start(StartRequest("web", rig.file("etc/7.cfg"), "memory=32"))
    assert rig.started() == ["start xenner@web.service"]


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("t~x", "t\\x7ex"),
        ("-a", "\\x2da"),
        (".a", "\\x2ea"),
        ("a@b", "a\\x40b"),
        ("a\\b", "a\\x5cb"),
        ("\u00e4", "\\xc3\\xa4"),
        ("web-2.x", "web-2.x"),
    ],
)
def test_any_name_is_a_unit_s(rig: Rig, name: str, instance: str) -> None:
    """As systemd-escape(1) has it, but for hyphens."""
    rig.launcher.start(StartRequest(name, rig.file("a.cfg")))
    assert rig.started() == [f"start xenner@{instance}.service"]
    assert (rig.directory / f"run/config/{instance}.cfg").exists()


def test_no_name_is_no_unit_s(rig: Rig) -> None:
    with pytest.raises(HostError, match="no unit can have such a name"):
        rig.launcher.start(StartRequest("", rig.file("a.cfg")))


def test_a_name_that_is_anothers(rig: Rig) -> None:
    rig.file("etc/web.cfg")
    with pytest.raises(HostError, match=r"is the guest of .*etc/web\.cfg"):
        rig.launcher.start(StartRequest("web", rig.file("a.cfg")))


def test_a_unit_that_does_not_start(rig: Rig) -> None:
    (rig.directory / "status").write_text("1")
    with pytest.raises(HostError, match="journalctl -u xenner@7"):
        rig.launcher.start(StartRequest("web", rig.file("etc/7.cfg")))


@pytest.mark.parametrize(
    ("answer", "was_stop_requested"),
    [
        ("Result=timeout\nActiveState=failed", True),
        ("Result=success\nActiveState=inactive", True),
        ("Result=signal\nActiveState=failed", False),
        ("Result=oom-kill\nActiveState=failed", False),
        ("Result=watchdog\nActiveState=failed", False),
    ],
)
def test_who_killed_it(rig: Rig, answer: str, was_stop_requested: bool) -> None:
    (rig.directory / "answer").write_text(answer)
    assert rig.launcher.was_stop_requested(RECORD) is was_stop_requested
    assert rig.asked() == ["show -pActiveState,Result xenner@7.service"]


def test_where_the_daemons_look(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "run", tmp_path / "xs")
    (tmp_path / "libxenevtchn.so.1").touch()
    inherited = {
        "LD_LIBRARY_PATH": f"/none:{tmp_path}",
        "NOTIFY_SOCKET": "/ours",
        "PATH": "/bin",
    }
    assert environment(paths, inherited) == {
        "LD_LIBRARY_PATH": f"/none:{tmp_path}",
        "PATH": "/bin",
        "XENNER_RUNTIME_DIR": str(tmp_path / "run"),
        "XENSTORED_PATH": str(tmp_path / "xs"),
    }


class StartingHelper(Systemd):
    """One that is not there yet when it is asked first."""

    is_there = False

    def outcome(self, instance: str) -> Outcome:
        if not self.is_there:
            self.is_there = True
            raise HostError("xenner-units closed the connection")
        return Outcome("failed", "timeout")


def test_who_is_asked_may_be_starting(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "run", tmp_path / "xs")
    assert SystemdLauncher(paths, StartingHelper()).was_stop_requested(RECORD)

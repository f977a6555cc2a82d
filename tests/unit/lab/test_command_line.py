# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m lab`: its options and exit statuses."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import __main__ as command_line
from lab.errors import LabError, TimeLimitError


class MadeUp:
    """A lab whose command does what the test says."""

    def __init__(self, outcome: int | LabError) -> None:
        self.outcome = outcome
        self.asked: list[tuple[str, float]] = []

    def run(self, command: str, *, limit_s: float) -> int:
        self.asked.append((command, limit_s))
        if isinstance(self.outcome, LabError):
            raise self.outcome
        return self.outcome

    def shell(self, command: str) -> int:
        return self.run(command, limit_s=0)


def call(
    monkeypatch: pytest.MonkeyPatch, lab: MadeUp, *arguments: str
) -> tuple[int, list[str]]:
    places: list[str] = []

    @contextmanager
    def start(where: str, *, out: Path) -> Iterator[MadeUp]:
        assert out.is_dir()
        assert not list(out.iterdir())
        places.append(where)
        yield lab

    monkeypatch.setattr(command_line, "start_lab", start)
    monkeypatch.setattr(sys, "argv", ["lab", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return command_line.main(), places


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (0, 0, ""),
        (7, 7, ""),
        (LabError("the machine ended"), 125, "lab: the machine ended\n"),
        (TimeLimitError("no end in 9 s"), 124, "lab: no end in 9 s\n"),
    ],
)
def test_status_tells_the_commands_from_the_labs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    outcome: int | LabError,
    status: int,
    message: str,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "left from before").touch()
    lab = MadeUp(outcome)
    options = ["--out", str(out), "--limit-s", "9", "--where", "container"]
    result = call(monkeypatch, lab, "run", *options, "--", "ls; false")
    assert result == (status, ["container"])
    assert lab.asked == [("ls; false", 9.0)]
    assert capsys.readouterr().err == message


def test_no_command_is_a_mistake_of_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, MadeUp(0), "run", "--", " ") == (2, [])
    assert "no command" in capsys.readouterr().err


def test_shell_is_bash_in_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = MadeUp(0)
    call(monkeypatch, lab, "shell", "--out", str(tmp_path / "out"))
    assert lab.asked == [("exec bash", 0)]

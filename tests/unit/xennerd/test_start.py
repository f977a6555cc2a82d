# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner-start`: what it refuses in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xennerd.domain.records import write_record
from xennerd.domain.start import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "web.cfg"
    path.write_text("name = 'web'\nkernel = '/nowhere'\n")
    return path


@pytest.mark.parametrize("domid", ["0", "-1", "32752", "99999"])
def test_a_domid_that_no_domain_can_have(
    domid: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = tmp_path / "runtime"
    words = [f"--domid={domid}", f"--runtime-dir={runtime}", str(file)]
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"xenner-start: domid {domid}: must be 1 to 32751"
    )
    assert not list(runtime.iterdir())


def test_a_runtime_directory_that_is_none(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["--domid=5"]):
        assert main([*words, f"--runtime-dir={file}", str(file)]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"xenner-start: cannot use the runtime directory {file}: "
            "File exists"
        )


@pytest.mark.parametrize("unit", ["web.service", "xenner@.service", "xenner@"])
def test_a_unit_that_is_no_guests(
    unit: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--runtime-dir={tmp_path}", f"--unit={unit}", str(file)]
    assert main(words) == 2
    said = f"xenner-start: --unit {unit}: no unit of a guest\n"
    assert capsys.readouterr().err == said


def test_a_unit_is_written_down(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by one that goes on in its process, whose words say nothing of it:
    what ran there before it was updated knew no --unit."""
    found = []

    def run_session(*_options: object, lifecycle: Any, **_more: object) -> int:
        found.append(lifecycle.record)
        return 0

    monkeypatch.setattr("xennerd.domain.start.run_session", run_session)
    runtime = tmp_path / "runtime"
    unit = r"xenner@t\x7e.service"
    words = [f"--runtime-dir={runtime}", "--domid=5"]
    assert main([*words, f"--unit={unit}", str(file)]) == 0
    write_record(runtime, found[0])
    assert main([*words, "--again", str(file)]) == 0
    # By hand, after another process that was killed.
    write_record(runtime, replace(found[0], pid=1))
    assert main([*words, "--again", str(file)]) == 0
    assert [record.unit for record in found] == [unit, unit, ""]

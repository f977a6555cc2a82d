# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner-start`: what it refuses in one line."""

from pathlib import Path

import pytest

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

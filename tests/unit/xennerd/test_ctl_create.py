# SPDX-License-Identifier: GPL-2.0-or-later
"""`xennerctl create` as far as nothing is started."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from xennerd.ctl.__main__ import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "web.cfg"
    path.write_text(
        "name='web'\nkernel='/k'\nmemory=64\nvcpus=2\n"
        "disk=['/a,raw,xvda,w']\nvif=['bridge=b']\n"
    )
    return path


def test_a_dry_run_shows_what_is_read(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "-n", str(file), "memory=96"]) == 0
    out, err = capsys.readouterr()
    assert err == f"Parsing config from {file}\n"
    shown = json.loads(out)
    assert shown["c_info"]["name"] == "web"
    assert shown["b_info"]["max_memkb"] == 96 << 10
    assert shown["b_info"]["avail_vcpus"] == [0, 1]
    assert shown["disks"][0]["pdev_path"] == "/a"
    assert re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", shown["nics"][0]["mac"])


def test_a_name_as_xendomains_takes_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a line of its own, with a comma behind it."""
    words = ["create", "--quiet", "--dryrun", "--defconfig", str(file)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [re.fullmatch(r'.*"name": "(.*)",', x) for x in out.splitlines()]
    assert [match[1] for match in lines if match] == ["web"]


@pytest.mark.parametrize(
    "words",
    [
        ["FILE", "memory=96"],
        ["memory=96", "FILE"],
        ["-f", "FILE", "memory=96"],
        ["memory=96", "--defconfig=FILE"],
        ["/dev/null", "name='web'", "kernel='/k'", "memory=96"],
        ["name='web'", "kernel='/k'", "memory=96"],
        ["-pqFeAV", "FILE", "-i", "memory=96"],
        ["FILE", "--vncviewer", "--vncviewer-autopass", "memory=96"],
        ["--ignore-global-affinity-masks", "FILE", "memory=1", "memory=96"],
    ],
)
def test_words_in_any_order(
    words: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("FILE", str(file)) for word in words]
    assert main(["create", "--dryrun", *given]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["c_info"]["name"] == "web"
    assert shown["b_info"]["target_memkb"] == 96 << 10


def test_debugging_shows_it_on_standard_error(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "-d", "-n", "-q", str(file)]) == 0
    # A dry run is for programs.
    assert json.loads(capsys.readouterr().out)["c_info"]["name"] == "web"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "which file?"),
        (["a.cfg", "b.cfg"], "b.cfg: a file is given already, a.cfg"),
        (["-f", "a.cfg", "b.cfg"], "b.cfg: a file is given already, a.cfg"),
    ],
)
def test_one_file(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["create", *words])
    assert end.value.code == 2
    assert why in capsys.readouterr().err


def test_settings_alone_need_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "/dev/null", "kernel='/k'"]) == 2
    assert "no name" in capsys.readouterr().err


def test_latin_1_is_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a comment nobody minds, and a path is what stands there."""
    file = tmp_path / "a.cfg"
    file.write_bytes(b"# caf\xe9\nname='a'\nkernel='/caf\xe9'\n")
    assert main(["create", "-n", "-q", str(file)]) == 0
    kernel = json.loads(capsys.readouterr().out)["b_info"]["kernel"]
    assert kernel.encode(errors="surrogateescape") == b"/caf\xe9"

# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerctl's commands are found, and `check` reads files."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest

from xenner.errors import ConfigError
from xenner.xlcfg import parse_config
from xennerd.ctl.__main__ import COMMANDS, main
from xennerd.ctl.command import Command, find_command
from xennerd.ctl.creating import from_here
from xennerd.ctl.unsupported import REASONS

NAMES = ("list", "shutdown", "sched-credit", "sched-credit2", "save")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("list", "list"),
        ("l", "list"),
        ("sh", "shutdown"),
        ("sched-credit", "sched-credit"),
    ],
)
def test_unique_beginnings_are_enough(name: str, wanted: str) -> None:
    assert find_command(name, NAMES) == wanted


@pytest.mark.parametrize("name", ["", "s", "sched", "nothing"])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        find_command(name, NAMES)


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "7.cfg"
    file.write_text("name='web'\nkernel='/k'\ncolour='red'\n")
    assert main(["-v", "check", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}: web: 32 MiB, 1 vCPUs, 0 disks, 0 interfaces\n"
    assert err == f"warning: {file}:3: colour: an unknown key\n"
    assert main(["check", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "web"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"name='web'\nmemory=", ":2: a value"),
        (b"\xff", ":1: "),
        (None, ": No such file or directory"),
    ],
)
def test_check_names_file_and_line(
    content: bytes | None,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "a.cfg"
    if content is not None:
        file.write_bytes(content)
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"xennerctl: {file}{complaint}")


def test_help_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    assert " check " in capsys.readouterr().out
    assert main(["help", "check"]) == 0
    assert "[--json] FILE" in capsys.readouterr().out
    assert main(["frobnicate"]) == 1
    assert capsys.readouterr().err == "xennerctl: command not implemented\n"
    assert main([]) == 1


@pytest.mark.parametrize("word", ["migrate", "sched-credit2", "vcpu-p", "dme"])
def test_what_xl_has_and_we_have_not(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "web"]) == 1
    assert main(["help", word]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert all(
        line.startswith(f"xennerctl: {word}") for line in err.splitlines()
    )
    assert main(["help"]) == 0
    assert word not in capsys.readouterr().out


def test_no_command_is_both_there_and_absent() -> None:
    assert not COMMANDS.keys() & REASONS.keys()


def test_through_a_link_it_is_xl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/local/sbin/xl", "help"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("Usage xl [-v]")
    monkeypatch.setattr("sys.argv", ["/usr/local/sbin/xl", "nothing"])
    assert main() == 1
    assert capsys.readouterr().err == "xl: command not implemented\n"


def test_usage_is_of_what_it_was_called_as(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/local/sbin/xl", "pause"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: xl pause ")


def test_a_kernel_is_looked_for_from_here() -> None:
    text = "name='a'\nkernel='boot/it\\'s'\nramdisk='/r'\n"
    config = parse_config(text, file="f")
    here = Path("/srv/guests")
    (setting,) = from_here(config, here)
    again = parse_config(text, file="f", extra=setting)
    assert (again.kernel, again.ramdisk) == ("/srv/guests/boot/it's", "/r")
    assert list(from_here(again, here)) == []


def test_who_may_not_look_is_told_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vmcore = tmp_path / "vmcore.3"
    # Root may open all but this.
    vmcore.symlink_to(vmcore)
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(tmp_path))
    assert main(["list"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"xennerctl: {vmcore}: ")
    assert err.endswith(" (for root and members of the group xenner)\n")


def test_where_no_daemon_runs_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XENNER_RUNTIME_DIR", str(tmp_path))
    file = tmp_path / "7.cfg"
    file.write_text("name='web'\nkernel='/k'\n")
    assert main(["create", "-q", str(file)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"xennerctl: xennerd at {tmp_path}/xennerd.socket: ")
    assert "(systemctl start xennerd, or " in err
    assert err.count("\n") == 1


def test_who_interrupts_it_sees_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_arguments: Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "list", Command(interrupted, None, ""))
    assert main(["list"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xennerd.ctl", "help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_check_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "xenner.toml"
    assert main(["check-config", str(file)]) == 2
    assert "there is no such file" in capsys.readouterr().err
    file.write_text("[log]\nlevel = 'error'\n")
    assert main(["check-config", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["log"] == {"level": "error"}
    file.write_text("[log]\ncolour = 'red'\n")
    assert main(["check-config", str(file)]) == 2
    err = capsys.readouterr().err
    assert err == f"xennerctl: {file}:2: log.colour: unknown; there are level\n"


@pytest.mark.parametrize("name", ["pipe", "null", "long"])
def test_what_is_no_domain_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Nobody waits for it, or has it in memory."""
    path = tmp_path / name
    complaint = "not a plain file"
    if name == "pipe":
        os.mkfifo(path)
    elif name == "null":
        path = Path("/dev/zero")
    else:
        path.write_text("#" * (300 << 10))
        complaint = "more than 256 KiB: no domain file"
    good = tmp_path / "good.cfg"
    good.write_text("kernel='/k'\r\nmemory=64\r\n")
    assert main(["check", str(path), str(good)]) == 2
    out, err = capsys.readouterr()
    assert err == f"xennerctl: {path}: {complaint}\n"
    # What follows is read all the same.
    assert out == f"{good}: good: 64 MiB, 1 vCPUs, 0 disks, 0 interfaces\n"
    assert main(["check", "--json", str(good), str(path), str(good)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [config["memory_mib"] for config in found] == [64, 64]


@pytest.mark.parametrize(
    "words", [("-n", "FILE", "-q", "memory=5"), ("FILE", "-qn", "memory=5")]
)
def test_options_may_stand_anywhere(
    tmp_path: Path, words: Sequence[str]
) -> None:
    file = tmp_path / "web.cfg"
    file.write_text("kernel='/k'\n")
    words = [str(file) if word == "FILE" else word for word in words]
    assert main(["create", *words]) == 0


@pytest.mark.parametrize(
    ("target", "status", "complaint"),
    [
        (">/dev/full", 1, "xennerctl: [Errno 28] No space left on device\n"),
        (">&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written(
    target: str, status: int, complaint: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m xennerd.ctl help {target}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, complaint)

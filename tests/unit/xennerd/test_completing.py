# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell offers after what has been typed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from xennerd.ctl.__main__ import COMMANDS, main
from xennerd.ctl.completing import candidates

ZSH = Path(__file__).resolve().parents[3] / "xennerd/ctl/xennerctl.zsh"
SCRIPT = Path(__file__).resolve().parents[3] / "xennerd/ctl/xennerctl.bash"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["shu"], ["shutdown"]),
        (["block-"], ["block-attach", "block-detach", "block-list"]),
        (["destroy", ""], ["shop", "web"]),
        (["destroy", "w"], ["web"]),
        (["shutdown", "-w", "s"], ["shop"]),
        (["shutdown", "-w", "web", "s"], ["shop"]),
        (["shutdown", "--"], ["--all", "--help", "--wait"]),
        (["shutdown", "--a"], ["--all"]),
        (["dump-core", "web", ""], []),
        (["list", "--j"], ["--json"]),
        (["create", ""], []),
        (["create", "-f", ""], []),
        (["console", "-n", "0", ""], ["shop", "web"]),
        (["console", "-n", ""], []),
        (["console", "-t", ""], ["pv"]),
        (["console", "web", ""], []),
        (["nothing", ""], []),
    ],
)
def test_candidates(typed: list[str], found: list[str]) -> None:
    names = ["web", "shop"]
    assert candidates(typed, COMMANDS, names=lambda: names) == found


def test_nothing_typed_is_every_command() -> None:
    assert candidates([], COMMANDS, names=list) == sorted(COMMANDS)


def test_commands_that_take_a_domain_offer_them() -> None:
    of_none = {"create", "check", "check-config", "complete", "info", "top"}
    for name in COMMANDS:
        found = candidates([name, ""], COMMANDS, names=lambda: ["web"])
        assert found == ([] if name in of_none else ["web"]), name


def test_complete_takes_options_as_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["complete", "shutdown", "--a"]) == 0
    assert capsys.readouterr().out == "--all\n"


def test_bash_offers_it(tmp_path: Path) -> None:
    program = tmp_path / "xennerctl"
    program.write_text('#!/bin/sh\nprintf "%s\\n" $# "$1" "$2" two\\ words\n')
    program.chmod(0o755)
    done = subprocess.run(
        [
            *("bash", "-c"),
            f"source {SCRIPT}; COMP_WORDS=(xennerctl list '' more); "
            f"COMP_CWORD=2; _xennerctl {program}; "
            "printf '<%s>' \"${COMPREPLY[@]}\"",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "<3><complete><list><two words>"


def test_bash_does_so_for_xl_too() -> None:
    done = subprocess.run(
        ["bash", "-c", f"source {SCRIPT}; complete -p xl xennerctl"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        *("complete -F _xennerctl xl", "complete -F _xennerctl xennerctl"),
    ]


@pytest.mark.parametrize(
    ("word", "offered"),
    [("''", "<3><complete><list><two words>"), ("none", "files")],
)
def test_zsh_offers_it(tmp_path: Path, word: str, offered: str) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("packages: zsh is not installed")
    program = tmp_path / "xennerctl"
    program.write_text(
        '#!/bin/sh\n[ "$3" = none ] || '
        'printf "%s\\n" $# "$1" "$2" two\\ words\n'
    )
    program.chmod(0o755)
    shutil.copy(ZSH, tmp_path / "_xennerctl")
    done = subprocess.run(
        [
            *("zsh", "-f", "-c"),
            # In its own words, as far as it is asked here.
            'compadd() { printf "<%s>" "${(@P)2}" }; _files() { printf files };'
            f" fpath=({tmp_path}); autoload -U _xennerctl;"
            f" words=({program} list {word} more); CURRENT=3; _xennerctl",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == offered


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_offered_and_in_the_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offered = candidates([name, "-"], COMMANDS, names=list)
    if name == "complete":
        assert offered == ["--help", "-h"]
        return
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out
    rows = re.findall(r"(?m)^  (-.*?)(?:  |$)", shown)
    found = re.findall(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*", " ".join(rows))
    assert sorted(found) == offered
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == shown
    assert f"{COMMANDS[name].summary}." in " ".join(shown.split())

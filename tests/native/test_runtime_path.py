# SPDX-License-Identifier: GPL-2.0-or-later
"""libs/client and xenner/paths.py look for domains in one and the same place,
and neither in one that somebody else has made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.compiling import EXTRA_FLAGS
from tests.support.runtimedirs import without_run

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
FLAGS = [
    *EXTRA_FLAGS,
    *"-std=gnu11 -O1 -g -Wall -Wextra -Werror -D_GNU_SOURCE".split(),
    *"-fsanitize=address,undefined -fno-sanitize-recover=all".split(),
]
_OURS = """\
import os
from xenner.paths import Paths
from xenner.types import Domid
print(Paths.of(os.environ).vmcore(Domid(7)))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("c") / "runtime_path"
    sources = (HERE / "runtime_path.c", TOP / "libs/client/paths.c")
    subprocess.run(
        ["gcc", *FLAGS, f"-I{TOP}", *map(str, sources), "-o", str(binary)],
        check=True,
        timeout=120,
    )
    return binary


def _both(program: Path, environment: dict[str, str], state: str = "") -> str:
    """What C says; Python says the same, or refuses as well."""
    inherited = dict(os.environ)
    inherited.pop("XENNER_RUNTIME_DIR", None)
    said = []
    for words in ([str(program)], [sys.executable, "-c", _OURS]):
        done = subprocess.run(
            without_run(state, words) if state else words,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=TOP,
            env={**inherited, **environment},
        )
        said.append(done.stdout.strip() or done.stderr.strip())
    c, python = said
    assert python == c or ("HostError: " in python and c == "EPERM")
    return c


def test_here(program: Path) -> None:
    assert _both(program, {}) in (
        *("/run/xenner/vmcore.7", "/dev/shm/xenner/vmcore.7"),
        *("ENOENT", "EPERM"),
    )
    assert _both(program, {"XENNER_RUNTIME_DIR": "/r"}) == "/r/vmcore.7"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ours", "/dev/shm/xenner/vmcore.7"),
        ("the group's", "/dev/shm/xenner/vmcore.7"),
        ("another's", "EPERM"),
        ("everybody's", "EPERM"),
        ("a link", "EPERM"),
    ],
)
def test_where_run_is_no_tmpfs(
    program: Path, state: str, expected: str
) -> None:
    assert _both(program, {}, state) == expected
    named = {"XENNER_RUNTIME_DIR": "/r"}
    assert _both(program, named, state) == "/r/vmcore.7"


def test_one_that_is_not_there(program: Path) -> None:
    """Whoever makes it afterwards is not who was meant."""
    done = subprocess.run(
        without_run("absent", [str(program)]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={k: v for k, v in os.environ.items() if k != "XENNER_RUNTIME_DIR"},
    )
    assert done.stdout == "ENOENT\n"


def test_a_path_that_is_cut(program: Path) -> None:
    named = {"XENNER_RUNTIME_DIR": "/" + "r" * 60}
    done = subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **named},
    )
    assert done.stdout == "ENAMETOOLONG\n"

# SPDX-License-Identifier: GPL-2.0-or-later
"""The unit tests on the oldest trio that pyproject.toml allows, and on the
newest there is: each in an environment of its own before .venv's packages."""

import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from soak.results import AbsentError, Result
from soak.running import TOP

PART = "versions"


def oldest(package: str) -> str:
    """The least version that pyproject.toml allows."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        if match := re.fullmatch(rf"{package}>=([\d.]+)", line):
            return match[1]
    raise LookupError(package)


def _pytest(
    case: str, command: Sequence[str | Path], minutes: float, **more: object
) -> Result:
    """Run it; what it counts is what was done."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=TOP,
            timeout=max(minutes, 10) * 60,
            check=False,
        )
        said, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        said, status = (late.stdout or b"").decode(errors="replace"), -1
    sys.stderr.write(said[-3000:])
    passed = re.search(r"(\d+) passed", said)
    lines = [line for line in said.splitlines() if line.startswith("FAILED")]
    outcome = "; ".join(lines[:3]) or (f"status {status}" if status else "ok")
    return Result(
        PART, case, time.monotonic() - began, int(passed[1]) if passed else 0,
        "tests", outcome, dict(more),
    )  # fmt: skip


def _with_trio(case: str, wanted: str, minutes: float) -> Result:
    """In an environment that has it before what .venv has."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = Path(name)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        python = directory / "bin/python"
        try:
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", wanted], check=True
            )
        except subprocess.CalledProcessError as error:
            raise AbsentError(f"{wanted} cannot be had") from error
        (site,) = directory.glob("lib/python*/site-packages")
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "xenner.pth").write_text(f"{ours}\n{TOP}\n")
        version = subprocess.run(
            [python, "-c", "import trio; print(trio.__version__)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        command = [str(python), "-m", "pytest", "-q", "tests/unit"]
        return _pytest(case, command, minutes, trio=version)


def oldest_trio(minutes: float) -> Result:
    return _with_trio("oldest", f"trio=={oldest('trio')}.*", minutes)


def newest_trio(minutes: float) -> Result:
    return _with_trio("newest", "trio", minutes)


CASES = {
    "oldest": oldest_trio,
    "newest": newest_trio,
}

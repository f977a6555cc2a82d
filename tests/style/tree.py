# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files are the project's: those that git has or would take."""

import subprocess
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


@cache
def project_files() -> tuple[Path, ...]:
    """Paths relative to TOP, sorted; nothing that .gitignore names."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=TOP,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # A deleted file is listed until its deletion is committed.
    names = sorted({name for name in listing.split("\0") if name})
    return tuple(Path(name) for name in names if (TOP / name).is_file())


def files_with_suffix(*suffixes: str) -> list[Path]:
    """The project's files whose names end in one of `suffixes`."""
    return [path for path in project_files() if path.suffix in suffixes]


def run_tool(*command: str) -> str:
    """What a tool printed, empty if it was content (status 0)."""
    done = subprocess.run(
        command,
        cwd=TOP,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr

# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.targets NAME [LIBFUZZER-OPTION...]`: run a target."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.targets.keeping import keep
from tests.targets.running import IN_PYTHON, NAMES, TOP, command

_OURS = ["xenner", "xennerd", "xenstored", "evtchnd"]


def _run_reader(name: str, options: list[str]) -> None:
    """In this process, for ever or until atheris ends it."""
    import atheris

    with atheris.instrument_imports(include=_OURS):
        from tests.targets.readers import READERS
    # A merge has a shell start its first word again.
    again = f"{sys.executable} -m tests.targets {name}"
    atheris.Setup([again, *options], READERS[name])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.targets", usage="%(prog)s [--keep] NAME [OPTION]"
    )
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--keep", action="store_true")
    ours, options = parser.parse_known_args()
    if ours.name is None:
        print(*NAMES, sep="\n")
    elif ours.keep:
        print(keep(ours.name))
    elif ours.name in IN_PYTHON:
        _run_reader(ours.name, options)
    else:
        with tempfile.TemporaryDirectory() as directory:
            words = command(ours.name, Path(directory))
            os.chdir(TOP)
            return os.spawnv(os.P_WAIT, words[0], [*words, *options])
    return 0


if __name__ == "__main__":
    sys.exit(main())

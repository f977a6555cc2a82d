# SPDX-License-Identifier: GPL-2.0-or-later
"""Print what pyproject.toml asks for, one requirement a line.

    requirements.py PYPROJECT

Run time, build and development, so that one file names them all.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    data = tomllib.loads(Path(sys.argv[1]).read_text())
    project = data["project"]
    wanted = [
        *project["dependencies"],
        *data["build-system"]["requires"],
        *project["optional-dependencies"]["test"],
    ]
    print("\n".join(sorted(set(wanted))))


if __name__ == "__main__":
    main()

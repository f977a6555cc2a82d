# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the console scripts of pyproject.toml for use in place.

scripts.py PYPROJECT BIN_DIRECTORY [PYTHON]

PYTHON is the directory's own if it is not said.
"""

import sys
import tomllib
from pathlib import Path

_SCRIPT = """\
#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


def main() -> None:
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    directory = Path(sys.argv[2])
    python = sys.argv[3] if len(sys.argv) > 3 else directory / "python"
    for name, target in project["scripts"].items():
        module, function = target.split(":")
        script = directory / name
        script.write_text(
            _SCRIPT.format(python=python, module=module, function=function)
        )
        script.chmod(0o755)


if __name__ == "__main__":
    main()

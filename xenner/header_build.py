# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a Python module of C headers: structures, functions and numbers.

    header_build.py SOURCE_ROOT MODULE OUTPUT.c HEADER...

cffi reads what the preprocessor makes of them with ABI_NO_INCLUDES, and the C
compiler the headers themselves: so there is one source. A structure that ends
in `...;` there, and a number that is `...`, are what an included header says.
"""

import re
import subprocess
import sys
from pathlib import Path

import cffi

_CONSTANT = re.compile(
    r"^#define ([A-Z]\w*)[ \t]+(?:0x[0-9a-f]+|[0-9]+|\.\.\.)(?!\w)", re.M
)


def _constants(header: Path) -> list[str]:
    """The names of its numbers, those on continued lines too."""
    return _CONSTANT.findall(header.read_text().replace("\\\n", " "))


def _preprocessed(header: Path) -> str:
    return subprocess.run(
        ["cc", "-E", "-P", "-DABI_NO_INCLUDES", str(header)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def main() -> None:
    root, module, output, *headers = sys.argv[1:]
    paths = [Path(root, header) for header in headers]
    builder = cffi.FFI()
    builder.cdef("".join(map(_preprocessed, paths)))
    for name in dict.fromkeys(n for path in paths for n in _constants(path)):
        builder.cdef(f"#define {name} ...\n")
    builder.set_source(
        module, "".join(f'#include "{header}"\n' for header in headers)
    )
    builder.emit_c_code(output)
    # cffi leaves an unchanged file alone; the build compares times.
    Path(output).touch()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a Python module of a C header's structures, functions and numbers.

header_build.py SOURCE_ROOT HEADER MODULE OUTPUT.c
"""

import re
import subprocess
import sys
from pathlib import Path

import cffi

_CONSTANT = re.compile(r"^#define ([A-Z][A-Z0-9_]*) [0-9]+$", re.M)


def main() -> None:
    root, header, module, output = sys.argv[1:]
    path = Path(root, header)
    declarations = subprocess.run(
        ["cc", "-E", "-P", "-DABI_NO_INCLUDES", str(path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    constants = _CONSTANT.findall(path.read_text())
    builder = cffi.FFI()
    builder.cdef(
        declarations + "".join(f"#define {name} ...\n" for name in constants)
    )
    builder.set_source(module, f'#include "{header}"\n')
    builder.emit_c_code(output)
    # cffi leaves an unchanged file alone; the build compares times.
    Path(output).touch()


if __name__ == "__main__":
    main()

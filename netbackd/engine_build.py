# SPDX-License-Identifier: GPL-2.0-or-later
"""Make netbackd._engine from csrc/engine.h.

engine_build.py SOURCE_ROOT OUTPUT.c
"""

import re
import subprocess
import sys
from pathlib import Path

import cffi

HEADER = "netbackd/csrc/engine.h"
_CONSTANT = re.compile(r"^#define ([A-Z][A-Z0-9_]*) [0-9]+$", re.M)


def main() -> None:
    root, output = Path(sys.argv[1]), Path(sys.argv[2])
    declarations = subprocess.run(
        ["cc", "-E", "-P", "-DABI_NO_INCLUDES", str(root / HEADER)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    constants = _CONSTANT.findall((root / HEADER).read_text())
    builder = cffi.FFI()
    builder.cdef(
        declarations + "".join(f"#define {name} ...\n" for name in constants)
    )
    builder.set_source("netbackd._engine", f'#include "{HEADER}"\n')
    builder.emit_c_code(str(output))
    # cffi leaves an unchanged file alone; the build compares times.
    output.touch()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Make DAEMON._engine from DAEMON/csrc/engine.h.

engine_build.py SOURCE_ROOT DAEMON OUTPUT.c
"""

import re
import subprocess
import sys
from pathlib import Path

import cffi

_CONSTANT = re.compile(r"^#define ([A-Z][A-Z0-9_]*) [0-9]+$", re.M)


def main() -> None:
    root, daemon, output = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    header = f"{daemon}/csrc/engine.h"
    declarations = subprocess.run(
        ["cc", "-E", "-P", "-DABI_NO_INCLUDES", str(root / header)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    constants = _CONSTANT.findall((root / header).read_text())
    builder = cffi.FFI()
    builder.cdef(
        declarations + "".join(f"#define {name} ...\n" for name in constants)
    )
    builder.set_source(f"{daemon}._engine", f'#include "{header}"\n')
    builder.emit_c_code(str(output))
    # cffi leaves an unchanged file alone; the build compares times.
    output.touch()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Make xenner._abi from abi/*.h: their structures and their constants.

    abi_build.py SOURCE_ROOT OUTPUT.c

The C text that cffi reads is what the preprocessor makes of the same headers
that emu includes, so there is one source.
"""

import re
import subprocess
import sys
from pathlib import Path

import cffi

HEADERS = ("abi/layout.h", "abi/emu.h", "abi/wire.h")
STRUCTURES = ("abi/emu.h", "abi/wire.h")
_ATOMIC = "xenner/csrc/atomic.h"
_CONSTANT = re.compile(
    r"^#define ([A-Z][A-Z0-9_]*)[ \t]+(0x[0-9a-f]+|[0-9]+)\b", re.M
)


def _joined(header: Path) -> str:
    """Its text with continued lines made one."""
    return header.read_text().replace("\\\n", " ")


def _preprocessed(header: Path) -> str:
    return subprocess.run(
        ["cc", "-E", "-P", "-DABI_NO_INCLUDES", str(header)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def main() -> None:
    root, output = Path(sys.argv[1]), Path(sys.argv[2])
    structures = "".join(_preprocessed(root / header) for header in STRUCTURES)
    constants = [
        name
        for header in HEADERS
        for name, _ in _CONSTANT.findall(_joined(root / header))
    ]
    builder = cffi.FFI()
    builder.cdef(
        structures + "".join(f"#define {name} ...\n" for name in constants)
    )
    builder.cdef(
        "void memory_barrier(void);"
        "void notify_guest(void *pending, uint32_t port, int event_fd);"
    )
    builder.set_source(
        "xenner._abi",
        "".join(f'#include "{header}"\n' for header in (*HEADERS, _ATOMIC)),
    )
    builder.emit_c_code(str(output))
    # cffi leaves an unchanged file alone; the build compares times.
    output.touch()


if __name__ == "__main__":
    main()

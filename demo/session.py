# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the demonstration's scripted session and judge it.

    session.py WORKFILE XENNER ARGUMENT...

Shows the guest's console as it comes; the last line is `demo: ok ...` or
says what was missing.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

_MARKER = b"XENNER-INIT"
_END = b"== end"


def main() -> int:
    errors = Path(sys.argv[1])
    began = time.monotonic()
    boot_s = None
    is_complete = False
    with errors.open("wb") as stderr:
        with subprocess.Popen(
            sys.argv[2:],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as guest:
            assert guest.stdout is not None
            for line in guest.stdout:
                if boot_s is None and _MARKER in line:
                    boot_s = time.monotonic() - began
                is_complete = is_complete or line.startswith(_END)
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
        status = guest.returncode
    told = errors.read_text(errors="replace").splitlines()
    numbers = [line for line in told if line.startswith("{")]
    for line in told:
        if not line.startswith("{"):
            print(line, file=sys.stderr)
    if status != 0:
        print(f"demo: failed: xenner ended with status {status}")
        return 1
    if boot_s is None or not is_complete or not numbers:
        print("demo: failed: the guest's session is not complete")
        return 1
    traps = json.loads(numbers[-1])["traps"]
    print(f"demo: ok boot={boot_s:.2f} traps={traps}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

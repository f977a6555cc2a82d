# SPDX-License-Identifier: GPL-2.0-or-later
"""Has a lab container, in a process that a test may end:

    python -m tests.component.lab.holder ROOT STAGE OUT [COMMAND]

prints the keeper's number and PID 1's, then runs COMMAND or a shell, and ends
with its status.
"""

import sys
from pathlib import Path

from lab.container import start_container


def main() -> int:
    root, stage, out, *command = sys.argv[1:]
    with start_container(
        Path(root), stage=Path(stage), out=Path(out)
    ) as container:
        print(container.keeper.pid, container.init, flush=True)
        if command:
            # The test has its own limit.
            return container.run(command[0], limit_s=3600)
        return container.shell("exec bash -i")


if __name__ == "__main__":
    sys.exit(main())

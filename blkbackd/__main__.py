# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd: serves the domains' disks."""

import sys
from collections.abc import Sequence

from blkbackd.vbd import Vbd
from xenner.backend.daemon import Backend, run_backend
from xenner.backend.status import Form

_FORM = Form(
    daemon="blkbackd",
    kind="vbd",
    columns=("reads", "writes", "flushes", "discards", "errors", "refused"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    backend = Backend(description=__doc__, form=_FORM, make_device=Vbd)
    return run_backend(backend, arguments)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner`: one guest from the command line."""

import sys
import time

_started_at = time.monotonic()

from xenner.errors import ConfigError, HostError  # noqa: E402
from xennerd.vm.options import Help, parse_options  # noqa: E402

VERSION = "0.1.0"


def main() -> None:
    """Parse, run, turn errors into one line and a status."""
    try:
        options = parse_options(sys.argv[1:], version=VERSION)
        # Everything else only now: -help need not wait for it.
        from xennerd.standalone.host import open_standalone_host
        from xennerd.vm.session import run_session

        with open_standalone_host(options) as options:
            status = run_session(options, started_at=_started_at)
    except Help as text:
        print(text, end="")
        status = 0
    except ConfigError as error:
        print(f"xenner: {error}", file=sys.stderr)
        status = 2
    except HostError as error:
        print(f"xenner: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner-stats`: what domains do, counted by emu and by KVM."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from xenner.errors import HostError
from xenner.paths import (
    check_runtime_dir,
    monitor_path,
    runtime_dir_of,
    vmcore_path,
)
from xenner.types import Domid
from xenner.vmcores import VmcoreView, list_domids, open_view
from xennerd.stats.export import as_json
from xennerd.stats.reading import (
    Reading,
    domain_name,
    find_states,
    read_domain,
)
from xennerd.stats.view import format_reading

_CLEAR = "\x1b[H\x1b[J"


def main(arguments: Sequence[str] | None = None) -> None:
    """Status 0, 1 if a domain cannot be read, 2 for a wrong command line."""
    options = _parse(arguments)
    try:
        status = _run(options)
    except HostError as error:
        print(f"xenner-stats: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 0
    except BrokenPipeError:
        # The reader has had enough; nor is there anybody to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 0
    sys.exit(status)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="xenner-stats",
        description="Show what domains do, counted by emu and by KVM.",
    )
    parser.add_argument(
        "domain",
        nargs="*",
        help="number, name, or path of a vmcore; all if none is given",
    )
    parser.add_argument(
        "-w",
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="again and again, with rates",
    )
    parser.add_argument(
        "-n",
        "--count",
        type=_positive,
        metavar="N",
        help="end after N reports (with -w)",
    )
    parser.add_argument(
        "--sample",
        type=_seconds,
        default=0.1,
        metavar="SECONDS",
        help="look so long where the vCPUs are; 0: not at all (default 0.1)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one line of JSON")
    form.add_argument(
        "--prometheus", action="store_true", help="Prometheus' text format"
    )
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=runtime_dir_of(os.environ),
        metavar="DIR",
        help="where the vmcores are (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch <= 0:
        parser.error("-w 0: it needs some time between two reports")
    if options.watch is not None and options.prometheus:
        parser.error("--prometheus: Prometheus watches by itself, without -w")
    if options.count is not None and options.watch is None:
        parser.error("-n: only with -w")
    return options


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise ValueError
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _run(options: argparse.Namespace) -> int:
    check_runtime_dir(options.runtime_dir)
    before: dict[Domid, Reading] = {}
    done = 0
    while True:
        began_s = time.monotonic()
        readings, errors = _read_all(options)
        if readings or not errors:
            _show(readings, before, options)
        for error in errors:
            print(f"xenner-stats: {error}", file=sys.stderr)
        done += 1
        if options.watch is None or done == options.count:
            return 1 if errors else 0
        before = {reading.domid: reading for reading in readings}
        time.sleep(max(0.0, began_s + options.watch - time.monotonic()))


def _read_all(
    options: argparse.Namespace,
) -> tuple[list[Reading], list[HostError]]:
    """Of all that are wanted. A domain that has ended since it was listed is
    no error; one that was named is."""
    paths = _paths(options)
    errors = []
    with ExitStack() as stack:
        views: list[VmcoreView] = []
        for path in paths:
            try:
                views.append(stack.enter_context(open_view(path)))
            except HostError as error:
                if options.domain or path.exists():
                    errors.append(error)
        found = find_states(views, options.sample if views else 0)
        readings = [
            read_domain(
                view,
                monitor_path(view.path.parent, view.domid),
                counts,
            )
            for view, counts in zip(views, found, strict=True)
        ]
    return readings, errors


def _paths(options: argparse.Namespace) -> list[Path]:
    directory = options.runtime_dir
    domids = list_domids(directory)
    if not options.domain:
        return [vmcore_path(directory, domid) for domid in domids]
    return [_path_of(text, directory, domids) for text in options.domain]


def _path_of(text: str, directory: Path, domids: Sequence[Domid]) -> Path:
    if "/" in text:
        return Path(text)
    if text.isascii() and text.isdigit():
        if int(text) in domids:
            return vmcore_path(directory, Domid(int(text)))
    else:
        for domid in domids:
            if domain_name(directory, domid) == text:
                return vmcore_path(directory, domid)
    raise HostError(f"no domain {text} in {directory}")


def _show(
    readings: Sequence[Reading],
    before: dict[Domid, Reading],
    options: argparse.Namespace,
) -> None:
    if options.prometheus:
        from xennerd.stats.prometheus import as_prometheus

        text = as_prometheus(readings)
    elif options.json:
        domains = [as_json(r, before.get(r.domid)) for r in readings]
        text = json.dumps({"domains": domains}) + "\n"
    else:
        text = "\n".join(
            format_reading(r, before.get(r.domid)) for r in readings
        )
        if not readings:
            text = f"no domains in {options.runtime_dir}\n"
        if options.watch is not None:
            clear = _CLEAR if sys.stdout.isatty() else ""
            text = f"{clear}{time.strftime('%H:%M:%S')}\n{text}"
    print(text, end="", flush=True)


if __name__ == "__main__":
    main()

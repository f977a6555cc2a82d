# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner-cleanup`: what killed processes left, shown and removed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from xenner.errors import HostError
from xenner.paths import Paths
from xenner.types import MAX_DOMID, Domid
from xenner.vmcorelocks import DomainAliveError, domid_held
from xennerd.cleanup.classify import Classified, Kind, Leftover, classify
from xennerd.cleanup.liveness import find_live_domains
from xennerd.cleanup.remove import remove
from xennerd.cleanup.scan import Host, scan_host
from xennerd.stats.view import human_bytes
from xennerd.vm.recorder import printable


@dataclass(frozen=True, slots=True)
class Row:
    """A leftover and its state: "stale", "removed", "left" or "failed"."""

    leftover: Leftover
    state: str
    why: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Status 0, 1 if something could not be looked at or removed, 2 for a
    wrong command line."""
    options = _parse(arguments)
    try:
        rows, notes, has_failed = _run(options)
    except (HostError, OSError) as error:
        print(f"xenner-cleanup: {error}", file=sys.stderr)
        sys.exit(1)
    if options.json:
        print(json.dumps(_as_json(rows, notes)))
    else:
        print("".join(line + "\n" for line in _table(rows, options)), end="")
        for note in notes:
            print(f"xenner-cleanup: {note}", file=sys.stderr)
    sys.exit(1 if has_failed else 0)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="xenner-cleanup",
        description="Show what killed processes left; remove it with --force.",
    )
    parser.add_argument(
        "domid",
        nargs="*",
        type=_domid,
        help="look at these domains only (default: all, and the daemons)",
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="remove what is stale"
    )
    parser.add_argument(
        "--kept",
        action="store_true",
        help="also dead domains that were kept on purpose",
    )
    parser.add_argument(
        "--only",
        action="append",
        type=Kind,
        choices=list(Kind),
        metavar="KIND",
        help="only " + ", ".join(Kind),
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    for name in ("--runtime-dir", "--xenstore", "--evtchnd"):
        parser.add_argument(name, type=Path, metavar="PATH")
    return parser.parse_args(arguments)


def _domid(text: str) -> Domid:
    value = int(text)
    if not 1 <= value <= MAX_DOMID:
        raise ValueError
    return Domid(value)


def _run(options: argparse.Namespace) -> tuple[list[Row], list[str], bool]:
    paths = Paths.of(
        os.environ, runtime_dir=options.runtime_dir, xenstore=options.xenstore
    )
    options.evtchnd = options.evtchnd or paths.evtchnd
    host = Host(paths)
    found, notes = _look(host, options)
    if not options.force:
        rows = [
            Row(v.leftover, "stale" if v.is_removable else "left", v.why)
            for v in found
        ]
        return rows, notes, False
    rows = []
    for domid, group in groupby(found, lambda v: v.leftover.domid):
        rows += _remove_all(host, options, domid, list(group))
    has_failed = any(row.state == "failed" for row in rows)
    return rows, notes, has_failed


def _look(
    host: Host, options: argparse.Namespace
) -> tuple[list[Classified], list[str]]:
    # Scan first: a domain that starts in between is found alive then.
    leftovers, notes = scan_host(host)
    living = find_live_domains(host.paths.runtime_dir, options.evtchnd)
    if options.only:
        leftovers = [t for t in leftovers if t.kind in options.only]
    if options.domid:
        leftovers = [t for t in leftovers if t.domid in options.domid]
    found = classify(
        leftovers,
        live=living.domids,
        removes_preserved=options.kept,
        doubt=living.doubt,
    )
    return found, notes


def _remove_all(
    host: Host,
    options: argparse.Namespace,
    domid: Domid | None,
    found: Sequence[Classified],
) -> Iterator[Row]:
    """Remove all leftovers of one domain while holding its number. Scans
    again first: the domain may have run since."""
    if domid is None:
        yield from _remove_each(host, found)
        return
    try:
        with domid_held(domid, host.paths.runtime_dir):
            seen = {v.leftover for v in found}
            leftovers, _ = scan_host(host)
            others = find_live_domains(host.paths.runtime_dir, options.evtchnd)
            # We hold its lock here; only evtchnd knows of a vmcore elsewhere.
            if domid in others.registered:
                raise DomainAliveError(f"domain {domid} is running")
            fresh = classify(
                [t for t in leftovers if t.domid == domid and t in seen],
                live=frozenset(),
                removes_preserved=options.kept,
                doubt=others.doubt,
            )
            yield from _remove_each(host, fresh)
    except DomainAliveError as error:
        for item in found:
            yield Row(item.leftover, "left", str(error))


def _remove_each(host: Host, found: Iterable[Classified]) -> Iterator[Row]:
    for item in found:
        leftover = item.leftover
        if not item.is_removable:
            yield Row(leftover, "left", item.why)
            continue
        try:
            remove(leftover, host)
        except (OSError, HostError) as error:
            reason = getattr(error, "strerror", None) or error
            yield Row(leftover, "failed", str(reason))
        else:
            yield Row(leftover, "removed", item.why)


def _as_json(rows: Sequence[Row], notes: Sequence[str]) -> dict[str, Any]:
    return {
        "items": [
            {
                "kind": str(row.leftover.kind),
                "domid": row.leftover.domid,
                "name": row.leftover.name,
                "size_bytes": row.leftover.size_bytes,
                "state": row.state,
                "why": row.why,
            }
            for row in rows
        ],
        "notes": list(notes),
    }


def _table(rows: Sequence[Row], options: argparse.Namespace) -> Iterator[str]:
    if not rows:
        yield "nothing is stale"
        return
    cells = [("KIND", "DOMAIN", "SIZE", "STATE", "NAME", "WHY")]
    for row in rows:
        leftover = row.leftover
        cells.append(
            (
                str(leftover.kind),
                "-" if leftover.domid is None else str(leftover.domid),
                human_bytes(leftover.size_bytes)
                if leftover.size_bytes
                else "-",
                row.state,
                printable(os.fsencode(leftover.name)),
                row.why,
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for cell in cells:
        yield "  ".join(
            text.ljust(width) for text, width in zip(cell, widths, strict=True)
        ).rstrip()
    stale = [row for row in rows if row.state == "stale"]
    if stale and not options.force:
        freed = human_bytes(sum(row.leftover.size_bytes for row in stale))
        yield f"{len(stale)} to be removed, {freed}: with --force"


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()

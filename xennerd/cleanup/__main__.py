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
from xennerd.cleanup.classify import LivesError, claimed, find_living
from xennerd.cleanup.leftovers import Kind, Thing, Verdict, judge
from xennerd.cleanup.removal import remove
from xennerd.cleanup.scan import Host, find_things
from xennerd.stats.view import human_bytes
from xennerd.vm.recorder import printable


@dataclass(frozen=True, slots=True)
class Row:
    """A stale thing and what has become of it: "stale", "removed", "left"."""

    thing: Thing
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
    verdicts, notes = _look(host, options)
    if not options.force:
        rows = [
            Row(v.thing, "stale" if v.is_removable else "left", v.why)
            for v in verdicts
        ]
        return rows, notes, False
    rows = []
    for domid, group in groupby(verdicts, lambda v: v.thing.domid):
        rows += _remove_all(host, options, domid, list(group))
    has_failed = any(row.state == "failed" for row in rows)
    return rows, notes, has_failed


def _look(
    host: Host, options: argparse.Namespace
) -> tuple[list[Verdict], list[str]]:
    # Things first: what starts in between is among the living then.
    things, notes = find_things(host)
    living = find_living(host.paths.runtime_dir, options.evtchnd)
    if options.only:
        things = [t for t in things if t.kind in options.only]
    if options.domid:
        things = [t for t in things if t.domid in options.domid]
    verdicts = judge(
        things,
        live=living.domids,
        removes_preserved=options.kept,
        doubt=living.doubt,
    )
    return verdicts, notes


def _remove_all(
    host: Host,
    options: argparse.Namespace,
    domid: Domid | None,
    verdicts: Sequence[Verdict],
) -> Iterator[Row]:
    """All of one domain, its number held meanwhile; then looked at again,
    for it may have lived and died since."""
    if domid is None:
        yield from _remove_each(host, verdicts)
        return
    try:
        with claimed(domid, host.paths.runtime_dir):
            seen = {v.thing for v in verdicts}
            things, _ = find_things(host)
            others = find_living(host.paths.runtime_dir, options.evtchnd)
            # Its lock is ours now: only its vmcore elsewhere would tell.
            if domid in others.registered:
                raise LivesError(f"domain {domid} is running")
            fresh = judge(
                [t for t in things if t.domid == domid and t in seen],
                live=frozenset(),
                removes_preserved=options.kept,
                doubt=others.doubt,
            )
            yield from _remove_each(host, fresh)
    except LivesError as error:
        for verdict in verdicts:
            yield Row(verdict.thing, "left", str(error))


def _remove_each(host: Host, verdicts: Iterable[Verdict]) -> Iterator[Row]:
    for verdict in verdicts:
        thing = verdict.thing
        if not verdict.is_removable:
            yield Row(thing, "left", verdict.why)
            continue
        try:
            remove(thing, host)
        except (OSError, HostError) as error:
            reason = getattr(error, "strerror", None) or error
            yield Row(thing, "failed", str(reason))
        else:
            yield Row(thing, "removed", verdict.why)


def _as_json(rows: Sequence[Row], notes: Sequence[str]) -> dict[str, Any]:
    return {
        "items": [
            {
                "kind": str(row.thing.kind),
                "domid": row.thing.domid,
                "name": row.thing.name,
                "size_bytes": row.thing.size_bytes,
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
        thing = row.thing
        cells.append(
            (
                str(thing.kind),
                "-" if thing.domid is None else str(thing.domid),
                human_bytes(thing.size_bytes) if thing.size_bytes else "-",
                row.state,
                printable(os.fsencode(thing.name)),
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
        freed = human_bytes(sum(row.thing.size_bytes for row in stale))
        yield f"{len(stale)} to be removed, {freed}: with --force"


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()

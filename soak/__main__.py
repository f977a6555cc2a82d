# SPDX-License-Identifier: GPL-2.0-or-later
"""`make soak PART=name MINUTES=n`: a part, or one case of it, as long as that.

Without a part it lists them.
"""

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial

from soak import (
    boots,
    hypercalls,
    kernels,
    targets,
    userfuzz,
    versions,
)
from soak.results import ROW_HEADING, Result, report

_MINUTES = 10.0

_PARTS: Mapping[str, Mapping[str, Callable[[float], Result]]] = {
    userfuzz.PART: {
        "host": userfuzz.on_host,
        "smp": userfuzz.with_two_vcpus,
        "lab": userfuzz.in_machine,
    },
    hypercalls.PART: {
        "host": hypercalls.on_host,
        "lab": hypercalls.in_machine,
    },
    kernels.PART: {"host": kernels.on_host},
    boots.PART: {"host": boots.on_host, "lab": boots.in_machine},
    versions.PART: versions.CASES,
    targets.PART: {name: partial(targets.run, name) for name in targets.CASES},
}


def choose(word: str) -> list[str]:
    """Cases of a part, as PART/CASE; none if there is no such part."""
    part, _, case = word.partition("/")
    return [
        f"{part}/{name}" for name in _PARTS.get(part, {}) if case in ("", name)
    ]


def minutes_of(word: str) -> float:
    """More than none, and some day over. ValueError."""
    try:
        minutes = float(word)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise ValueError(f"MINUTES={word}: not a number of minutes")
    return minutes


def main() -> int:
    if len(sys.argv) < 2:
        names = [f"{part}/{case}" for part in _PARTS for case in _PARTS[part]]
        print("make soak PART=name MINUTES=n; there are", *names, sep="\n  ")
        return 2
    chosen = choose(sys.argv[1])
    if not chosen:
        print(f"soak: no {sys.argv[1]}; there are", *_PARTS, file=sys.stderr)
        return 2
    try:
        minutes = minutes_of(sys.argv[2]) if len(sys.argv) > 2 else _MINUTES
    except ValueError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    results = []
    for name in chosen:
        part, _, case = name.partition("/")
        run = _PARTS[part][case]
        results.append(report(name, partial(run, minutes)))
    print(f"\n{ROW_HEADING}", file=sys.stderr)
    for result in results:
        if result is not None:
            print(result.to_row(), file=sys.stderr)
    is_ok = all(result and result.is_ok for result in results)
    return 0 if is_ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

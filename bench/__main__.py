# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: all benchmarks, or those named: `python -m bench boot`.

A case alone is `boot/tcg`.
"""

import sys

from bench import (
    blk,
    boot,
    clock,
    console,
    evtchn,
    net,
    netguest,
    supervisor,
    xennic,
    xenstore,
)
from bench.results import report

_BENCHES = {
    "blk": blk.CASES,
    "boot": boot.CASES,
    "clock": clock.CASES,
    "console": console.CASES,
    "evtchn": evtchn.CASES,
    "net": {**net.CASES, **xennic.CASES, **netguest.CASES},
    "supervisor": supervisor.CASES,
    "xenstore": xenstore.CASES,
}


def main() -> int:
    wanted = sys.argv[1:] or list(_BENCHES)
    chosen = []
    for word in wanted:
        bench, _, case = word.partition("/")
        cases = _BENCHES.get(bench, {})
        if not cases or (case and case not in cases):
            names = ", ".join(f"{b}/{c}" for b in _BENCHES for c in _BENCHES[b])
            print(f"bench: no {word}; there are {names}", file=sys.stderr)
            return 2
        chosen += [(bench, name) for name in cases if case in ("", name)]
    results = [
        report(bench, case, _BENCHES[bench][case]) for bench, case in chosen
    ]
    heading = f"{'bench':8} {'case':28} {'ours':>12} {'peer':>12}"
    print(f"\n{heading} {'unit':8} {'ratio':>8}", file=sys.stderr)
    for result in results:
        if result is not None:
            print(result.to_row(), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

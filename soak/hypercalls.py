# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that asks for anything (tests/guests/random_calls.c), seed after
seed: it ends itself at worst, with one crash report and a defined status."""

import sys
import time
from itertools import cycle, product

from soak.results import Result, in_lab
from soak.running import Ended, command, explain, run_guest
from tests.environments import programs
from tests.environments.rules import limit_s
from tests.guests.build import guest_path

PART = "hypercall-fuzz"
FLAVOURS = ("high", "page")
# As the guest's command line has them: what may be expected of each differs.
MODES = ("", "wild", "wild scribble")
_CALLS = 30000
_GUEST_S = 60.0


def run_seed(seed: int, mode: str, flavour: str, *, calls: int) -> Ended:
    """One guest, to its end."""
    append = f"seed={seed} calls={calls} {mode}"
    return run_guest(
        command(
            guest_path("random_calls", flavour),
            *("-m", "32", "-no-reboot", "-append", append),
        ),
        most_s=limit_s(_GUEST_S),
        name=PART,
    )


def judge(ended: Ended, mode: str) -> str:
    """What is wrong with how it ended, or nothing.

    A wild one may wait for ever, as long as its process ends when told to. One
    that writes over emu may have it say anything, once.
    """
    if ended.status == -1:
        return "the process did not end when told to"
    if "Traceback" in ended.messages:
        return "Python failed"
    if ended.messages.count(" crashed: ") > 1:
        return "more than one crash report"
    if ended.was_ended:
        return "" if mode else "no end"
    if ended.status not in (0, 1):
        return f"status {ended.status}"
    if "scribble" in mode:
        return ""
    return ended.wrong()


def _run(case: str, minutes: float) -> Result:
    programs.guests()
    seed = int(time.time()) % 1000000
    began = time.monotonic()
    runs, found = 0, []
    for mode, flavour in cycle(product(MODES, FLAVOURS)):
        if time.monotonic() - began > minutes * 60:
            break
        ended = run_seed(seed + runs, mode, flavour, calls=_CALLS)
        wrong = judge(ended, mode)
        if wrong:
            found.append(f"{wrong} (seed={seed + runs} {mode} {flavour})")
            print(f"{PART}: {found[-1]}", file=sys.stderr)
            explain(ended)
        runs += 1
        if runs % 20 == 0:
            print(f"{PART}: {runs} guests", file=sys.stderr, flush=True)
    return Result(
        PART, case, time.monotonic() - began, runs, "guests",
        "; ".join(found[:3]) or "ok", {"seed": seed, "found": found},
    )  # fmt: skip


def on_host(minutes: float) -> Result:
    return _run("host", minutes)


def in_machine(minutes: float) -> Result:
    return in_lab(f"{PART}/host", minutes)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do when a domain ends: its file's on_... keys. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xenner.types import ShutdownReason
from xenner.xlcfg import Action, DomainConfig

MAX_STARTS = 5
"""The start limit: more starts within a minute are refused."""

_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, in the order of the fields. `action` is the file's value."""

    action: Action
    coredumps: bool = False
    preserves: bool = False
    """The dead domain and its memory stay until somebody destroys it."""
    renames: bool = False
    """The dead domain gets another number and name, the restarted one keeps
    them."""
    restarts: bool = False
    hits_start_limit: bool = False
    """The domain would restart, but has done so too often."""


_VERDICTS = {
    verdict.action: verdict
    for verdict in (
        Verdict(Action.DESTROY),
        Verdict(Action.RESTART, restarts=True),
        Verdict(
            Action.RENAME_RESTART, preserves=True, renames=True, restarts=True
        ),
        Verdict(Action.PRESERVE, preserves=True),
        Verdict(Action.COREDUMP_DESTROY, coredumps=True),
        Verdict(Action.COREDUMP_RESTART, coredumps=True, restarts=True),
    )
}
_CRASHES = (ShutdownReason.CRASH, ShutdownReason.WATCHDOG)


def action_for(config: DomainConfig, reason: ShutdownReason) -> Action:
    """The file's value for an end of that kind."""
    if reason is ShutdownReason.REBOOT:
        return config.on_reboot
    if reason in (ShutdownReason.POWEROFF, ShutdownReason.SUSPEND):
        return config.on_poweroff
    if reason is ShutdownReason.WATCHDOG:
        return config.on_watchdog
    return config.on_crash


def verdict_for(
    config: DomainConfig,
    reason: ShutdownReason,
    *,
    starts_s: Sequence[float],
    now_s: float,
    is_stop_requested: bool = False,
) -> Verdict:
    """What to do with a domain that ended for `reason`.

    `starts_s` are its last starts, on the clock of `now_s`. With
    `is_stop_requested` the domain does not restart, and an end that is not a
    crash counts as the end that was requested.
    """
    if is_stop_requested and reason not in _CRASHES:
        return _VERDICTS[Action.DESTROY]
    verdict = _VERDICTS[action_for(config, reason)]
    hits_start_limit = verdict.restarts and _exceeds_start_limit(
        starts_s, now_s
    )
    return Verdict(
        action=verdict.action,
        coredumps=verdict.coredumps,
        preserves=verdict.preserves,
        renames=verdict.renames
        and not is_stop_requested
        and not hits_start_limit,
        restarts=verdict.restarts
        and not is_stop_requested
        and not hits_start_limit,
        hits_start_limit=hits_start_limit and not is_stop_requested,
    )


def last_starts(starts_s: Sequence[float], now_s: float) -> tuple[float, ...]:
    """The starts that the limit looks at, with one more now."""
    return (*starts_s[1 - MAX_STARTS :], now_s)


def _exceeds_start_limit(starts_s: Sequence[float], now_s: float) -> bool:
    recent = [at for at in starts_s if 0 <= now_s - at < _INTERVAL_S]
    return len(recent) >= MAX_STARTS

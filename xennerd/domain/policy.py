# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a domain that ended: its file's on_... keys. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xenner.types import ShutdownReason
from xenner.xlcfg import Action, DomainConfig

MAX_STARTS = 5
"""A guest that is started so often within a minute is left alone."""

_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, in this order; `action` is the file's word for it."""

    action: Action
    dumps: bool = False
    keeps: bool = False
    """The dead domain stays, with its memory, until it is destroyed."""
    renames: bool = False
    """It stays under another number and name: the new one has its own."""
    restarts: bool = False
    is_braked: bool = False
    """It would be started again if it had not been so often."""


_VERDICTS = {
    verdict.action: verdict
    for verdict in (
        Verdict(Action.DESTROY),
        Verdict(Action.RESTART, restarts=True),
        Verdict(Action.RENAME_RESTART, keeps=True, renames=True, restarts=True),
        Verdict(Action.PRESERVE, keeps=True),
        Verdict(Action.COREDUMP_DESTROY, dumps=True),
        Verdict(Action.COREDUMP_RESTART, dumps=True, restarts=True),
    )
}
_CRASHES = (ShutdownReason.CRASH, ShutdownReason.WATCHDOG)


def action_for(config: DomainConfig, reason: ShutdownReason) -> Action:
    """The file's word for such an end."""
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
    is_asked: bool = False,
) -> Verdict:
    """What to do with a domain that ended for `reason`.

    `starts_s` are its last starts, on the clock of `now_s`. `is_asked`: whoever
    runs it wants it to end, so nothing starts it again, and an end that is no
    crash is the one that was wanted.
    """
    if is_asked and reason not in _CRASHES:
        return _VERDICTS[Action.DESTROY]
    verdict = _VERDICTS[action_for(config, reason)]
    is_braked = verdict.restarts and _is_too_often(starts_s, now_s)
    return Verdict(
        action=verdict.action,
        dumps=verdict.dumps,
        keeps=verdict.keeps,
        renames=verdict.renames and not is_asked and not is_braked,
        restarts=verdict.restarts and not is_asked and not is_braked,
        is_braked=is_braked and not is_asked,
    )


def last_starts(starts_s: Sequence[float], now_s: float) -> tuple[float, ...]:
    """With the start of this moment; no more than are looked at."""
    return (*starts_s[1 - MAX_STARTS :], now_s)


def _is_too_often(starts_s: Sequence[float], now_s: float) -> bool:
    recent = [at for at in starts_s if 0 <= now_s - at < _INTERVAL_S]
    return len(recent) >= MAX_STARTS

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
    """What to do, in this order."""

    dumps: bool = False
    keeps: bool = False
    """The dead domain stays, with its memory, until it is destroyed."""
    restarts: bool = False


_ACTIONS = {
    Action.DESTROY: Verdict(),
    Action.RESTART: Verdict(restarts=True),
    Action.RENAME_RESTART: Verdict(keeps=True, restarts=True),
    Action.PRESERVE: Verdict(keeps=True),
    Action.COREDUMP_DESTROY: Verdict(dumps=True),
    Action.COREDUMP_RESTART: Verdict(dumps=True, restarts=True),
}


def action_for(config: DomainConfig, reason: ShutdownReason) -> Action:
    """The file's word for such an end."""
    if reason is ShutdownReason.REBOOT:
        return config.on_reboot
    if reason in (ShutdownReason.POWEROFF, ShutdownReason.SUSPEND):
        return config.on_poweroff
    return config.on_crash


def is_too_often(starts_s: Sequence[float], *, now_s: float) -> bool:
    """The brake: `starts_s` are the last starts on the clock of `now_s`."""
    recent = [at for at in starts_s if now_s - at < _INTERVAL_S]
    return len(recent) >= MAX_STARTS


def verdict_for(config: DomainConfig, reason: ShutdownReason) -> Verdict:
    """What to do with a domain that ended for `reason`."""
    return _ACTIONS[action_for(config, reason)]

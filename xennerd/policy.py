# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a domain that ended: its file's on_... keys. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xenner.types import ShutdownReason
from xenner.xlcfg import Action, DomainConfig

# A guest that ends so often so soon is left alone: xl does not restart one
# that ended within a second of its start either, which is as good as never.
_MAX_STARTS = 5
_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, in this order."""

    dumps: bool = False
    keeps: bool = False
    """The dead domain stays, with its memory, until it is destroyed."""
    restarts: bool = False
    is_braked: bool = False
    """It would be started again, but has been too often."""


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


def verdict_for(
    config: DomainConfig,
    reason: ShutdownReason,
    *,
    starts_s: Sequence[float] = (),
    now_s: float = 0.0,
) -> Verdict:
    """What to do with a domain that ended; `starts_s` are its last starts on
    the clock of `now_s`, which count only against a restart after a crash or
    a power-off: who reboots a guest by hand may do so often."""
    verdict = _ACTIONS[action_for(config, reason)]
    recent = [at for at in starts_s if now_s - at < _INTERVAL_S]
    if (
        verdict.restarts
        and reason is not ShutdownReason.REBOOT
        and len(recent) >= _MAX_STARTS
    ):
        return Verdict(dumps=verdict.dumps, keeps=verdict.keeps, is_braked=True)
    return verdict

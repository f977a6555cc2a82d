# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain file's words mean for a guest that ended."""

from dataclasses import asdict
from typing import Any

import pytest

from xenner.types import ShutdownReason
from xenner.xlcfg import Action, DomainConfig, parse_config
from xenner.xlcpus import HostCpus
from xennerd.domain.policy import Verdict, action_for, last_starts, verdict_for
from xennerd.domain.resources import limit_properties, without_limits

HOST = HostCpus(frozenset(range(8)), {0: frozenset(range(8))})


def config(more: str = "") -> DomainConfig:
    return parse_config(f"name='a'\nkernel='/k'\n{more}\n", file="f")


@pytest.mark.parametrize(
    ("reason", "action"),
    [
        (ShutdownReason.POWEROFF, Action.PRESERVE),
        (ShutdownReason.REBOOT, Action.DESTROY),
        (ShutdownReason.CRASH, Action.COREDUMP_RESTART),
        (ShutdownReason.WATCHDOG, Action.RENAME_RESTART),
    ],
)
def test_each_end_has_its_key(reason: ShutdownReason, action: Action) -> None:
    given = config(
        "on_poweroff='preserve';on_reboot='destroy';"
        "on_crash='coredump-restart';on_watchdog='rename-restart'"
    )
    assert action_for(given, reason) is action


def verdict(word: str, **more: Any) -> Verdict:
    arguments: dict[str, Any] = {"starts_s": (), "now_s": 105.0, **more}
    return verdict_for(
        config(f"on_crash='{word}'"), ShutdownReason.CRASH, **arguments
    )


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("destroy", set()),
        ("restart", {"restarts"}),
        ("rename-restart", {"preserves", "renames", "restarts"}),
        ("preserve", {"preserves"}),
        ("coredump-destroy", {"coredumps"}),
        ("coredump-restart", {"coredumps", "restarts"}),
    ],
)
def test_each_word(word: str, wanted: set[str]) -> None:
    found = asdict(verdict(word))
    assert found.pop("action") == word
    assert {name for name, value in found.items() if value} == wanted


def test_the_brake() -> None:
    starts = (100.0, 101.0, 102.0, 103.0, 104.0)
    limited = verdict("restart", starts_s=starts)
    assert limited.hits_start_limit
    assert not limited.restarts
    assert verdict("restart", starts_s=starts, now_s=161.0).restarts
    assert verdict("restart", starts_s=starts[1:]).restarts
    # A clock that was set back is no start in the future.
    assert verdict("restart", starts_s=starts, now_s=50.0).restarts
    # What stays, stays where it is: nothing takes its number.
    kept = verdict("rename-restart", starts_s=starts)
    assert kept.preserves
    assert not kept.renames
    assert not verdict("preserve", starts_s=starts).hits_start_limit


def test_the_last_starts() -> None:
    assert last_starts((), 9.0) == (9.0,)
    assert last_starts((1.0, 2.0, 3.0, 4.0, 5.0), 9.0) == (
        *(2.0, 3.0, 4.0, 5.0),
        9.0,
    )


@pytest.mark.parametrize("word", list(Action))
def test_who_was_asked_to_end_is_not_started_again(word: str) -> None:
    crashed = verdict(word, is_stop_requested=True)
    assert not crashed.restarts
    assert not crashed.renames
    assert (crashed.coredumps, crashed.preserves) == (
        verdict(word).coredumps,
        verdict(word).preserves,
    )
    for reason in (ShutdownReason.POWEROFF, ShutdownReason.REBOOT):
        asked = verdict_for(
            config(f"on_poweroff='{word}';on_reboot='{word}'"),
            reason,
            starts_s=(),
            now_s=0.0,
            is_stop_requested=True,
        )
        assert asked == Verdict(Action.DESTROY)


def test_limits_that_only_a_unit_has() -> None:
    assert without_limits(config("memory=320;cpu_weight=256;cap=0")) == ""
    assert without_limits(config("cap=50")).startswith("cap limits nothing")
    all_of_them = config("cap=50;cpu_weight=1;cpus='0';io_weight=7")
    text = without_limits(all_of_them)
    assert text.startswith("cpu_weight, cap, cpus, io_weight limit nothing")


def test_limits() -> None:
    assert limit_properties(config("memory=320"), HOST) == {
        "CPUWeight": "100",
        "CPUQuota": "",
        "IOWeight": "100",
        "AllowedCPUs": "",
        "MemoryMax": "426M",
        "MemorySwapMax": "0",
    }
    given = config("cpu_weight=1;io_weight=7;cap=50;cpus='0-2,^1'")
    properties = limit_properties(given, HOST)
    assert properties["CPUWeight"] == "1"
    assert properties["CPUQuota"] == "50%"
    assert properties["IOWeight"] == "7"
    assert properties["AllowedCPUs"] == "0,2"
    assert (
        limit_properties(config("cpu_weight=65535"), HOST)["CPUWeight"]
        == "10000"
    )

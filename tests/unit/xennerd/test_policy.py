# SPDX-License-Identifier: GPL-2.0-or-later
"""What a domain file's words mean for a guest that ended."""

import pytest

from xenner.types import ShutdownReason
from xenner.xlcfg import Action, DomainConfig, parse_config
from xennerd.policy import Verdict, action_for, is_too_often, verdict_for
from xennerd.slices import slice_properties
from xennerd.start import kept_warnings


def config(more: str = "") -> DomainConfig:
    return parse_config(f"name='a'\nkernel='/k'\n{more}\n", file="f")


@pytest.mark.parametrize(
    ("reason", "action"),
    [
        (ShutdownReason.POWEROFF, Action.PRESERVE),
        (ShutdownReason.REBOOT, Action.DESTROY),
        (ShutdownReason.CRASH, Action.COREDUMP_RESTART),
        (ShutdownReason.WATCHDOG, Action.COREDUMP_RESTART),
    ],
)
def test_each_end_has_its_key(reason: ShutdownReason, action: Action) -> None:
    given = config(
        "on_poweroff='preserve';on_reboot='destroy';on_crash='coredump-restart'"
    )
    assert action_for(given, reason) is action


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("destroy", Verdict()),
        ("restart", Verdict(restarts=True)),
        ("rename-restart", Verdict(keeps=True, restarts=True)),
        ("preserve", Verdict(keeps=True)),
        ("coredump-destroy", Verdict(dumps=True)),
        ("coredump-restart", Verdict(dumps=True, restarts=True)),
    ],
)
def test_each_word(word: str, wanted: Verdict) -> None:
    given = config(f"on_crash='{word}'")
    assert verdict_for(given, ShutdownReason.CRASH) == wanted


def test_the_brake() -> None:
    starts = [100.0, 101.0, 102.0, 103.0, 104.0]
    assert is_too_often(starts, now_s=105.0)
    assert not is_too_often(starts, now_s=161.0)
    assert not is_too_often(starts[1:], now_s=105.0)


def test_limits() -> None:
    assert slice_properties(config("memory=320")) == {
        "CPUWeight": "100",
        "CPUQuota": "",
        "AllowedCPUs": "",
        "MemoryMax": "426M",
        "MemorySwapMax": "0",
    }
    given = config("cpu_weight=1;cap=50;cpus='0-2,^1'")
    properties = slice_properties(given)
    assert properties["CPUWeight"] == "1"
    assert properties["CPUQuota"] == "50%"
    assert properties["AllowedCPUs"] == "0,2"
    assert slice_properties(config("cpu_weight=65535"))["CPUWeight"] == "10000"


def test_no_dead_domain_stays() -> None:
    assert kept_warnings(config()) == []
    assert kept_warnings(config("on_crash='preserve'")) == [
        "on_crash: preserve: the dead domain does not stay"
    ]

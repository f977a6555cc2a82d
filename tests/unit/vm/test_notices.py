# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of a KVM that lacks what the guest wants."""

import logging

import pytest

from xenner import abi
from xennerd.vm.notices import EmuLines, Notices


def test_once(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for _ in range(3):
        notices.perform(abi.EMU_NOTICE_BREAKPOINTS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "hardware breakpoint" in caplog.text


def test_each_is_said(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for _ in range(2):
        notices.perform(abi.EMU_NOTICE_NARROW_CODE)
        notices.perform(abi.EMU_NOTICE_BREAKPOINTS)
    assert len(caplog.records) == 2
    assert "32-bit program" in caplog.records[0].getMessage()


def test_unknown_number_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Notices().perform(0xFFFFFFFF)
    assert not caplog.records


def test_emu_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = EmuLines()
    for _ in range(100):
        lines.write(b"x\n" * 100)
    assert 200 <= len(caplog.records) < 5000

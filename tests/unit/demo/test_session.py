# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo tells a whole session from a broken one."""

import io
import json
import time

import pytest

from demo.__main__ import DemoError, copy_console, read_statistics


def test_whole_session(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console = b"[ 0.0] boot\r\nXENNER-INIT\r\nuname\r\n== end\r\n"
    times = copy_console(io.BytesIO(console), time.monotonic())
    assert times.is_whole
    assert times.init_s is not None
    assert times.init_s >= 0
    assert capfdbinary.readouterr().out == console


@pytest.mark.parametrize(
    ("console", "has_init"),
    [
        (b"", False),
        (b"Kernel panic\r\n", False),
        (b"XENNER-INIT\r\n== uname\r\n", True),
        # Only at the start of a line is it init that speaks.
        (b"command line: XENNER-INIT == end\r\n", False),
    ],
)
def test_broken_session(
    console: bytes, has_init: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    times = copy_console(io.BytesIO(console), time.monotonic())
    assert not times.is_whole
    assert (times.init_s is not None) == has_init
    assert capfdbinary.readouterr().out == console


def test_statistics_are_the_last_json_line() -> None:
    lines = ["xenner: a warning", json.dumps({"traps": 1}), '{"traps": 7}']
    assert read_statistics("\n".join(lines)) == 7


def test_no_statistics() -> None:
    with pytest.raises(DemoError, match="no statistics"):
        read_statistics("xenner: a warning\n")

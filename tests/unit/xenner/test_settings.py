# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemons' file: what it can say, and what it says of what is wrong."""

from __future__ import annotations

import logging
import re
from dataclasses import fields
from pathlib import Path

import pytest

from xenner.errors import ConfigError
from xenner.settings import (
    Console,
    EvtchndSettings,
    GuestSettings,
    Level,
    Log,
    Settings,
    StoreSettings,
    load_settings,
    parse_settings,
)

MANUAL = Path(__file__).resolve().parents[3] / "docs/man/xenner.toml.5"
ALL = """\
[log]
level = "warning"
[evtchnd]
max_fds = 4096
trust_uids = [1000, 1001]
[store]
program = "/usr/sbin/oxenstored"
sync = true
[guests]
console = "xenconsoled"
console_to_journal = true
"""


def test_all_of_it() -> None:
    settings = parse_settings(ALL, file="x")
    assert settings == Settings(
        log=Log(Level.WARNING),
        evtchnd=EvtchndSettings(4096, (1000, 1001)),
        store=StoreSettings("/usr/sbin/oxenstored", sync=True),
        guests=GuestSettings(Console.XENCONSOLED, console_to_journal=True),
    )
    assert settings.level == logging.WARNING


def test_nothing_is_the_default(tmp_path: Path) -> None:
    assert parse_settings("# nothing\n", file="x") == Settings()
    assert Settings().level == logging.INFO
    file = tmp_path / "xenner.toml"
    file.write_text(ALL)
    environment = {"XENNER_CONFIG": str(file)}
    assert load_settings(environment) == parse_settings(ALL, file="x")
    file.unlink()
    with pytest.raises(ConfigError, match=r"xenner\.toml: there is no such"):
        load_settings(environment)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[log]\n\nlevle = 'info'\n",
            "x:3: log.levle: unknown; there are level",
        ),
        ("[log]\nlevel = 'loud'\n", "x:2: log.level: one of debug, info"),
        ("[log]\nlevel = 5\n", "x:2: log.level: one of debug"),
        ("\n[qdisk]\n", r"x:2: qdisk: unknown; there are \[log\], "),
        ("log = 1\n", r"x:1: log: is a table, \[log\]"),
        ("log.level = 1\n", "x:1: log.level: one of"),
        ("[evtchnd]\nmax_fds = -1\n", "x:2: evtchnd.max_fds: a whole number"),
        ("[evtchnd]\nmax_fds = true\n", "x:2: evtchnd.max_fds: a whole"),
        ("[evtchnd]\ntrust_uids = 5\n", "x:2: evtchnd.trust_uids: a list"),
        ("[evtchnd]\ntrust_uids = ['a']\n", "x:2: evtchnd.trust_uids: a list"),
        ("[store]\nsync = 1\n", "x:2: store.sync: true or false"),
        ("[store]\nprogram = 1\n", "x:2: store.program: a text"),
        ("[log]\nlevel = \n", "x:2: "),
        ("[store\n", "x:1: "),
        ("[log]\nlevel = 'info'\nlevel = 'info'\n", "x:3: "),
    ],
)
def test_what_is_wrong_and_where(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, file="x")
    assert re.match(said, str(caught.value)), caught.value


def test_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "xenner.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not a text file"):
        load_settings({"XENNER_CONFIG": str(file)})
    with pytest.raises(ConfigError, match="directory"):
        load_settings({"XENNER_CONFIG": str(tmp_path)})


def test_the_manual_has_each_key() -> None:
    text = MANUAL.read_text().replace("\\-", "-")
    for table in fields(Settings):
        assert f"[{table.name}]" in text
        for key in fields(getattr(Settings(), table.name)):
            assert re.search(rf"^\.BR? {key.name}\b", text, re.M), key.name

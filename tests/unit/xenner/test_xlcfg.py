# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain files: pairs of a file and what is read in it, in domains/."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner.errors import ConfigError
from xenner.xlcfg import Action, DomainConfig, check_name, parse_config
from xenner.xlcpus import Cpus, HostCpus, parse_cpus
from xenner.xlsyntax import quoted

DOMAINS = Path(__file__).parent / "domains"
FILES = sorted(DOMAINS.glob("*.cfg"))


def shown(config: DomainConfig) -> Iterator[str]:
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Action):
            value = str(value)
        if isinstance(value, Cpus):
            value = list(value.lists)
        if not isinstance(value, tuple):
            yield f"{field.name}={value!r}"
    for disk in config.disks:
        mode = "w" if disk.is_writable else "r"
        yield f"disk {disk.target} {disk.vdev} {disk.devid} {mode}"
    for vif in config.vifs:
        words = (vif.mac, vif.bridge, " ".join(vif.ips), vif.script)
        yield f"vif {vif.devid} " + " ".join(word or "-" for word in words)
    for warning in config.warnings:
        yield f"warning {warning}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file(path: Path) -> None:
    try:
        found = list(shown(parse_config(path.read_text(), file="f")))
    except ConfigError as error:
        found = [f"error {error}"]
    assert found == path.with_suffix(".out").read_text().splitlines()


def test_each_file_has_its_other_half() -> None:
    halves = {path.stem for path in DOMAINS.glob("*.out")}
    assert halves == {path.stem for path in FILES}
    assert halves


MINIMAL = "name='a'\nkernel='/k'\n"


def test_the_command_line_wins() -> None:
    config = parse_config(
        MINIMAL + "memory=64\n", file="f", extra="memory=128\nfoo=1"
    )
    assert config.memory_mib == 128
    assert config.warnings == ("command line: foo: an unknown key",)


def test_errors_of_the_command_line_name_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL, file="f", extra="memory=0")
    assert str(caught.value) == "command line: memory 0: must be 1 to 131072"


def test_a_file_without_a_name_may_have_one_from_elsewhere() -> None:
    assert parse_config("kernel='/k'", file="f", default_name="7").name == "7"
    assert parse_config(MINIMAL, file="f", default_name="7").name == "a"


HOST = HostCpus(
    frozenset(range(8)), {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0-3,^1", {0, 2, 3}),
        ("all,^0", {1, 2, 3, 4, 5, 6, 7}),
        ("^0,all", None),
        ("0,all", None),
        ("node:1", {4, 5, 6, 7}),
        ("nodes:0-1,^node:0,1", {1, 4, 5, 6, 7}),
        ("nodes:0,^3", {0, 1, 2}),
        ("all,^nodes:1,^0-1", {2, 3}),
        ("node:all", None),
        (" 2 , 3 ", {2, 3}),
        ("7-9", {7}),
        ("1,node:5", {1}),
    ],
)
def test_lists_of_cpus(text: str, wanted: set[int] | None) -> None:
    """xl.cfg(5), cpus; what the host has not is passed over."""
    found = Cpus((text,)).on(HOST)
    assert found == (None if wanted is None else frozenset(wanted))


@pytest.mark.parametrize(
    "text",
    ["", ",", "^1", "^node:0", "1,^1", "x", "^all", "^node:all", "3-1"]
    + ["node", "1-", "node:", "10000", "nodes:1-0", "-1"],
)
def test_what_is_no_list_of_cpus(text: str) -> None:
    with pytest.raises(ValueError):
        parse_cpus(text)


@pytest.mark.parametrize("text", ["8", "all,^0-7", "node:2", "node:0,^0-3"])
def test_a_list_that_leaves_none_on_this_host(text: str) -> None:
    with pytest.raises(ValueError, match="none of the CPUs"):
        Cpus((text,)).on(HOST)


def test_lists_for_each_vcpu_are_for_all() -> None:
    assert Cpus(("0,^1", "1", "all,^0-5")).on(HOST) == frozenset({0, 1, 6, 7})
    config = parse_config(
        "name='a'\nkernel='/k'\ncpus=['all,^0', '0']", file="f"
    )
    assert config.cpus is not None
    assert config.cpus.on(HOST) is None


@pytest.mark.parametrize(
    "name", ["t~x", "web+1", "a@b", "it's", "-x", "\u00e4"]
)
def test_names_that_xl_takes(name: str) -> None:
    check_name(name)
    text = f"name={quoted(name)}\nkernel='/k'"
    assert parse_config(text, file="f").name == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/b", "part of a path"),
        ("..", "part of a path"),
        ("", "part of a path"),
        ("a b", "a blank"),
        ("a\tb", "a blank"),
        ("a\u00a0b", "a blank"),
        ("a\x7f", "a control character"),
        ("\udc80", "a control character"),
        ("~" * 51, "too long for a unit's"),
        ("x" * 201, "too long for a unit's"),
    ],
)
def test_names_that_could_not_be_found_again(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_name(name)


_KEYS = st.sampled_from(
    """name uuid type kernel memory maxmem vcpus cpus cpu_weight cap disk vif
    on_crash pci foo root""".split()
)
_ATOMS = st.sampled_from(
    ["'a'", "''", "1", "0x", "089", "'/a,raw,xvda'", "'mac=1'", "99999999999"]
)
_VALUES = _ATOMS | st.lists(_ATOMS, max_size=3).map(
    lambda a: f"[{','.join(a)}]"
)
_SETTINGS = st.tuples(_KEYS, _VALUES).map(lambda pair: f"{pair[0]}={pair[1]}\n")


@given(st.lists(_SETTINGS, max_size=8).map("".join))
def test_any_file_is_read_or_refused(text: str) -> None:
    fault = None
    try:
        config = parse_config(MINIMAL + text, file="f")
    except ConfigError as error:
        fault = error
    if fault is None:
        assert config.memory_mib >= 1
    else:
        assert fault.file == "f"
        assert "\n" not in str(fault)


@pytest.mark.parametrize("keys", ["cpus='all'; cpu='3'", "cpus=['1', 'all']"])
def test_all_cpus_are_all(keys: str) -> None:
    """And no key beside is called unknown."""
    config = parse_config(f"name='a'\nkernel='/k'\n{keys}\n", file="f")
    assert config.cpus is None
    assert config.warnings == ()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The words and the grammar of domain files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenner.errors import ConfigError
from xenner.xlsyntax import Atom, Items, Value, parse_assignments, quoted


def plain(value: Value) -> object:
    if isinstance(value, Atom):
        return value.text
    return [plain(item) for item in value.items]


def parsed(text: str) -> dict[str, object]:
    found = parse_assignments(text, file="f")
    return {key: plain(entry.value) for key, entry in found.items()}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a = 0x1f ; b='x'\n", {"a": "0x1f", "b": "x"}),
        ("# all\na='#1' # b=2\n", {"a": "#1"}),
        ("a=1\na=2", {"a": "2"}),
        (r"a='it\'s'", {"a": "it's"}),
        (r'a="\x41\101\n\\"', {"a": "AA\n\\"}),
        ("a=[]", {"a": []}),
        ("a=[ 'x',\n 'y', # last\n]", {"a": ["x", "y"]}),
        ("a=[['x'],'y']", {"a": [["x"], "y"]}),
        ("a='x'\na+='y'", {"a": "xy"}),
        ("a=['x']\na+=['y']", {"a": ["x", "y"]}),
        ("a+=['y']", {"a": ["y"]}),
        ("a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
        ("a=1 # no newline", {"a": "1"}),
    ],
)
def test_what_xl_reads(text: str, wanted: dict[str, object]) -> None:
    assert parsed(text) == wanted


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a", 1, "'=' after a is expected, not the end of the file"),
        ("a=\nb=1", 1, "a value"),
        ("a=1 b=2", 1, "the end of the line is expected, not 'b'"),
        ("x=1\na='y\n", 2, "no end on its line"),
        ("a=['x'\n'y']", 2, "',' or ']'"),
        ("a=['x',", 1, "the end of the file"),
        ("a=true", 1, "strings stand in quotes"),
        ("import os\n", 1, "'=' after import"),
        ("\na=(1)", 2, "Python"),
        (r"a='\q'", 1, r"\q means nothing"),
        ("a=[]\na+='x'", 2, "adds a list to a list"),
        ("a=" + "[" * 50, 1, "a value"),
        ("\x00", 1, "cannot stand here"),
    ],
)
def test_what_xl_refuses(text: str, line: int, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignments(text, file="f")
    assert (caught.value.file, caught.value.line) == ("f", line)
    assert part in caught.value.text


def test_values_know_their_lines() -> None:
    entry = parse_assignments("\na=[\n'x',\n'y']", file="f")["a"]
    assert isinstance(entry.value, Items)
    assert entry.line == 2
    assert [item.line for item in entry.value.items] == [3, 4]


@given(st.text(alphabet="ab='\"[],;#\\\n\r +0x1.", max_size=60) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    fault = None
    found = {}
    try:
        found = parse_assignments(text, file="f")
    except ConfigError as error:
        fault = error
    assert all(key == entry.key for key, entry in found.items())
    if fault is not None:
        assert fault.line is not None
        assert 1 <= fault.line <= text.count("\n") + 1
        assert "\n" not in str(fault)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_quoted_string_comes_back(text: str) -> None:
    assert parsed(f"a={quoted(text)}") == {"a": text}

# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax of xl's domain files: text to assignments. Pure.

Words and grammar are those of Xen's libxlu_cfg_l.l and libxlu_cfg_y.y. What a
key means is xlcfg.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from xenner.errors import ConfigError

_TOKEN = re.compile(
    r"""
    (?P<space>   [ \t\r]+ )
  | (?P<newline> \n | \#[^\n]*(?:\n|\Z) )
  | (?P<ident>   [a-z][._0-9a-z]* )
  | (?P<number>  [0-9][0-9a-fx]* )
  | (?P<string>  '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
  | (?P<mark>    \+= | [=,;\[\]] )
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_LETTERS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
# Deeper lists mean nothing to anybody, and recursion has an end.
_MAX_DEPTH = 8
_MAX_CHARS = 1 << 20


@dataclass(frozen=True, slots=True)
class Atom:
    """A string or a number, which is a string as well, and its line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list in brackets, and the line on which it starts."""

    items: tuple[Value, ...]
    line: int


Value = Atom | Items


@dataclass(frozen=True, slots=True)
class Assignment:
    """`key = value`, or `key += value` already added up."""

    key: str
    value: Value
    line: int


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def parse_assignments(text: str, *, file: str) -> dict[str, Assignment]:
    """The assignments of a file by key; the last one of a key counts.

    ConfigError with `file` and the line for what xl would not read.
    """
    if len(text) > _MAX_CHARS:
        raise ConfigError("too long for a domain file", file=file)
    return _Parser(list(_tokens(text, file)), file).assignments()


def quoted(text: str) -> str:
    """A string as a domain file has it; of one line."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _tokens(text: str, file: str) -> Iterator[_Token]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ConfigError(_complaint(text, at), file=file, line=line)
        kind = str(match.lastgroup)
        if kind != "space":
            name = match[0] if kind == "mark" else kind
            yield _Token(name, match[0], line)
        line += match[0].count("\n")
        at = match.end()
    yield _Token("end", "", line)


def _complaint(text: str, at: int) -> str:
    rest = text[at:].split("\n", 1)[0]
    if rest[0] in "'\"":
        return "the string has no end on its line"
    if not rest[0].isprintable():
        return f"{rest[0]!r} cannot stand here"
    hint = ""
    if rest[0] in "+-.():":
        hint = " (Python in domain files went with xm)"
    return f"{rest.split()[0][:40]!r} is neither key nor value{hint}"


def _unquoted(token: _Token, file: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        code = match[1]
        if code in _LETTERS:
            return _LETTERS[code]
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code.isdigit():
            return chr(int(code, 8) & 0xFF)
        if code in "\\'\"":
            return code
        raise ConfigError(
            f"\\{code} means nothing in a string", file=file, line=token.line
        )

    return _ESCAPE.sub(replaced, token.text[1:-1])


class _Parser:
    """Recursive descent over the tokens, of which the last is "end"."""

    def __init__(self, tokens: list[_Token], file: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._file = file

    def assignments(self) -> dict[str, Assignment]:
        found: dict[str, Assignment] = {}
        while (token := self._take()).kind != "end":
            if token.kind in ("newline", ";"):
                continue
            if token.kind != "ident":
                raise self._error(token, "a key")
            found[token.text] = self._assignment(token, found.get(token.text))
            if self._peek().kind not in ("newline", ";", "end"):
                raise self._error(self._peek(), "the end of the line")
        return found

    def _assignment(self, key: _Token, before: Assignment | None) -> Assignment:
        operator = self._take()
        if operator.kind not in ("=", "+="):
            raise self._error(operator, f"'=' after {key.text}")
        value = self._value(0)
        if operator.kind == "+=" and before is not None:
            value = self._sum(before.value, value)
        return Assignment(key.text, value, key.line)

    def _sum(self, first: Value, second: Value) -> Value:
        if isinstance(first, Items) and isinstance(second, Items):
            return Items(first.items + second.items, first.line)
        if isinstance(first, Atom) and isinstance(second, Atom):
            return Atom(first.text + second.text, second.line)
        raise ConfigError(
            "+= adds a list to a list or a string to a string",
            file=self._file,
            line=second.line,
        )

    def _value(self, depth: int) -> Value:
        token = self._take()
        if token.kind == "string":
            return Atom(_unquoted(token, self._file), token.line)
        if token.kind == "number":
            return Atom(token.text, token.line)
        if token.kind != "[" or depth == _MAX_DEPTH:
            raise self._error(token, "a value (strings stand in quotes)")
        items: list[Value] = []
        self._skip_newlines()
        while self._peek().kind != "]":
            items.append(self._value(depth + 1))
            self._skip_newlines()
            if self._peek().kind != ",":
                break
            self._take()
            self._skip_newlines()
        closing = self._take()
        if closing.kind != "]":
            raise self._error(closing, "',' or ']'")
        return Items(tuple(items), token.line)

    def _skip_newlines(self) -> None:
        while self._peek().kind == "newline":
            self._take()

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _error(self, token: _Token, wanted: str) -> ConfigError:
        is_shown = token.kind not in ("newline", "end")
        found = (
            repr(token.text[:40]) if is_shown else f"the {_ENDS[token.kind]}"
        )
        return ConfigError(
            f"{wanted} is expected, not {found}",
            file=self._file,
            line=token.line,
        )


_ENDS = {"newline": "end of the line", "end": "end of the file"}

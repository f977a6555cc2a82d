# SPDX-License-Identifier: GPL-2.0-or-later
"""Cuts a byte stream into JSON texts, which need nothing between them. Pure."""

_QUOTE, _BACKSLASH, _NEWLINE = b'"\\\n'
_OPEN, _CLOSE = b"{[", b"}]"


class TooLongError(Exception):
    """A text has no end within the bound."""


class JsonSplitter:
    """Feed it what arrives; it gives back what may be whole JSON texts.

    An object or array ends with its last bracket; anything else with the
    line, and so does a string that a line's end interrupts: what is no JSON
    at all comes out as well, for somebody to complain of.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._text = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes) -> list[bytes]:
        """The texts that end in `data`; TooLongError if one never does."""
        texts = []
        for byte in data:
            self._text.append(byte)
            if self._ends_with(byte):
                text = bytes(self._text).strip()
                if text:
                    texts.append(text)
                self._reset()
            elif len(self._text) > self._max_bytes:
                raise TooLongError
        return texts

    def _reset(self) -> None:
        self._text.clear()
        self._depth = 0
        self._in_string = self._escaped = False

    def _ends_with(self, byte: int) -> bool:
        if self._in_string:
            if byte == _NEWLINE:
                return True
            if self._escaped:
                self._escaped = False
            elif byte == _BACKSLASH:
                self._escaped = True
            elif byte == _QUOTE:
                self._in_string = False
            return False
        if byte == _NEWLINE:
            return self._depth == 0
        if byte == _QUOTE:
            self._in_string = True
        elif byte in _OPEN:
            self._depth += 1
        elif byte in _CLOSE:
            self._depth -= 1
            return self._depth <= 0
        return False

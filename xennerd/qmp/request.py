# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP's requests: their form, their arguments, what is said of wrong ones.

Pure. The classes of errors are those of QEMU's qapi/error.json; the texts are
in its manner, for clients that show or compare them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ErrorClass(StrEnum):
    """QapiErrorClass."""

    GENERIC = "GenericError"
    COMMAND_NOT_FOUND = "CommandNotFound"
    DEVICE_NOT_ACTIVE = "DeviceNotActive"
    DEVICE_NOT_FOUND = "DeviceNotFound"


class QmpError(Exception):
    """The error object that a client gets."""

    def __init__(
        self, text: str, *, kind: ErrorClass = ErrorClass.GENERIC
    ) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Request:
    """A command's name and its arguments, which nobody has checked yet."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a command takes under one name."""

    kind: type
    is_optional: bool = False


_KIND_NAMES = {int: "integer", bool: "boolean", str: "string", list: "array"}


def parse_text(text: bytes) -> Any:
    """A JSON value of at most a few thousand levels; QmpError if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise QmpError("JSON parse error") from None


def parse_request(value: object) -> Request:
    """What a client asks for. QmpError: it is no request."""
    if not isinstance(value, dict):
        raise QmpError("QMP input must be a JSON object")
    for name, member in value.items():
        if name == "execute":
            if not isinstance(member, str):
                raise QmpError("QMP input member 'execute' must be a string")
        elif name == "arguments":
            if not isinstance(member, dict):
                raise QmpError("QMP input member 'arguments' must be an object")
        elif name != "id":
            raise QmpError(f"QMP input member '{name}' is unexpected")
    if "execute" not in value:
        raise QmpError("QMP input lacks member 'execute'")
    return Request(value["execute"], value.get("arguments", {}))


def check_arguments(
    arguments: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> None:
    """QmpError for what is missing, unknown or of the wrong type."""
    for name, parameter in parameters.items():
        if name not in arguments:
            if not parameter.is_optional:
                raise QmpError(f"Parameter '{name}' is missing")
        # JSON has no bool among its numbers, Python has.
        elif type(arguments[name]) is not parameter.kind:
            raise QmpError(
                f"Invalid parameter type for '{name}', expected: "
                f"{_KIND_NAMES[parameter.kind]}"
            )
    for name in arguments:
        if name not in parameters:
            raise QmpError(f"Parameter '{name}' is unexpected")


def command_not_found(name: str) -> QmpError:
    """The error for a name that no command has."""
    return QmpError(
        f"The command {name} has not been found",
        kind=ErrorClass.COMMAND_NOT_FOUND,
    )

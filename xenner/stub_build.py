# SPDX-License-Identifier: GPL-2.0-or-later
"""Write down what a module of cffi's has, so that a misspelt name is an error.

    stub_build.py MODULE LIBRARY.so STUB.pyi [CONSTANTS.py]

The stub is for mypy, to which `lib` would be anything. CONSTANTS.py has the
numbers as names of its own, for a module that is to have them.
"""

import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

_PRIMITIVES = {
    "_Bool": "bool",
    "char": "bytes",
    "double": "float",
    "float": "float",
}
"""What is no integer of C's primitive types."""


_STUB_HEAD = """\
from typing import Any, Final

ffi: Any

class _Lib:
"""


def _load(name: str, library: str) -> Any:
    loader = ExtensionFileLoader(name, library)
    spec = spec_from_file_location(name, library, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _type(ctype: Any) -> str:
    """What Python has for a value of a C type."""
    match ctype.kind:
        case "void":
            return "None"
        case "primitive":
            return _PRIMITIVES.get(ctype.cname, "int")
        case "enum":
            return "int"
        case _:
            return "Any"


def _member(name: str, value: Any, ffi: Any) -> str:
    """A number or a function of `lib`, as a class has it in a stub."""
    if isinstance(value, int):
        return f"    {name}: Final = {value:#x}\n"
    function = ffi.typeof(value)
    arguments = [f"_{i}: {_type(t)}" for i, t in enumerate(function.args)]
    words = ", ".join(["self", *arguments, "/"])
    return f"    def {name}({words}) -> {_type(function.result)}: ...\n"


def main() -> None:
    name, library, stub, *constants = sys.argv[1:]
    module = _load(name, library)
    members = {key: getattr(module.lib, key) for key in dir(module.lib)}
    Path(stub).write_text(
        _STUB_HEAD
        + "".join(_member(*member, module.ffi) for member in members.items())
        + "\nlib: _Lib\n"
    )
    for path in constants:
        numbers = {k: v for k, v in members.items() if isinstance(v, int)}
        Path(path).write_text(
            f'"""The numbers of {name}, written by stub_build.py."""\n\n'
            + "".join(f"{key} = {v:#x}\n" for key, v in numbers.items())
        )


if __name__ == "__main__":
    main()

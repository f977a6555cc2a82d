# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules of tests/ others may use."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePath

from tests.style.tree import TOP, files_with_suffix

# Rooms that are there for others.
_SHARED = frozenset({"support", "environments", "guests", "targets"})


def imported(path: Path) -> Iterator[PurePath]:
    """Modules of tests/ that a file imports, as paths without suffix."""
    for node in ast.walk(ast.parse((TOP / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What is taken from a room is a module of it.
            is_room = (TOP / node.module.replace(".", "/")).is_dir()
            names = [
                f"{node.module}.{alias.name}" if is_room else node.module
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "tests":
                yield PurePath(*name.split("."))


def fault(path: Path, module: PurePath) -> str:
    """What is wrong with importing it there, or nothing."""
    if module.name.startswith("test_"):
        return "is a test"
    if module.name == "conftest":
        return "is pytest's to load"
    if module.parts[1] not in _SHARED and module.parent != path.parent:
        return "is its own room's: what others need stands in tests/support"
    return ""


def test_no_test_imports_another_ones_module() -> None:
    found = {
        f"{path}: {module} {why}"
        for path in files_with_suffix(".py")
        for module in imported(path)
        if (why := fault(path, module))
    }
    assert not found, "\n".join(sorted(found))

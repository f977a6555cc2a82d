# SPDX-License-Identifier: GPL-2.0-or-later
"""Linters, formatters, types, import direction: each tool is content."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.style.tree import TOP, files_with_suffix, project_files, run_tool

_BIN = Path(sys.executable).parent


def check(*command: str) -> None:
    complaint = run_tool(*command)
    if complaint:
        pytest.fail(complaint[-6000:], pytrace=False)


def test_ruff_check() -> None:
    check(str(_BIN / "ruff"), "check", "--quiet", ".")


def test_ruff_format() -> None:
    check(str(_BIN / "ruff"), "format", "--quiet", "--diff", ".")


def test_mypy() -> None:
    check(str(_BIN / "mypy"))


def test_import_direction() -> None:
    check(str(_BIN / "lint-imports"), "--no-cache")


def test_clang_format() -> None:
    if not shutil.which("clang-format"):
        pytest.skip("tools: clang-format is not installed")
    sources = [str(path) for path in files_with_suffix(".c", ".h")]
    assert sources
    check("clang-format", "--dry-run", "-Werror", *sources)


def test_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("tools: shellcheck is not installed")
    scripts = [str(path) for path in project_files() if is_shell(path)]
    assert {"tools/setup", ".ci/run", "demo/init.sh"} <= set(scripts)
    check("shellcheck", "--external-sources", *scripts)


def is_shell(path: Path) -> bool:
    """By name, or by what its first line says that runs it."""
    if path.suffix in (".sh", ".bash"):
        return True
    with (TOP / path).open("rb") as file:
        return bool(re.match(rb"#!.*\b(?:ba|da)?sh\b", file.readline(80)))


def test_zsh_syntax() -> None:
    if not shutil.which("zsh"):
        pytest.skip("tools: zsh is not installed")
    for path in files_with_suffix(".zsh"):
        check("zsh", "-n", str(path))


def test_manual_pages() -> None:
    if not shutil.which("mandoc"):
        pytest.skip("tools: mandoc is not installed")
    pages = [str(path) for path in project_files() if path.parent.name == "man"]
    assert pages
    check("mandoc", "-T", "lint", "-W", "style", *pages)

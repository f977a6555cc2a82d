# SPDX-License-Identifier: GPL-2.0-or-later
"""Linters, formatters, types, import direction: each tool is content."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.style.tree import files_with_suffix, project_files, run_tool

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


def test_shell_syntax() -> None:
    scripts = [
        path
        for path in project_files()
        if path.suffix == ".sh" or path.parts[0] in ("tools", ".ci")
    ]
    for path in scripts:
        if path.suffix == ".sh" or path.read_bytes().startswith(b"#!/bin/bash"):
            check("bash", "-n", str(path))

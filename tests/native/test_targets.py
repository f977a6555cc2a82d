# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzz targets of tests/targets, each a few seconds from a fixed seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.targets.running import (
    CLANG,
    IN_C,
    IN_PYTHON,
    NAMES,
    from_line,
    fuzz,
    read_corpus,
    to_line,
    unpack,
)

# As many as are done in a second.
_RUNS_IN_C = 200_000
_RUNS_IN_PYTHON = 10_000
_RUNS = {
    "blk_ring": 500,
    "net_rings": 8_000,
    "rings": 400,
    "storewire": 1_500,
    "xlcfg": 2_000,
    "qmp": 1_500,
}


@pytest.mark.parametrize("name", NAMES)
def test_target(name: str, tmp_path: Path) -> None:
    if name in IN_C and not shutil.which(CLANG):
        pytest.skip(f"tools: {CLANG} is not installed")
    inputs = tmp_path / "inputs"
    unpack(name, inputs)
    runs = _RUNS_IN_C if name in IN_C else _RUNS_IN_PYTHON
    runs = _RUNS.get(name, runs)
    ended = fuzz(
        name,
        tmp_path,
        *("-seed=1", f"-runs={runs}", str(inputs)),
        limit_s=300,
    )
    assert ended.status == 0, f"{ended.said[-3000:]}\n{ended.line}"


def test_each_target_in_python_has_a_name() -> None:
    from tests.targets.readers import READERS

    assert set(READERS) == set(IN_PYTHON)


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_begins_with_something(name: str) -> None:
    corpus = read_corpus(name)
    assert corpus
    assert len(corpus) == len(set(corpus))
    assert [from_line(to_line(data)) for data in corpus] == corpus

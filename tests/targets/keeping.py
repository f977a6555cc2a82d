# SPDX-License-Identifier: GPL-2.0-or-later
"""What soak has found, into the corpus: what reaches something new."""

import tempfile
from pathlib import Path

from tests.targets.running import (
    TOP,
    corpus_path,
    fuzz,
    read_corpus,
    to_line,
    unpack,
)

SOAKED = TOP / "build/soak/fuzz"


def keep(name: str) -> str:
    """Add to a target's corpus file, and say how many."""
    known = set(read_corpus(name))
    with tempfile.TemporaryDirectory() as made:
        inputs = Path(made) / "inputs"
        unpack(name, inputs)
        ended = fuzz(
            name,
            Path(made),
            *("-merge=1", str(inputs), str(SOAKED / name)),
            limit_s=3600,
        )
        new = {path.read_bytes() for path in inputs.iterdir()} - known
    if ended.status:
        return ended.said
    lines = sorted(map(to_line, new), key=len)
    with corpus_path(name).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return f"{name}: {len(lines)} more, of {len(known)}"

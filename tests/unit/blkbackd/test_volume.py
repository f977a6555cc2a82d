# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of a volume that cannot be opened."""

import errno
import os
from pathlib import Path

import pytest

from blkbackd import volume
from xenner.errors import HostError


@pytest.mark.parametrize(
    ("is_read_only", "need"), [(True, "read"), (False, "read and write")]
)
def test_who_must_be_let_in_is_named(
    is_read_only: bool, need: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, *_: bool) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Root may open everything.
    monkeypatch.setattr(volume, "_open", refuse)
    with pytest.raises(HostError) as caught:
        volume.open_volume(Path("/images/a"), is_read_only=is_read_only)
    assert caught.value.text == "/images/a: Permission denied"
    assert caught.value.hint.startswith("the user ")
    assert f" must be able to {need} it" in caught.value.hint

# SPDX-License-Identifier: GPL-2.0-or-later
"""What `xenner` looks at before it starts daemons for a guest's devices."""

from pathlib import Path

import pytest

from xenner.errors import ConfigError
from xenner.xldisk import Disk, parse_disk
from xennerd.standalone.host import check_files


def test_a_disk_that_is_not_there_is_the_command_lines_fault(
    tmp_path: Path,
) -> None:
    there = tmp_path / "a"
    there.touch()
    check_files([parse_disk(f"{there},raw,xvda,rw")])
    check_files([Disk("nbd:host:1", "xvda", 51712, is_qdisk=True)])
    with pytest.raises(ConfigError, match=r"xvdb: .*No such file"):
        check_files([parse_disk(f"{tmp_path}/b,raw,xvdb,rw")])
    with pytest.raises(ConfigError, match=r"xvdb: .*Not a directory"):
        check_files([parse_disk(f"{there}/b,raw,xvdb,rw")])

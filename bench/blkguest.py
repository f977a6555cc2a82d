# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/blk's guest: fio in a Debian on blkbackd's disks, beside fio on the
host and the same file."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.evtchn import per_trip
from bench.machines import KERNEL
from bench.results import AbsentError
from tests.support.debianguest import CMDLINE, FILES, make_debian_root
from tests.support.diskguest import WANTS_DISKS, make_initrd, serving
from tests.support.qmp import qmp
from tests.support.services import Guest, open_host

_ROOT_BYTES = 1 << 30
_XVDA, _XVDB = 51712, 51728
# To start fio costs the guest more than a thousand requests do: what a request
# costs is the difference of many and few.
_FEW, _MANY = 2000, 12000


@dataclass(frozen=True, slots=True)
class FioGuest:
    """A running guest whose /dev/xvdb is `file`."""

    guest: Guest
    monitor: Path

    def fio(self, *options: str) -> dict[str, Any]:
        """The first job of its report."""
        said = self.guest.do(f"fio --name=ours {' '.join(options)}")
        job: dict[str, Any] = json.loads(said[said.index("{") :])["jobs"][0]
        return job

    def per_request(self, *options: str) -> dict[str, float]:
        """What a request costs in traps and exits, per_trip()'s."""
        few = self._cost(_FEW, *options)
        many = self._cost(_MANY, *options)
        count = _MANY - _FEW
        return {
            name: round((many[name] - few[name]) / count, 3) for name in few
        }

    def _cost(self, count: int, *options: str) -> dict[str, float]:
        before = self._statistics()
        self.fio(f"--number_ios={count}", *options)
        return per_trip(before, self._statistics(), 1)

    def _statistics(self) -> dict[str, Any]:
        with qmp(self.monitor) as ask:
            return ask("x-xenner-statistics")["return"]


@contextmanager
def open_guest(file: Path) -> Iterator[FioGuest]:
    """Debian with fio, `file` as its second disk. AbsentError."""
    if not os.access("/dev/kvm", os.W_OK):
        raise AbsentError("no usable /dev/kvm")
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise AbsentError("Debian's root takes root and mmdebstrap")
    with (
        tempfile.TemporaryDirectory(prefix="xenner-bench.") as files,
        tempfile.TemporaryDirectory(dir="/dev/shm") as runtime,
    ):
        root = Path(files) / "root"
        root.touch()
        os.truncate(root, _ROOT_BYTES)
        make_debian_root(root)
        initrd = make_initrd(Path(files), KERNEL, FILES)
        monitor = Path(runtime) / "monitor"
        with (
            open_host(Path(runtime), KERNEL, initrd) as host,
            serving(host) as disks,
        ):
            options = ("-m", "256", "-monitor", f"unix:{monitor}")
            guest = host.boot(*options, cmdline=CMDLINE, is_up=False)
            guest.wait_for(WANTS_DISKS)
            disks.plug(_XVDA, "xvda", root)
            guest.wait_for("XENNER-INIT")
            disks.plug(_XVDB, "xvdb", file)
            guest.do("until [ -b /dev/xvdb ]; do sleep 0.1; done")
            yield FioGuest(guest, monitor)
            guest.type("poweroff")
            guest.end()

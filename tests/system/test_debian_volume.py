# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian lives on a logical volume: the units, the kernel, the disk are all
the real ones."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.diskguest import file_in, is_clean, make_initrd
from tests.system.commands import output_of, run

pytestmark = [pytest.mark.kvm, pytest.mark.environments("machine")]

DOMID = 363
UNIT = f"xenner@{DOMID}.service"
FILE = Path(f"/etc/xenner/{DOMID}.cfg")
KERNEL = Path(__file__).resolve().parents[2] / "build/debian/vmlinuz"
# The units have a /tmp of their own.
IMAGES = Path("/var/lib/xenner-test")
LV, OTHER = Path("/dev/lab/debian"), Path("/dev/lab/other")
UNITS = ("xenstored.service", "blkbackd.service")
# As large as the disk that is copied to it, and what it becomes.
SIZE_MIB, LATER_MIB = 3072, 3200
READY = "the other disk is there"
POOL_MIB, GONE_MIB = 2048, 16
# To boot with systemd takes minutes here: the same system does without.
INIT = f"""\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin
dd if=/dev/urandom of=/var/data bs=1M count=1
sha256sum </var/data >/var/sum
dd if=/dev/zero of=/var/gone bs=1M count={GONE_MIB}
sync
rm /var/gone
fstrim -v / >/var/trim
echo {READY} | dd of=/dev/xvdb bs=4k conv=sync oflag=direct
until grep -qx {LATER_MIB << 11} /sys/block/xvda/size; do sleep 0.1; done
dd if=/dev/xvdb of=/dev/null count=8 iflag=direct || echo lost >/var/other
mount -o remount,ro /
poweroff -ff
"""


@pytest.fixture
def services() -> Iterator[None]:
    """Those that a guest needs; they start meanwhile."""
    output_of("systemctl", "start", "--no-block", *UNITS)
    yield
    run("systemctl", "stop", UNIT)
    # Others look whether any has failed.
    run("systemctl", "reset-failed", UNIT)
    # What the guest's unit has pulled in as well.
    daemons = ("xennerd", "netbackd", "evtchnd.socket", "evtchnd")
    output_of("systemctl", "stop", *UNITS, *daemons)


@pytest.fixture
def volume(services: None) -> Iterator[Path]:
    """A thin one, with this machine's own root, which is Debian's."""
    output_of(
        *("lvcreate", "--quiet", "--type", "thin", "--thinpool", "pool"),
        *("--chunksize", "1m", "--zero", "n", "--size", f"{POOL_MIB}m"),
        *("--virtualsize", f"{SIZE_MIB}m", "--name", LV.name, "lab"),
    )
    output_of(
        *("lvcreate", "--quiet", "--wipesignatures", "n", "--size", "8m"),
        *("--name", OTHER.name, "lab"),
    )
    output_of(
        *("dd", "if=/dev/vda", f"of={LV}", "bs=1M", "status=none"),
        *("iflag=direct", "oflag=direct", "conv=sparse"),
    )
    yield LV
    run("systemctl", "stop", UNIT)
    output_of("lvremove", "--yes", "--quiet", str(OTHER), "lab/pool")


@pytest.fixture
def guest_file(tmp_path: Path) -> Iterator[None]:
    IMAGES.mkdir()
    initrd = make_initrd(tmp_path, KERNEL, {"proof": INIT.encode()})
    shutil.copy(initrd, IMAGES / "initrd")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(
        f"name = 'debian'\nkernel = '{KERNEL}'\nmemory = 192\n"
        f"ramdisk = '{IMAGES}/initrd'\n"
        "extra = 'root=/dev/xvda init=/run/proof console=hvc0 panic=-1'\n"
        f"disk = ['phy:{LV},xvda,w', 'phy:{OTHER},xvdb,w']\n"
    )
    yield
    FILE.unlink()
    shutil.rmtree(IMAGES)


def _used_mib() -> float:
    text = output_of("lvs", "--noheadings", "-odata_percent", "lab/pool")
    return float(text) * POOL_MIB / 100


def _wait(condition: str) -> None:
    """A loop's head in shell; the guest's end is always the end of it."""
    run(
        *("timeout", "200", "sh", "-c"),
        f"{condition}; do systemctl --quiet is-active {UNIT} || exit; "
        "sleep 0.2; done",
    )


def _journal(unit: str) -> str:
    output_of("journalctl", "--sync")
    return output_of("journalctl", "--boot", "--output=cat", f"--unit={unit}")


def test_debian_on_a_thin_volume(volume: Path, guest_file: None) -> None:
    used_mib = _used_mib()
    output_of("systemctl", "start", UNIT)
    _wait(f"until dd if={OTHER} bs=4k count=1 iflag=direct | grep '{READY}'")
    # That one is lost, as with a wire that is pulled; the root grows, and the
    # guest goes on when it sees it.
    output_of("dmsetup", "wipe_table", "--noflush", f"lab-{OTHER.name}")
    output_of("lvextend", "--quiet", "--size", f"{LATER_MIB}m", str(volume))
    _wait("while :")
    events = _journal(UNIT)
    assert "has ended: poweroff" in events, events + _journal(UNITS[1])
    assert is_clean(volume)
    data = file_in(volume, "/var/data")
    assert len(data) == 1 << 20
    digest = hashlib.sha256(data).hexdigest()
    assert file_in(volume, "/var/sum").decode().split()[0] == digest
    assert b"trimmed" in file_in(volume, "/var/trim")
    assert file_in(volume, "/var/other") == b"lost\n"
    assert "Input/output error" in _journal(UNITS[1])
    # What it has freed, /var/gone, came back.
    assert _used_mib() < used_mib + GONE_MIB / 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""What domains use between two moments, and how it is shown."""

from dataclasses import replace

from tests.unit.xennerd.topsample import BEFORE, HOST, WEB
from xenner.types import Domid
from xennerd.ctl.top import Sample, lines, rows


def test_of_one_moment() -> None:
    host, web = rows(None, BEFORE)
    assert (host.name, host.nr_vbds, host.nr_vifs) == ("Domain-0", 0, 0)
    assert (web.cpu_s, web.cpu_percent) == (10.0, 0.0)
    assert (web.memory_kib, web.memory_percent) == (512 << 10, 12.5)
    assert (web.nr_vbds, web.vbd_oo, web.vbd_reads, web.vbd_writes) == (
        *(1, 2),
        *(3, 1),
    )
    assert (web.vbd_read_sectors, web.vbd_write_sectors) == (8, 1)
    assert (web.nr_vifs, web.tx_kib, web.rx_kib) == (2, 5, 1)


def test_between_two() -> None:
    later = Sample(104.0, (HOST, replace(WEB, cpu_s=13.0)), {}, {})
    assert rows(BEFORE, later)[1].cpu_percent == 75.0
    # A guest that has rebooted begins with none, and has used no less.
    again = Sample(104.0, (HOST, replace(WEB, cpu_s=0.5)), {}, {})
    assert rows(BEFORE, again)[1].cpu_percent == 0.0
    new = Sample(104.0, (HOST, replace(WEB, domid=Domid(8))), {}, {})
    assert rows(BEFORE, new)[1].cpu_percent == 0.0
    same = rows(BEFORE, BEFORE)[1]
    assert same.cpu_percent == 0.0


def test_the_table_is_xentops() -> None:
    head, host, web = lines(rows(None, BEFORE))
    assert head.split()[:6] == [
        *("NAME", "STATE", "CPU(sec)", "CPU(%)"),
        *("MEM(k)", "MEM(%)"),
    ]
    assert len(head.split()) == len(host.split()) == len(web.split()) == 19
    assert len(head) == len(host) == len(web)

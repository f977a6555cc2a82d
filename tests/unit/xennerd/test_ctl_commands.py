# SPDX-License-Identifier: GPL-2.0-or-later
"""xl's commands and options, each here or refused with what there is
instead."""

from __future__ import annotations

import io
import threading

import pytest

from tests.unit.xennerd.samples import WEB
from xennerd.ctl.__main__ import COMMANDS, main
from xennerd.ctl.acting import patience
from xennerd.ctl.formats import (
    Columns,
    Node,
    list_lines,
    numa_lines,
    short_uptime_lines,
)
from xennerd.ctl.unsupported import REASONS

# The names in tools/xl/xl_cmdtable.c of Xen 4.21, with those that older ones
# had.
_XLS = """
    block-attach block-detach block-list button-press cd-eject cd-insert
    channel-list claims config-update console cpupool-cpu-add
    cpupool-cpu-remove cpupool-create cpupool-destroy cpupool-list
    cpupool-migrate cpupool-numa-split cpupool-rename create debug-keys destroy
    devd dmesg domid domname dt-overlay dump-core getenforce info list
    loadpolicy mem-max mem-set migrate migrate-receive network-attach
    network-detach network-list pause pci-assignable-add pci-assignable-list
    pci-assignable-remove pci-attach pci-detach pci-list psr-cat-set
    psr-cat-show psr-cmt-attach psr-cmt-detach psr-cmt-show psr-hwinfo
    psr-mba-set psr-mba-show qemu-monitor-command reboot remus rename restore
    resume save sched-credit sched-credit2 sched-rtds set-parameters setenforce
    sharing shutdown suspend sysrq top trigger unpause uptime usb-list
    usbctrl-attach usbctrl-detach usbdev-attach usbdev-detach vcpu-list
    vcpu-pin vcpu-set vdispl-attach vdispl-detach vdispl-list vkb-attach
    vkb-detach vkb-list vm-list vncviewer vsnd-attach vsnd-detach vsnd-list
    vtpm-attach vtpm-detach vtpm-list xenstore-quota-get xenstore-quota-set
    """.split()


@pytest.mark.parametrize("name", _XLS)
def test_each_is_there_or_refused_with_a_reason(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in COMMANDS:
        assert main(["help", name]) == 0
        return
    assert main([name]) == 1
    assert capsys.readouterr().err == f"xennerctl: {name}: {REASONS[name]}\n"


def test_nothing_is_refused_that_xl_has_not() -> None:
    assert REASONS.keys() <= set(_XLS)


class Terminal(io.StringIO):
    """What a person sees."""

    def __init__(self, *, is_one: bool) -> None:
        super().__init__()
        self._is_one = is_one
        self.has_been_told = threading.Event()

    def isatty(self) -> bool:
        return self._is_one

    def flush(self) -> None:
        self.has_been_told.set()


def test_who_waits_is_told_for_whom() -> None:
    terminal = Terminal(is_one=True)
    with patience(["web", "it's"], terminal, after_s=0):
        assert terminal.has_been_told.wait(20)
    first, *_ = terminal.getvalue().splitlines()
    assert first == (
        "still waiting for web to shut down; it ends at once with "
        "xennerctl destroy web"
    )


def test_a_program_is_told_nothing() -> None:
    terminal = Terminal(is_one=False)
    with patience(["web"], terminal, after_s=0):
        pass
    assert not any(type(t) is threading.Timer for t in threading.enumerate())
    assert terminal.getvalue() == ""


def test_columns_of_list() -> None:
    header, row = list_lines(
        [WEB], Columns(has_context=True, has_pool=True, has_node=True)
    )
    assert header.endswith(
        "Time(s)   Security Label         Cpupool NODE Affinity"
    )
    assert row.endswith("               -          Pool-0 any node")


def test_short_uptime_and_nodes() -> None:
    (line,) = short_uptime_lines([WEB], "12:34:56")
    assert line.startswith(" 12:34:56 up ")
    assert line.endswith(f", {WEB.name} ({WEB.domid})")
    *_, row = numa_lines([Node(1, 2048, 1024, (20, 10))])
    assert row == "   1:      2048       1024      20,10"

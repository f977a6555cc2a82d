# SPDX-License-Identifier: GPL-2.0-or-later
"""xl's commands that are not here, and what there is instead. Pure.

They count where a name is shortened, so that a shortened name is never one
command here and another with xl.
"""

from __future__ import annotations

_SAVING = "guests cannot be saved or migrated (yet)"
_LIMITS = (
    "cpu_weight, cap and cpus in the domain's file, and systemctl reload of "
    "its unit"
)
_SCHEDULER = "the scheduler is Linux'; see " + _LIMITS
_PCI = "no PCI device can be passed to a guest of this host"
_USB = "there is no USB backend"
_TPM = "there is no TPM backend"
_DRIVE = "a drive's medium does not change; block-detach and block-attach"
_POOLS = "there are no CPU pools; " + _LIMITS
_HVM = "only PV guests run here"
_NO_XEN = "there is no hypervisor; journalctl has what the suite says"

REASONS = {
    **dict.fromkeys(
        ("save", "restore", "migrate", "migrate-receive", "remus"), _SAVING
    ),
    "vcpu-pin": _LIMITS,
    **dict.fromkeys(
        ("sched-credit", "sched-credit2", "sched-rtds"), _SCHEDULER
    ),
    **dict.fromkeys(
        (
            *("pci-attach", "pci-detach", "pci-list", "pci-assignable-add"),
            *("pci-assignable-remove", "pci-assignable-list"),
        ),
        _PCI,
    ),
    **dict.fromkeys(
        (
            *("usbctrl-attach", "usbctrl-detach", "usbdev-attach"),
            *("usbdev-detach", "usb-list"),
        ),
        _USB,
    ),
    **dict.fromkeys(("vtpm-attach", "vtpm-detach", "vtpm-list"), _TPM),
    **dict.fromkeys(("cd-insert", "cd-eject"), _DRIVE),
    **dict.fromkeys(
        (
            *("cpupool-create", "cpupool-list", "cpupool-destroy"),
            *("cpupool-rename", "cpupool-cpu-add", "cpupool-cpu-remove"),
            *("cpupool-migrate", "cpupool-numa-split"),
        ),
        _POOLS,
    ),
    **dict.fromkeys(("button-press", "trigger", "vncviewer"), _HVM),
    **dict.fromkeys(("dmesg", "debug-keys", "set-parameters"), _NO_XEN),
    "vm-list": "list -v shows UUIDs",
    "devd": "systemctl start blkbackd netbackd",
}

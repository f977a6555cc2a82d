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
_DISPLAY = "guests have a console and no screen, keyboard or sound"
_FLASK = "there is no XSM; SELinux and AppArmor of this host guard processes"
_CACHE = "the host's own: /sys/fs/resctrl, resctrl(8) or pqos(8)"
_QUOTAS = "the store's are for all guests, [store] of xenner.toml(5)"
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
    **dict.fromkeys(
        (
            *("vdispl-attach", "vdispl-detach", "vdispl-list"),
            *("vkb-attach", "vkb-detach", "vkb-list"),
            *("vsnd-attach", "vsnd-detach", "vsnd-list"),
        ),
        _DISPLAY,
    ),
    **dict.fromkeys(("getenforce", "setenforce", "loadpolicy"), _FLASK),
    **dict.fromkeys(
        (
            *("psr-hwinfo", "psr-cmt-attach", "psr-cmt-detach"),
            *("psr-cmt-show", "psr-cat-set", "psr-cat-show"),
            *("psr-mba-set", "psr-mba-show"),
        ),
        _CACHE,
    ),
    **dict.fromkeys(("xenstore-quota-get", "xenstore-quota-set"), _QUOTAS),
    **dict.fromkeys(
        ("suspend", "resume"),
        f"{_SAVING}; pause and unpause keep one in memory",
    ),
    "channel-list": "there are no channels but the console",
    "claims": "nobody claims memory; info says what is free",
    "sharing": "guests share no pages",
    "dt-overlay": "there is no device tree",
    "qemu-monitor-command": "a guest's monitor, monitor.<domid> in "
    "/run/xenner, speaks QMP to any client",
    "vm-list": "list -v shows UUIDs",
    "devd": "systemctl start blkbackd netbackd",
}

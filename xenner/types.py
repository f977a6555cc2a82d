# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers that must not be mixed up, and the closed sets of Xen's ABI."""

from enum import IntEnum
from typing import NewType

Domid = NewType("Domid", int)
"""A domain's number; 0 is the host's own."""

MAX_DOMID = 0x7FEF
"""The last that a guest can have: xen.h's DOMID_FIRST_RESERVED comes next."""

Port = NewType("Port", int)
"""An event channel port; each domain has its own numbering."""

GrantRef = NewType("GrantRef", int)
"""An index into a domain's grant table."""

Pfn = NewType("Pfn", int)
"""A page number as the guest counts its own memory, from 0."""

Mfn = NewType("Mfn", int)
"""A machine page number: guest-physical address or vmcore offset in pages."""

GuestPhys = NewType("GuestPhys", int)
"""A machine address in bytes: guest-physical for KVM, offset in the vmcore."""


class ShutdownReason(IntEnum):
    """Why a domain ended: SHUTDOWN_* of Xen's public sched.h."""

    POWEROFF = 0
    REBOOT = 1
    SUSPEND = 2
    CRASH = 3
    WATCHDOG = 4
    SOFT_RESET = 5

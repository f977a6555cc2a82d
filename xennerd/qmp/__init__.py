# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP, QEMU's machine protocol: the monitors of guests, xennerd's control."""

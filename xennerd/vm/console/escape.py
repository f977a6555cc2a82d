# SPDX-License-Identifier: GPL-2.0-or-later
"""The key that leaves a guest's console."""

LEAVE = b"\x1d"
"""Ctrl-], as in `xl console`."""

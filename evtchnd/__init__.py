# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon that owns all event channels. See docs/evtchn.md."""

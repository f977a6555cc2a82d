# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels: who may bind what. See docs/evtchn.md."""

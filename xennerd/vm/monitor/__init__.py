# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor: what can be asked of a guest's process."""

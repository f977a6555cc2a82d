# SPDX-License-Identifier: GPL-2.0-or-later
"""From a kernel image to a guest's start of day."""

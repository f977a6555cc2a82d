# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-stats: what guests do, read from outside."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands beside the daemons: xenner-stats, xenner-cleanup."""

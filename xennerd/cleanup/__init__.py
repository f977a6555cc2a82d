# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner-cleanup: what a crash left behind."""

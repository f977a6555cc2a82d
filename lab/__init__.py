# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines to test on that this one is not: see README.md."""

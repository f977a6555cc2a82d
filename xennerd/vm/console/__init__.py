# SPDX-License-Identifier: GPL-2.0-or-later
"""The console ring, and what it leads to."""

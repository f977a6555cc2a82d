# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a domain that has a file: its start, its end, its records."""

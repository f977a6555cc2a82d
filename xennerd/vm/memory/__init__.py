# SPDX-License-Identifier: GPL-2.0-or-later
"""The vmcore: a guest's memory, laid out as an ELF core."""

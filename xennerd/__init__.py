# SPDX-License-Identifier: GPL-2.0-or-later
"""xenner's supervisor and, in vm/, the process that runs one guest."""

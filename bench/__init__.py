# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: ours and a peer in turn, medians, one JSON line per case."""

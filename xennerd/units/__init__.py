# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests' units: what of xennerd's work is root's alone."""

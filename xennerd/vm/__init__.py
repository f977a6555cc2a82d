# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM process: one guest on /dev/kvm."""

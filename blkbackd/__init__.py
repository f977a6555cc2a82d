# SPDX-License-Identifier: GPL-2.0-or-later
"""blkbackd: Xen's block backend in user space."""

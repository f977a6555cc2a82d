# SPDX-License-Identifier: GPL-2.0-or-later
"""xenstore: the tree that toolstack, backends and guests share."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's xenstore: the host's, or one of its own."""

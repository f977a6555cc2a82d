# SPDX-License-Identifier: GPL-2.0-or-later
"""The xenstore nodes of a guest and its devices, as libxl writes them."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot Debian's kernel as a Xen PV guest, on the terminal or by a script."""

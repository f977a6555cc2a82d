# SPDX-License-Identifier: GPL-2.0-or-later
"""netbackd: Xen's network backend in user space, on tap devices."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""What all daemons share; knows none of them."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""What blkbackd and netbackd are alike in: the life of a device, the list of
them, the program around both, and its status."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""`xenner`: one guest from the command line, with daemons of its own."""

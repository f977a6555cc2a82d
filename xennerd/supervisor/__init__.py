# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerd: starts guests and what serves them, and sees them through."""

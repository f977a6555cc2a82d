# SPDX-License-Identifier: GPL-2.0-or-later
"""xennerd: starts guests and the daemons that serve them, and watches both."""

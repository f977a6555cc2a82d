# SPDX-License-Identifier: GPL-2.0-or-later
"""What all programs here are compiled with besides their own flags."""

import os

EXTRA_FLAGS = os.environ.get("XENNER_NATIVE_FLAGS", "").split()
"""`make coverage` has gcc count what is run."""

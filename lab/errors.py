# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with the lab itself."""


class LabError(Exception):
    """The lab could not do it; str() is for the person, first line first."""


class TimeLimitError(LabError):
    """A command or a boot did not come to its end in its time."""

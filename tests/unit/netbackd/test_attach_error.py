# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a queue's rings are not served."""

import errno
import os

import pytest

from netbackd.vif import attach_error
from xenner.errors import GuestError, HostError, ShortageError
from xenner.types import Domid


def _error(number: int) -> GuestError | HostError:
    return attach_error(Domid(7), OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESRCH])
def test_the_frontends(number: int) -> None:
    assert isinstance(_error(number), GuestError)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_this_hosts(number: int) -> None:
    """It is waited for: xenner/backend/device.py."""
    assert isinstance(_error(number), ShortageError)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a disk is not served."""

import errno
import os

import pytest

from blkbackd.vbd import attach_error
from xenner.errors import GuestError, HostError
from xenner.types import Domid


def _error(number: int) -> GuestError | HostError:
    return attach_error(Domid(7), OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESRCH])
def test_the_frontends(number: int) -> None:
    error = _error(number)
    assert isinstance(error, GuestError)
    assert str(error).startswith("domain 7: its ring cannot be had: ")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_this_hosts(number: int) -> None:
    """That of fs.aio-max-nr is EAGAIN."""
    error = _error(number)
    assert isinstance(error, HostError)
    assert "aio-max-nr" in error.hint

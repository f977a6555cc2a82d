# SPDX-License-Identifier: GPL-2.0-or-later
"""A store, and clients of it."""

from collections.abc import Iterator

import pytest

from tests.support.storeclient import Client, new_store
from xenstored.store import Store


@pytest.fixture(scope="package", autouse=True)
def _long_share() -> Iterator[None]:
    """A domain's share of a turn is over when the test says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xenstored.connection._SHARE_NS", 60_000_000_000)
        yield


@pytest.fixture
def store() -> Store:
    return new_store()


@pytest.fixture
def dom0(store: Store) -> Client:
    """A privileged client."""
    return Client(store)


@pytest.fixture
def guest(store: Store, dom0: Client) -> Client:
    """Domain 3, introduced, with a directory of its own."""
    store.introduce(3, 0x1234, 5)
    dom0.mkdir(b"/local/domain/3")
    dom0.set_perms(b"/local/domain/3", b"n3", b"r4")
    return Client.ring(store, 3)

# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a guest is waited for that was asked to power off."""

from __future__ import annotations

import pytest
import trio

from tests.support.monitor import FakeStore
from xennerd.vm import stopping

_LATE = "it has not powered off: ended"
_DEAF = "it does not hear that it is to power off: ended"


async def wait(store: FakeStore, limit_s: float = 30) -> None:
    """Returns when the guest is to be ended."""
    with trio.fail_after(60):
        await stopping.request_and_wait(
            store, limit_s=limit_s, on_request=lambda: None
        )


async def test_nobody_listens_is_ended_at_once() -> None:
    store = FakeStore(hears=False)
    await wait(store)
    assert store.asked == []


async def test_no_store_ends_at_once() -> None:
    await wait(FakeStore(gone="xenstore: gone"))


async def test_who_takes_it_has_time(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    await wait(store, 0.1)
    assert store.asked == ["poweroff"]
    assert caplog.messages == [_LATE]


async def test_who_does_not_take_it_is_ended_soon(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "HEARD_LIMIT_S", 0.1)
    store = FakeStore(takes=False)
    await wait(store)
    assert store.asked == ["poweroff"]
    assert caplog.messages == [_DEAF]

# SPDX-License-Identifier: GPL-2.0-or-later
"""trio as Debian 12 has it (0.22) and as it is now, in what differs."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

_Result = TypeVar("_Result")
# trio 0.23 gave the argument its new name.
_ABANDON = (
    "abandon_on_cancel"
    if "abandon_on_cancel"
    in inspect.signature(trio.to_thread.run_sync).parameters
    else "cancellable"
)


async def run_abandonable(
    function: Callable[..., _Result], *arguments: object
) -> _Result:
    """Run a blocking function in a thread. Cancelled, leave the thread to
    its end and its result to nobody."""
    options: dict[str, Any] = {_ABANDON: True}
    return await trio.to_thread.run_sync(function, *arguments, **options)


def run(main: Callable[[], Awaitable[_Result]]) -> _Result:
    """trio.run() whose nurseries raise groups always, as has been its default
    since 0.25."""
    return trio.run(main, strict_exception_groups=True)

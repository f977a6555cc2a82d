# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs beside the tests that people see: its output comes afterwards."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

from tests.places.summary import Ran


class Output(Protocol):
    """What is needed of a binary stream."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""

    def flush(self) -> object:
        """It is to be seen now."""


class HeldOutput:
    """Keeps what is written until show(), then passes it on as it comes. Any
    thread may."""

    def __init__(self, target: Output) -> None:
        self._target = target
        self._kept: list[bytes] | None = []
        self._lock = Lock()

    def write(self, data: bytes, /) -> None:
        """As Output says."""
        with self._lock:
            if self._kept is None:
                self._target.write(data)
            else:
                self._kept.append(data)

    def flush(self) -> None:
        """As Output says."""
        with self._lock:
            if self._kept is None:
                self._target.flush()

    def show(self) -> None:
        """What was written, and what will be."""
        with self._lock:
            for data in self._kept or ():
                self._target.write(data)
            self._target.flush()
            self._kept = None


@contextmanager
def beside(
    run: Callable[[Output], Ran], target: Output
) -> Iterator[Callable[[], Ran]]:
    """Start run(output) in a thread; the block gets what waits for its end,
    with the output shown from then on."""
    output = HeldOutput(target)
    with ThreadPoolExecutor(1) as executor:
        future: Future[Ran] = executor.submit(run, output)

        def wait() -> Ran:
            output.show()
            return future.result()

        yield wait

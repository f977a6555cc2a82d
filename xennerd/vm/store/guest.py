# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's process asks of the guest's xenstore, whoever serves it."""

from __future__ import annotations

from typing import Protocol


class GuestStore(Protocol):
    """The guest's nodes. Calls block; HostError: the store is gone."""

    def ask(self, request: str) -> None:
        """Write control/shutdown: "poweroff", "reboot" or "suspend".

        The guest's kernel takes it from there, in its own time; one that has
        not come so far yet finds it when it does.
        """

    def is_heard(self) -> bool:
        """Does the guest watch for what is asked? True: as far as is known."""

    def is_taken(self) -> bool:
        """Has the guest taken what was asked? Its kernel empties the node."""

    def set_memory_target(self, kib: int) -> None:
        """Write memory/target, which the guest follows."""

    def vbd_nodes(self) -> dict[int, dict[str, str]]:
        """By device number, what each vbd's backend says of it."""

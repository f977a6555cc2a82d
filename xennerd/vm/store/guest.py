# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's process does in the guest's xenstore: ours or another's."""

from __future__ import annotations

from typing import Protocol


class GuestStore(Protocol):
    """The guest's nodes. Calls block; HostError: the store does not answer."""

    def request_shutdown(self, request: str) -> None:
        """Write control/shutdown: "poweroff", "reboot" or "suspend".

        The guest's kernel takes the request when it has booted far enough.
        """

    def is_request_watched(self) -> bool:
        """Does the guest watch the node? True also if that is unknown."""

    def is_request_taken(self) -> bool:
        """Has the guest taken the request? Its kernel empties the node then."""

    def set_memory_target(self, kib: int) -> None:
        """Write memory/target, which the guest follows."""

    def vbd_nodes(self) -> dict[int, dict[str, str]]:
        """By device number, nodes of each vbd's backend."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the VM process finds emu."""

from importlib import resources

from xenner.errors import HostError


def emu_image() -> bytes:
    """The ELF file of emu64, as the build made it.

    HostError when this installation has none.
    """
    image = resources.files("xennerd.vm.boot").joinpath("emu64")
    try:
        return image.read_bytes()
    except FileNotFoundError:
        raise HostError(
            f"{image}: emu is not there",
            hint="build it with tools/setup, or install xenner again",
        ) from None

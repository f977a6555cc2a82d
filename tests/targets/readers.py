# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets in Python: what reads files and streams that others have made.

Each takes any bytes. What it may raise for bad ones it catches; anything else
is a finding.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from evtchnd.messages import REQUEST_BYTES, Request
from evtchnd.ports import PortError
from tests.support.storeclient import new_store
from xenner.errors import ConfigError
from xenner.xlcfg import parse_config
from xennerd.qmp.jsonstream import JsonSplitter, TooLongError
from xennerd.qmp.request import (
    Parameter,
    QmpError,
    check_arguments,
    parse_request,
    parse_text,
)
from xennerd.vm.boot.bzimage import ImageError, unwrap_kernel
from xennerd.vm.boot.elf import Elf, parse_elf
from xennerd.vm.boot.kernel import parse_kernel
from xennerd.vm.boot.notes import parse_guest_section, read_notes
from xennerd.vm.console.ring import ConsoleRing
from xenstored.control import problems
from xenstored.ring import Ring
from xenstored.wire import ProtocolError


def kernel(data: bytes) -> None:
    """A kernel file, to the plan by which it is loaded."""
    with suppress(ImageError):
        parsed = parse_kernel(data)
        assert parsed.virt_start <= parsed.entry < parsed.virt_end


def elf(data: bytes) -> None:
    with suppress(ImageError):
        for segment in parse_elf(data).segments:
            assert len(segment.data) <= segment.memsz_bytes


def bzimage(data: bytes) -> None:
    with suppress(ImageError):
        assert bytes(unwrap_kernel(data)[:4]) == b"\x7fELF"


def notes(data: bytes) -> None:
    """ELF notes, and the section that kernels had before."""
    with suppress(ImageError):
        read_notes(Elf(True, 62, 0, (), (memoryview(data),), ()))
    with suppress(ImageError):
        parse_guest_section(data)


def xlcfg(data: bytes) -> None:
    """A domain file, as it is read; it says where it is wrong."""
    try:
        config = parse_config(
            data.decode(errors="surrogateescape"), file="f", default_name="a"
        )
    except ConfigError:
        return
    assert config.name


def storewire(data: bytes) -> None:
    """A stream of a domain's, or of domain 0's, in two pieces."""
    store = new_store()
    domid = data[:1] == b"g"
    client = store.connect(int(domid), is_privileged=not domid)
    half = len(data) // 2
    with suppress(ProtocolError):
        for piece in (data[1:half], data[half:]):
            client.receive(piece)
            client.take_output()
    assert problems(store) == []


def rings(data: bytes) -> None:
    """The pages of a guest's xenstore and of its console."""
    page = bytearray(4096)
    page[: len(data)] = data[:4096]
    ring = Ring(memoryview(page))
    with suppress(ProtocolError):
        taken = ring.requests()
        assert len(taken) <= 1024
        ring.consume(len(taken))
        assert ring.put_replies(bytes(2000)) <= 1024
    ring.release()
    console = ConsoleRing(memoryview(page), 0)
    assert len(console.take_output()) <= 2048
    assert console.put_input(bytes(2000)) <= 1024
    console.release()


def qmp(data: bytes) -> None:
    """What a monitor's client sends."""
    parameters = {"id": Parameter(str, is_optional=True), "n": Parameter(int)}
    splitter = JsonSplitter(max_bytes=1000)
    with suppress(TooLongError):
        for text in splitter.feed(data):
            with suppress(QmpError):
                request = parse_request(parse_text(text))
                check_arguments(request.arguments, parameters)


def evtchnd(data: bytes) -> None:
    """A packet to evtchnd: it says the same when it is made again."""
    try:
        request = Request.parse(data)
    except PortError:
        assert len(data) != REQUEST_BYTES
    else:
        assert Request.parse(request.pack()) == request


READERS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(kernel, elf, bzimage, notes, xlcfg),
        *(storewire, rings, qmp, evtchnd),
    )
}

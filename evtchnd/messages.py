# SPDX-License-Identifier: GPL-2.0-or-later
"""abi/wire.h's messages as Python values."""

from __future__ import annotations

import errno
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

from evtchnd.ports import PortError
from xenner import abi
from xenner.abi import ffi

REQUEST_BYTES = abi.sizeof("evtchnd_request")
REPLY_BYTES = abi.sizeof("evtchnd_reply")


class Type(IntEnum):
    """EVTCHND_* requests."""

    HELLO = abi.EVTCHND_HELLO
    ALLOC_UNBOUND = abi.EVTCHND_ALLOC_UNBOUND
    BIND_INTERDOMAIN = abi.EVTCHND_BIND_INTERDOMAIN
    BIND_VIRQ = abi.EVTCHND_BIND_VIRQ
    BIND_IPI = abi.EVTCHND_BIND_IPI
    BIND_VCPU = abi.EVTCHND_BIND_VCPU
    SEND = abi.EVTCHND_SEND
    UNMASK = abi.EVTCHND_UNMASK
    STATUS = abi.EVTCHND_STATUS
    CLOSE = abi.EVTCHND_CLOSE
    RESET = abi.EVTCHND_RESET
    LINK = abi.EVTCHND_LINK
    RESTORE = abi.EVTCHND_RESTORE
    REGISTER = abi.EVTCHND_REGISTER
    UNREGISTER = abi.EVTCHND_UNREGISTER
    SHUTDOWN = abi.EVTCHND_SHUTDOWN
    RAISE_VIRQ = abi.EVTCHND_RAISE_VIRQ
    ATTACH = abi.EVTCHND_ATTACH
    DOMAIN_INFO = abi.EVTCHND_DOMAIN_INFO
    RESTRICT = abi.EVTCHND_RESTRICT


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """struct evtchnd_domain."""

    domid: int = 0
    flags: int = 0
    nr_ports: int = 0
    nr_vcpus: int = 0
    nr_pages: int = 0
    pid: int = 0
    shutdown: int = 0
    handle: bytes = bytes(16)

    def shut_down(self, reason: int) -> DomainRecord:
        """The same domain after it ended by itself."""
        flags = self.flags | abi.EVTCHND_DOMAIN_SHUTDOWN
        return replace(self, flags=flags, shutdown=reason)


@dataclass(frozen=True, slots=True)
class Request:
    """struct evtchnd_request."""

    type: int
    tag: int = 0
    dom: int = abi.EVTCHND_SELF
    port: int = 0
    remote_dom: int = 0
    remote_port: int = 0
    virq: int = 0
    vcpu: int = 0
    value: tuple[int, int] = (0, 0)
    domain: DomainRecord = DomainRecord()

    @classmethod
    def parse(cls, data: bytes) -> Request:
        """A packet; PortError(EINVAL) if it is not the structure's size."""
        if len(data) != REQUEST_BYTES:
            raise PortError(errno.EINVAL)
        raw = ffi.from_buffer("struct evtchnd_request *", data)
        numbers = {name: getattr(raw, name) for name in _REQUEST_NUMBERS}
        value = (raw.value[0], raw.value[1])
        return cls(**numbers, value=value, domain=_domain_from(raw.domain))

    def pack(self) -> bytes:
        """The packet."""
        raw = ffi.new("struct evtchnd_request *")
        for name in _REQUEST_NUMBERS:
            setattr(raw, name, getattr(self, name))
        raw.value = self.value
        _domain_into(raw.domain, self.domain)
        return bytes(ffi.buffer(raw))


@dataclass(frozen=True, slots=True)
class Reply:
    """struct evtchnd_reply."""

    type: int = 0
    tag: int = 0
    error: int = 0
    fds: int = 0
    dom: int = 0
    port: int = 0
    status: int = 0
    vcpu: int = 0
    remote_dom: int = 0
    remote_port: int = 0
    virq: int = 0
    page_kind: int = 0
    page_id: int = 0
    page_offset: int = 0
    domain: DomainRecord = DomainRecord()

    @classmethod
    def parse(cls, data: bytes) -> Reply:
        """A packet of the structure's size."""
        raw = ffi.from_buffer("struct evtchnd_reply *", data)
        numbers = {name: getattr(raw, name) for name in _REPLY_NUMBERS}
        return cls(**numbers, domain=_domain_from(raw.domain))

    def pack(self) -> bytes:
        """The packet."""
        raw = ffi.new("struct evtchnd_reply *")
        for name in _REPLY_NUMBERS:
            setattr(raw, name, getattr(self, name))
        _domain_into(raw.domain, self.domain)
        return bytes(ffi.buffer(raw))


def _numbers(of: Any, *others: str) -> tuple[str, ...]:
    return tuple(f.name for f in fields(of) if f.name not in others)


_REQUEST_NUMBERS = _numbers(Request, "value", "domain")
_REPLY_NUMBERS = _numbers(Reply, "domain")
_DOMAIN_NUMBERS = _numbers(DomainRecord, "handle")


def _domain_from(raw: Any) -> DomainRecord:
    numbers = {name: getattr(raw, name) for name in _DOMAIN_NUMBERS}
    return DomainRecord(**numbers, handle=bytes(raw.handle))


def _domain_into(raw: Any, record: DomainRecord) -> None:
    for name in _DOMAIN_NUMBERS:
        setattr(raw, name, getattr(record, name))
    raw.handle = record.handle

# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations on domains; all but the last are for privileged clients."""

import errno

from xenstored.paths import home
from xenstored.store import Client, Domain
from xenstored.transactions import Transaction
from xenstored.wire import OK, StoreError, number, one_string, strings

_DOMID_MAX = 65535
_DOMID_SELF = 0x7FF0
_PORT_MAX = (1 << 31) - 1


def domid_of(text: bytes) -> int:
    """A domain's number; StoreError (EINVAL) for anything else."""
    return number(text, most=_DOMID_MAX)


def _words(payload: bytes, *, least: int) -> list[bytes]:
    words = strings(payload)
    if len(words) < least:
        raise StoreError(errno.EINVAL)
    return words


def _introduced(connection: Client, domid: int) -> Domain:
    domain = connection.store.domains.get(domid)
    if domain is None:
        raise StoreError(errno.ENOENT)
    return domain


def introduce(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    words = _words(payload, least=3)
    domid = domid_of(words[0])
    # The frame number is signed: xenstore.txt, INTRODUCE.
    gfn = number(words[1].removeprefix(b"-"), most=(1 << 64) - 1)
    if words[1][:1] == b"-":
        gfn = -gfn
    port = number(words[2], most=_PORT_MAX)
    if port == 0:
        raise StoreError(errno.EINVAL)
    try:
        connection.store.introduce(domid, gfn, port)
    except OSError as error:
        raise StoreError(error.errno or errno.EIO) from error
    return OK


def _one_guest(connection: Client, payload: bytes) -> Domain:
    domid = domid_of(one_string(payload))
    if domid == 0:
        raise StoreError(errno.EINVAL)
    return _introduced(connection, domid)


def release(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    connection.store.release(_one_guest(connection, payload).domid)
    return OK


def resume(connection: Client, tx: Transaction | None, payload: bytes) -> bytes:
    _one_guest(connection, payload).is_shutdown = False
    return OK


def set_target(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    words = _words(payload, least=2)
    domid, target = domid_of(words[0]), domid_of(words[1])
    _introduced(connection, domid)
    _introduced(connection, target)
    connection.store.set_target(domid, target)
    return OK


def is_domain_introduced(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    domid = domid_of(one_string(payload))
    # Domain 0 is where the store itself runs.
    known = domid in (0, _DOMID_SELF) or domid in connection.store.domains
    return b"T\0" if known else b"F\0"


def get_domain_path(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    return home(domid_of(one_string(payload))) + b"\0"

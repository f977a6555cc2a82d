# SPDX-License-Identifier: GPL-2.0-or-later
"""CONTROL: what `xenstore-control` asks of a running store.

A subset of xenstored's commands; live-update, logfile and memreport are its
own affairs.
"""

import errno
import logging
from collections.abc import Callable

from xenstored.paths import joined
from xenstored.quotas import Quotas
from xenstored.store import Client, Store
from xenstored.transactions import Transaction
from xenstored.tree import walk
from xenstored.wire import OK, StoreError, number, strings

_log = logging.getLogger("xenner.store")

_QUOTA_MAX = (1 << 31) - 1


def control(
    connection: Client, tx: Transaction | None, payload: bytes
) -> bytes:
    """Run one command; EINVAL for an unknown one or a wrong parameter."""
    name, *words = strings(payload) or [b""]
    command = _COMMANDS.get(name)
    if command is None:
        raise StoreError(errno.EINVAL)
    return command[0](connection.store, words)


def _expect(words: list[bytes], nr: int) -> None:
    if len(words) != nr:
        raise StoreError(errno.EINVAL)


def _check(store: Store, words: list[bytes]) -> bytes:
    _expect(words, 0)
    for problem in problems(store):
        _log.error("check: %s", problem)
    return OK


def problems(store: Store) -> list[str]:
    """What is inconsistent in a store; nothing, if it has no bug."""
    counted: dict[int, int] = {}
    found = []
    for parts, node in walk(store.tree.root, ()):
        if not parts:
            continue
        owner = node.perms[0][0]
        counted[owner] = counted.get(owner, 0) + 1
        if b"" in parts[1:]:
            found.append(f"a node without a name: {joined(parts)!r}")
    kept = {owner: nr for owner, nr in store.tree.nr_nodes.items() if nr}
    if kept != counted:
        found.append(f"owners have {counted} nodes, {kept} are accounted for")
    return found


def _help(store: Store, words: list[bytes]) -> bytes:
    _expect(words, 0)
    lines = (
        f"{name.decode():15} {parameters}\n"
        for name, (_, parameters) in _COMMANDS.items()
    )
    return "".join(lines).encode() + b"\0"


def _set_log(store: Store, words: list[bytes]) -> bytes:
    if not words:
        state = "on" if store.is_traced else "off"
        return f"Log switch settings:\nrequests: {state}\n".encode() + b"\0"
    _expect(words, 1)
    if words[0] not in (b"on", b"off", b"+requests", b"-requests"):
        raise StoreError(errno.EINVAL)
    store.is_traced = words[0] in (b"on", b"+requests")
    return OK


def _print(store: Store, words: list[bytes]) -> bytes:
    _expect(words, 1)
    _log.info("control: %s", words[0].decode("utf-8", "backslashreplace"))
    return OK


def _quota(store: Store, words: list[bytes]) -> bytes:
    match words:
        case []:
            report = "Quota settings:\n" + store.quotas.report()
            return report.encode() + b"\0"
        case [b"set", name, value]:
            limit = number(value, most=_QUOTA_MAX)
            if limit == 0:
                raise StoreError(errno.EINVAL)
            setattr(store.quotas, Quotas.field_of(name), limit)
            return OK
        case [domid]:
            return _usage(store, number(domid, most=65535))
    raise StoreError(errno.EINVAL)


def _usage(store: Store, domid: int) -> bytes:
    domain = store.domains.get(domid)
    if domain is None:
        raise StoreError(errno.ENOENT)
    connection = domain.connection
    lines = {
        "nodes": store.nodes_of(domid, None),
        "watches": len(connection.watches),
        "transactions": len(connection.transactions),
        "output-bytes": connection.output_bytes,
    }
    report = f"Domain {domid}:\n" + "".join(
        f"{name:17}: {value:8}\n" for name, value in lines.items()
    )
    return report.encode() + b"\0"


_Command = Callable[[Store, list[bytes]], bytes]
_COMMANDS: dict[bytes, tuple[_Command, str]] = {
    b"check": (_check, ""),
    b"log": (_set_log, "[on|off|+<switch>|-<switch>]"),
    b"print": (_print, "<string>"),
    b"quota": (_quota, "[set <name> <val>|<domid>]"),
    b"help": (_help, ""),
}

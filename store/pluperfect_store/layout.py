"""
The tables of a store and the bytes of their keys: the one room that knows them.

``log`` is the truth; the tables up to ``cache`` can be projected from it again, and some of them trail
behind it (`trailing`). Integers are big-endian, so that the order of bytes is the order of numbers. No
table allows duplicate keys: what is many stands in the key itself.

=========  =========================================  ================================
table      key                                        value
=========  =========================================  ================================
log        position u64, from 1                       a record
idx        run 16, seq u32                            position u64
head       run 16                                     `pluperfect.hooks.Head`
by_state   state u8, 0 root or 1 child, born u64      run 16
by_name    name, 00, born u64                         run 16
by_tag     tag, 00, born u64                          run 16
child      parent 16, born u64                        run 16
timer      due in ms u64, run 16                      empty
cache      SHA-256 of the key's text 32               `pluperfect.hooks.Cell`
node       level u8, index u64                        the hash of a node of the tree
cut        position u64                               the leaf hash of a record that was pruned
blob       SHA-256 32                                 the bytes of a large value
lease      root 16                                    `leases.Lease`
owner      owner 16                                   `leases.Owner`
meta       name                                       see ``specs/store.md``
=========  =========================================  ================================

``born`` is the position of a run's first record: lists come in the order of birth. It tells runs apart,
since a position belongs to one record.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from struct import Struct as Layout
from typing import Final, TypeVar

import msgspec

from pluperfect.errors import StoreDamaged
from pluperfect.hooks import Cell, Head

from .leases import Lease, Owner

__all__ = [
    "FILE_FROM",
    "FORMAT",
    "PRUNED",
    "TABLES",
    "TRAILING",
    "VIEWS",
    "born_of",
    "cache_key",
    "child_key",
    "child_prefix",
    "decode_cell",
    "decode_head",
    "decode_lease",
    "decode_owner",
    "due_ms",
    "encode_value",
    "idx_key",
    "node_key",
    "number",
    "past",
    "readable_head",
    "state_key",
    "state_prefix",
    "text_key",
    "text_prefix",
    "timer_key",
    "u64",
]

VIEWS: Final = ("idx", "head", "by_state", "by_name", "by_tag", "child", "timer", "cache")
"""The tables that are projected from the log."""

TRAILING: Final = ("idx", "by_state", "by_name", "by_tag", "child")
"""The views whose rows may be left behind for a while: see `trailing`."""

PRUNED: Final = "store/pruned"
"""The type of the store's own record of what it pruned."""

TABLES: Final = ("log", *VIEWS, "node", "cut", "blob", "lease", "owner", "meta")

FORMAT: Final = {"version": 2, "min_reader": 2, "min_writer": 2}
"""What ``meta`` says of the layout: its version, and the least version that may read and write it."""

_TEXT: Final = 160  # bytes of a text that stand in a key as they are; LMDB takes keys of at most 511 bytes
_MAX_U64: Final = 2**64 - 1

FILE_FROM: Final = 1 << 20
"""A value of more bytes than this is a file of its own: the writer lock would be held for too long."""

_U64: Final = Layout(">Q")
_NODE: Final = Layout(">BQ")
_IDX: Final = Layout(">16sI")
_STATE: Final = Layout(">BBQ")
_CHILD: Final = Layout(">16sQ")
_TIMER: Final = Layout(">Q16s")

u64: Final = _U64.pack
"""A number as 8 bytes."""

idx_key: Final = _IDX.pack
"""The key of a record in ``idx``: (run, seq)."""

child_key: Final = _CHILD.pack
"""The key of a run in ``child``: (parent, born)."""

timer_key: Final = _TIMER.pack
"""The key of a run in ``timer``: (due in milliseconds, run)."""

node_key: Final = _NODE.pack
"""The key of a node of the tree: (level, index)."""

encode_value: Final = msgspec.msgpack.Encoder().encode
"""The value of a row that holds a Head or a Cell."""

T = TypeVar("T")


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    plain = msgspec.msgpack.Decoder(kind).decode

    def decode(data: bytes) -> T:
        try:
            return plain(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamaged(
                f"A row of the store is no {kind.__name__}: {error}. `pluperfect rebuild --check` compares views and log."
            ) from error

    return decode


decode_head: Final = _decoder(Head)
decode_cell: Final = _decoder(Cell)
decode_lease: Final = _decoder(Lease)
decode_owner: Final = _decoder(Owner)


def readable_head(data: bytes | None) -> Head | None:
    """A head; None where there is none, or none that can be read: who verifies finds that."""
    try:
        return None if data is None else decode_head(data)
    except StoreDamaged:
        return None


number: Final = int.from_bytes
"""The number in 8 bytes, the highest first."""


def state_key(state: int, root: bytes | None, born: int) -> bytes:
    """The key of a run in ``by_state``; ``root`` is None for a root, as in its head."""
    return _STATE.pack(state, root is not None, born)


def state_prefix(state: int, *, child: bool) -> bytes:
    """What the keys of all roots, or of all children, in a state begin with."""
    return bytes((state, child))


def child_prefix(parent: bytes) -> bytes:
    """What the keys of all children of a run begin with."""
    return parent


def text_prefix(text: str) -> bytes:
    """
    What the keys of a name or tag begin with.

    A long text is cut, and its hash tells it from others that begin alike. A text may hold a zero byte
    itself: keys of this prefix are those that are exactly 8 bytes longer.
    """
    raw = text.encode()
    if len(raw) > _TEXT:
        raw = raw[:_TEXT] + sha256(raw).digest()
    return raw + b"\0"


def text_key(text: str, born: int) -> bytes:
    """The key of a run in ``by_name`` or ``by_tag``."""
    return text_prefix(text) + _U64.pack(born)


def born_of(key: bytes) -> int:
    """The place of birth that a key of a list ends with."""
    return int.from_bytes(key[-8:], "big")


def cache_key(text: str) -> bytes:
    """The key of a cached result."""
    return sha256(text.encode()).digest()


def due_ms(at: float) -> int:
    """
    A time as the timer keeps it: whole milliseconds, at least 1.

    Rounding is monotone, so that what is due at a time is found by asking for that time.
    """
    if not at > 0:  # also what is no number
        return 1
    return max(1, round(at * 1000)) if at < _MAX_U64 / 1000 else _MAX_U64


def past(prefix: bytes) -> bytes:
    """The least key behind all keys with this prefix; empty where there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b""

"""
The bytes of a record, and the way back.

A record is a msgpack array ``[run, seq, at, epoch, type, version, prev, body, meta]``. The envelope is
the same for every type; the body is decoded by the struct that the registry has for (type, version).
Stored bytes are never encoded again: what this version does not know passes through as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, cast

import msgspec
from msgspec import Raw, Struct

from .errors import StoreDamaged
from .states import StateUnion
from .transitions import NO_FACTS, Entry, Facts, Ruling, Transition

__all__ = ["GENESIS", "Record", "body_of", "check_body", "decode", "encode", "entry_of", "leaf", "open_record", "seal"]

GENESIS: Final = bytes(32)
"""The ``prev`` of a run's first record."""


class Record(Struct, frozen=True, array_like=True):
    """
    One stored record, its body not yet decoded.

    Attributes:
        run: 16 bytes.
        seq: From 1 within the run, without gaps.
        at: Microseconds since the epoch, UTC.
        epoch: The term of the writer.
        type: What the body is: ``transition``, ``ruling``, or a plugin's ``dist/type``.
        version: The version of the body's layout.
        prev: The leaf hash of the run's record before this one.
        body: The encoded body.
        meta: For later versions; empty today.
    """

    run: bytes
    seq: int
    at: int
    epoch: int
    type: str
    version: int
    prev: bytes
    body: Raw
    meta: dict[str, Any] = {}


class _Transition(Struct, frozen=True, array_like=True):
    to: StateUnion
    asked: StateUnion | None = None
    by: str = ""
    why: str = ""
    facts: Facts | None = None


class _Ruling(Struct, frozen=True, array_like=True):
    asked: StateUnion
    by: str
    why: str = ""
    until: float | None = None
    facts: Facts | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_open: Final = msgspec.msgpack.Decoder(Record).decode
_bodies: Final[dict[tuple[str, int], Callable[[Any], Any]]] = {
    ("transition", 1): msgspec.msgpack.Decoder(_Transition).decode,
    ("ruling", 1): msgspec.msgpack.Decoder(_Ruling).decode,
}


def body_of(entry: Entry) -> tuple[str, bytes]:
    """The type and the encoded body of one entry: what can be made before its place in the log is known."""
    facts = None if entry.facts == NO_FACTS else entry.facts
    if type(entry) is Transition:
        wire = _Transition(cast(StateUnion, entry.to), cast(StateUnion, entry.asked), entry.by, entry.why, facts)
        return "transition", _encode(wire)
    assert type(entry) is Ruling
    return "ruling", _encode(_Ruling(cast(StateUnion, entry.asked), entry.by, entry.why, entry.until, facts))


def check_body(kind: str, body: bytes) -> None:
    """
    Make sure that an encoded body can be read again: encoding looks at no field types, decoding does.

    Raises:
        ValueError: A field holds what its state does not allow.
    """
    try:
        _bodies[kind, 1](body)
    except msgspec.ValidationError as error:
        raise ValueError(f"this {kind} could be written, but never read again: {error}") from error


def seal(run: bytes, entry: Entry, kind: str, body: bytes, prev: bytes, epoch: int) -> bytes:
    """The record of one entry whose body is encoded; ``prev`` as in `encode`."""
    return _encode(Record(run, entry.seq, round(entry.at * 1e6), epoch, kind, 1, prev, Raw(body)))


def encode(run: bytes, entry: Entry, prev: bytes) -> bytes:
    """The record of one entry; ``prev`` is the leaf hash of the run's record before it (GENESIS for the first)."""
    return seal(run, entry, *body_of(entry), prev, entry.epoch)


def leaf(record: bytes) -> bytes:
    """The hash that binds a record: SHA-256 over a zero byte and the record (RFC 6962, section 2.1)."""
    return sha256(b"\0" + record).digest()


def open_record(data: bytes) -> Record:
    """
    The envelope of a stored record.

    Raises:
        StoreDamaged: The bytes are no record.
    """
    try:
        return _open(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreDamaged(
            f"{len(data)} bytes of the log are no record: {error}. Run `pluperfect rebuild --check`."
        ) from error


def entry_of(record: Record) -> Entry | None:
    """
    The entry that a record holds; None for a type or version that this release does not know.

    Raises:
        StoreDamaged: The body does not fit its type.
    """
    decoder = _bodies.get((record.type, record.version))
    if decoder is None:
        return None
    try:
        body = decoder(record.body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreDamaged(
            f"Run {record.run.hex()}, record {record.seq}: its body is no {record.type} of version {record.version}: {error}."
        ) from error
    at = record.at / 1e6
    facts = body.facts or NO_FACTS
    if record.type == "transition":
        return Transition(record.seq, at, body.to, body.asked, body.by, body.why, facts, record.epoch)
    return Ruling(record.seq, at, body.asked, body.by, body.why, body.until, facts, record.epoch)


def decode(data: bytes) -> Entry | None:
    """The entry in these stored bytes; None for what this release does not know."""
    return entry_of(open_record(data))

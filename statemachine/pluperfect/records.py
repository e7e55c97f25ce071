"""
The bytes of a record, and the way back.

A **row** of the log is a record and the values that it names. The record is a msgpack array ``[run, seq, at, epoch,
type, version, prev, body, meta]``, where each value stands as a number; the row has the values themselves, or the
digests of those that are kept elsewhere or are gone. The leaf hash binds the record and the digests of its values: a
value can be taken away, and everything else is still proved.

Stored bytes are never encoded again: what this version does not know passes through as it is.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from itertools import product
from types import NoneType
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Ext
from msgspec.structs import astuple

from .errors import StoreDamaged
from .states import Completed, Pending, Running, StateUnion
from .transitions import NO_FACTS, Entry, Facts, Ruling, Transition
from .values import INLINE, RESULT, Input, Packed, Spec, digest_of, size_of

__all__ = [
    "GENESIS",
    "INLINE",
    "Body",
    "Fetch",
    "Layouts",
    "Outlines",
    "Record",
    "Row",
    "body_of",
    "check_body",
    "continues",
    "decode",
    "decode_each",
    "encode",
    "leaf",
    "open_exact",
    "open_record",
    "open_row",
    "seal",
    "seal_note",
    "uncollected",
]

GENESIS: Final = b""
"""The ``prev`` of a run's first record. In stores of format 1 it has 32 zero bytes: compare it with `continues`."""

_ZEROS: Final = bytes(32)

Fetch = Callable[[bytes], "bytes | None"]
"""Gives the bytes with this SHA-256; None where they are not there."""

_UNREADABLE: Final = (msgspec.MsgspecError, LookupError, ValueError, OverflowError, RecursionError)
"""What bytes that are no record make msgspec and its hooks raise; a text that is no UTF-8 is a ValueError."""

_KEPT: Final = 1  # the extension that stands in a row for a value kept elsewhere: SHA-256 and u64 size


class Record(Struct, frozen=True, array_like=True, gc=False):
    """
    One record, its body not yet decoded.

    Attributes:
        run: 16 bytes.
        seq: From 1 within the run, without gaps.
        at: Microseconds since the epoch, UTC.
        epoch: The term of the writer.
        type: What the body is: ``transition``, ``ruling``, or a plugin's ``dist/type``.
        version: The version of the body's layout.
        prev: The leaf hash of the run's record before this one; empty for the first.
        body: The encoded body.
        meta: For later versions; empty today.
    """

    run: Annotated[bytes, Meta(min_length=16, max_length=16)]
    seq: Annotated[int, Meta(ge=1, lt=2**32)]
    at: int
    epoch: int
    type: str
    version: int
    prev: Annotated[bytes, Meta(max_length=32)]
    body: Raw
    meta: dict[str, Any] = {}


class Body(Struct, frozen=True, gc=False):
    """An entry, encoded as far as that is possible before its place in the log is known."""

    type: str
    data: Raw
    values: tuple[Packed, ...] = ()
    digests: tuple[bytes, ...] = ()
    """SHA-256 of each value."""
    sure: bool = False
    """Whether all that was encoded is of its very type: then nothing has to be decoded to know that it can be."""
    size: int = 0
    """How many bytes that is, with the values."""
    spills: bool = False
    """Whether a value is too large to stand in the row."""


class Row(Struct, frozen=True, gc=False):
    """One stored row, taken apart."""

    record: Record
    raw: bytes
    """The bytes of the record."""
    values: list[Any]
    """For each value its bytes, or an extension with its digest and size."""

    @property
    def digests(self) -> list[bytes]:
        """SHA-256 of each value."""
        return [sha256(v).digest() if type(v) is bytes else v.data[:32] for v in self.values]

    @property
    def leaf(self) -> bytes:
        """The hash that binds the record and its values."""
        return _leaf(self.raw, self.digests)

    def note(self) -> dict[str, Any]:
        """
        The body of a record that the store wrote of its own; packed values stand in it as extensions with their numbers.

        Raises:
            StoreDamaged: It is none.
        """
        try:
            return msgspec.msgpack.decode(self.record.body, type=dict[str, Any])
        except _UNREADABLE as error:
            raise StoreDamaged(f"Record {self.record.seq} of the store itself cannot be read: {error}.") from error

    def without(self, digests: Collection[bytes]) -> bytes:
        """The bytes of this row with these values taken away; the leaf hash stays what it is."""
        held = zip(self.values, self.digests, strict=True)
        gone = [_gone(len(v), d) if type(v) is bytes and d in digests else v for v, d in held]
        return _encode((self.raw, gone))

    def entry(self, fetch: Fetch | None = None, layouts: Layouts | None = None) -> Entry | None:
        """
        The entry that the row holds; None for a type or version that this release does not know.

        Args:
            fetch: Gives the bytes of values that are kept elsewhere, when they are asked for.
            layouts: The layouts of bodies; those of this release where left out.

        Raises:
            StoreDamaged: The body does not fit its type.
        """
        record = self.record
        try:
            body = (layouts or _layouts).read(record, self.values, fetch)
        except _UNREADABLE as error:
            raise _no_body(record, error) from error
        return None if body is None else _entry(record.type, record.seq, record.at / 1e6, body, record.epoch)


class _Stored(Struct, frozen=True, array_like=True, gc=False):
    record: bytes
    values: list[Any]


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


# --- values, apart from the record that names them --------------------------------------------------------


class _Coder:
    """
    An encoder and the decoders of all bodies, with the values of the one body that they are at.

    msgspec calls back for each value without an argument of ours, so that a coder serves one call at a time: who needs
    one takes it from `_coders`, or makes another.
    """

    def __init__(self) -> None:
        self.found: list[Packed] = []
        self.values: Sequence[Any] = ()
        self.fetch: Fetch | None = None
        self.run: bytes = b""
        self.encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(enc_hook=self._detach).encode
        self._decoders: dict[type[Any], Callable[[Any], Any]] = {}

    def decoder(self, struct: type[Any]) -> Callable[[Any], Any]:
        """Gives a body as this struct, with the values of the coder."""
        decoder = self._decoders.get(struct)
        if decoder is None:
            decoder = self._decoders[struct] = msgspec.msgpack.Decoder(struct, ext_hook=self._attach).decode
        return decoder

    def _detach(self, value: Any) -> Ext:
        if type(value) is not Packed:
            raise TypeError(f"{type(value).__qualname__} objects are not recorded as they are; `pack` them.")
        if value.code == RESULT:  # says which runs, and nothing of what they gave
            return Ext(RESULT, value.data)
        found = self.found
        place = len(found)
        if place and value in found:
            place = found.index(value)
        else:
            found.append(value)
        return Ext(value.code, place.to_bytes(1 if place < 256 else (place.bit_length() + 7) // 8, "big"))

    def _attach(self, code: int, data: memoryview) -> Packed:
        if code == RESULT:
            return Packed(code, bytes(data))
        value = self.values[data[0] if len(data) == 1 else int.from_bytes(data, "big")]
        if type(value) is bytes:
            return Packed(code, value, self.run)
        if type(value) is Packed:
            return value
        return Packed.kept(code, value.data[:32], int.from_bytes(value.data[32:], "big"), self.fetch, self.run)


_coders: Final[list[_Coder]] = [_Coder()]  # taken and given back in one step each, so that threads never share one


def _coder() -> _Coder:
    try:
        return _coders.pop()
    except IndexError:
        return _Coder()


def _decoded(struct: type[Any], body: Any, values: Sequence[Any], fetch: Fetch | None, run: bytes = b"") -> Any:
    coder = _coder()
    coder.values, coder.fetch, coder.run = values, fetch, run
    try:
        return coder.decoder(struct)(body)
    finally:
        coder.values, coder.fetch = (), None
        _coders.append(coder)


class Layouts:
    """
    What the bodies of records look like: for each type and version a struct and, but for the newest, a pure function that
    makes a body of the next version of it. Stored bytes are never touched: an old body is lifted each time it is read.
    """

    def __init__(self) -> None:
        self.places: dict[tuple[str, int], type[Any]] = {}
        """The struct of each type and version."""
        self._lifts: dict[tuple[str, int], Callable[[Any], Any] | None] = {}

    def add(self, type: str, version: int, body: Any, lift: Callable[[Any], Any] | None = None) -> None:
        """
        Add a layout.

        Args:
            type: The type of record.
            version: From 1.
            body: The struct.
            lift: Makes a body of ``version + 1`` of one of this version; None: this is the newest.

        Raises:
            ValueError: It is there already, or the version before it does not lead here.
        """
        if (type, version) in self.places or (version > 1 and self._lifts.get((type, version - 1)) is None):
            raise ValueError(
                f"version {version} of {type!r} is there already, or version {version - 1} does not lead to it"
            )
        # msgspec looks a struct through when its first decoder is made; where two threads begin that at once, the process dies.
        msgspec.msgpack.Decoder(body)
        self.places[type, version], self._lifts[type, version] = body, lift

    def read(self, record: Record, values: Sequence[Any], fetch: Fetch | None = None) -> Any:
        """The body of a record in its newest layout; None for a type or version that is not known."""
        place = (record.type, record.version)
        struct = self.places.get(place)
        if struct is None:
            return None
        return self.lifted(place, _decoded(struct, record.body, values, fetch, record.run))

    def reader(self, place: tuple[str, int], coder: _Coder) -> Callable[[Any], Any] | None:
        """What gives bodies of this type and version in their newest layout; None where it is not known."""
        struct = self.places.get(place)
        if struct is None:
            return None
        decode = coder.decoder(struct)
        return decode if self._lifts[place] is None else lambda body: self.lifted(place, decode(body))

    def lifted(self, place: tuple[str, int], body: Any) -> Any:
        """A body of this type and version in its newest layout."""
        while lift := self._lifts[place]:
            body, place = lift(body), (place[0], place[1] + 1)
        return body


_encode: Final = msgspec.msgpack.Encoder().encode
_open: Final = msgspec.msgpack.Decoder(Record).decode
_take_apart: Final = msgspec.msgpack.Decoder(_Stored).decode
_WRITTEN: Final = {"transition": _Transition, "ruling": _Ruling}  # version 1 of each, as bodies are written now
_layouts: Final = Layouts()
for _type, _struct in _WRITTEN.items():
    _layouts.add(_type, 1, _struct)


# --- writing ---------------------------------------------------------------------------------------------


def body_of(entry: Entry) -> Body:
    """
    The type, the encoded body and the values of one entry: what can be made before its place in the log is known.

    Raises:
        TypeError, OverflowError: It holds what cannot be encoded.
    """
    facts = entry.facts
    told = None if facts is NO_FACTS or facts == NO_FACTS else facts
    if type(entry) is not Transition:
        assert type(entry) is Ruling
        return _body("ruling", _Ruling(cast(StateUnion, entry.asked), entry.by, entry.why, entry.until, told))
    state = entry.to
    if told is None and entry.asked is None and not (entry.by or entry.why or state.message):
        # Most births, starts and ends: what is left of them is what a reader takes where an array ends early. The fields of a
        # start or an end are of their very types then, and need no second look.
        if type(state) is Running:
            attempt, count = state.attempt, state.loop_count
            if state.name == "Running" and type(attempt) is type(count) is int:
                if attempt == count == 1:
                    return _START
                data = _encode(((Running.code, "", attempt, count),))
                return Body("transition", Raw(data), sure=True, size=len(data))
        elif type(state) is Completed:
            value = state.data
            if state.name == "Completed" and type(value) is Packed and value.code != RESULT and value.code >= 0:
                size = size_of(value)
                return Body(
                    "transition", _end(value.code), (value,), (digest_of(value),), True, size + _END, size > INLINE
                )
        elif type(state) is Pending and state.due is None and state.name == "Pending":
            return _body("transition", ((Pending.code, "", state.spec),), sure=_is_sound(state.spec))
    return _body(
        "transition",
        _Transition(cast(StateUnion, state), cast("StateUnion | None", entry.asked), entry.by, entry.why, told),
    )


_TEXT: Final = frozenset({str})
_BYTES: Final = frozenset({bytes})
_PLAIN: Final = frozenset({NoneType, bool, int, float, str})
_SOUND: Final = frozenset(
    (
        str,
        str,
        str,
        str,
        bytes,
        parent,
        int,
        mapped,
        int,
        tuple,
        bytes,
        version,
        tuple,
        dict,
        str,
        str,
        tuple,
        key,
        str,
        NoneType,
    )
    for parent, mapped, version, key in product((bytes, NoneType), (int, NoneType), (str, NoneType), (str, NoneType))
)
"""The types of the fields of a Spec that can be read again."""


def _is_sound(spec: Any) -> bool:
    """Whether a Spec can be read again for sure. Most can; to decode them, to see that, would take three times as long."""
    if type(spec) is not Spec or tuple(map(type, astuple(spec))) not in _SOUND:
        return False
    for given in spec.inputs:
        if type(given) is not Input or type(given.name) is not str or type(given.digest) is not bytes:
            return False
        value = given.value
        if value is not None and (type(value) is not Packed or value.code < 0):
            return False
    options = spec.options
    return (
        (not spec.tags or _TEXT.issuperset(map(type, spec.tags)))
        and (not spec.upstream or _BYTES.issuperset(map(type, spec.upstream)))
        and (not options or (_TEXT.issuperset(map(type, options)) and _PLAIN.issuperset(map(type, options.values()))))
    )


def _body(kind: str, body: Any, *, sure: bool = False) -> Body:
    """A body of this type, encoded, with the values that it names."""
    data, found = _detached(body)
    size, spills = len(data), False
    digests: list[bytes] = []
    for value in found:
        more = size_of(value)
        size += more
        spills = spills or more > INLINE
        digests.append(digest_of(value))
    return Body(kind, Raw(data), (*found,), (*digests,), sure, size, spills)


_START: Final = Body("transition", Raw(_encode(((Running.code,),))), sure=True, size=3)


@cache
def _end(code: int) -> Raw:
    """The body of an end whose only value is of this code."""
    return Raw(_encode(((Completed.code, "", Ext(code, b"\0")),)))


_END: Final = 16
"""Bytes of the body of an end, without its value; a few more than there are."""


def _detached(body: Any) -> tuple[bytes, list[Packed]]:
    """A body encoded, and the values that it names."""
    coder = _coder()
    found: list[Packed] = []
    coder.found = found
    try:
        return coder.encode(body), found
    finally:
        coder.found = []
        _coders.append(coder)


def check_body(body: Body) -> None:
    """
    Make sure that an encoded entry can be read again: encoding looks at no field types, decoding does.

    Raises:
        ValueError: A field holds what its state does not allow.
    """
    if body.sure:
        return
    try:
        _decoded(_WRITTEN[body.type], body.data, body.values, None)
    except msgspec.ValidationError as error:
        raise ValueError(f"this {body.type} could be written, but never read again: {error}") from error


def seal(run: bytes, seq: int, at: float, body: Body, prev: bytes, epoch: int) -> tuple[bytes, bytes]:
    """
    The row of one entry whose body is encoded, and its leaf hash.

    Args:
        run: 16 bytes.
        seq: The place of the entry in its run.
        at: When it was made, UTC seconds since the epoch.
        body: What `body_of` made of it.
        prev: The leaf hash of the run's record before it (GENESIS for the first).
        epoch: The term of the writer.
    """
    raw, values = _encode((run, seq, round(at * 1e6), epoch, body.type, 1, prev, body.data)), body.values
    if not values:
        return _encode((raw, ())), sha256(b"\0" + raw).digest()
    if len(values) == 1 and not body.spills:
        data = values[0].held
        if data is not None:
            return _encode((raw, (data,))), sha256(b"\0" + raw + body.digests[0]).digest()
    return _encode((raw, tuple(map(_stored, values)))), _leaf(raw, body.digests)


def seal_note(
    run: bytes, seq: int, at: float, kind: str, body: Any, prev: bytes
) -> tuple[bytes, bytes, tuple[Packed, ...]]:
    """The row of a record that is no entry of a run, its leaf hash, and the packed values that its body holds."""
    made = _body(kind, body)
    return *seal(run, seq, at, made, prev, 0), made.values


def _stored(value: Packed) -> bytes | Ext:
    data = value.held
    return _gone(value.size, value.digest) if data is None or len(data) > INLINE else data


def _gone(size: int, digest: bytes) -> Ext:
    return Ext(_KEPT, digest + size.to_bytes(8, "big"))


def _leaf(record: bytes, digests: Sequence[bytes]) -> bytes:
    return sha256(b"".join((b"\0", record, *digests))).digest()


def continues(prev: bytes, before: bytes) -> bool:
    """Whether a record with this ``prev`` may follow a record with this leaf hash; GENESIS stands before the first."""
    return prev == before or (before == GENESIS and prev == _ZEROS)


def encode(run: bytes, entry: Entry, prev: bytes) -> bytes:
    """The row of one entry; ``prev`` as in `seal`."""
    return seal(run, entry.seq, entry.at, body_of(entry), prev, entry.epoch)[0]


# --- reading ---------------------------------------------------------------------------------------------


def open_row(data: bytes) -> Row:
    """
    A stored row taken apart.

    Raises:
        StoreDamaged: The bytes are no row.
    """
    try:
        stored = _take_apart(data)
        if stored.values:
            _check_values(stored.values)
        return Row(_open(stored.record), stored.record, stored.values)
    except _UNREADABLE as error:
        raise StoreDamaged(f"{len(data)} bytes of the log are no record: {error}. Run `pluperfect verify`.") from error


def open_exact(data: Sequence[bytes]) -> tuple[list[Row], list[bytes]]:
    """
    Stored rows taken apart, and their leaf hashes; many at once, since that is quicker.

    Raises:
        StoreDamaged: Some bytes are no row, or not those that are written for it: they were changed.
    """
    try:
        stored = [*map(_take_apart, data)]
        rows = [Row(_open(one.record), one.record, one.values) for one in stored]
        for one in stored:
            if one.values:
                _check_values(one.values)
    except _UNREADABLE as error:
        size = sum(map(len, data))
        raise StoreDamaged(f"{size} bytes of the log are no record: {error}. Run `pluperfect verify`.") from error
    if [*map(_encode, stored)] != [*data]:
        raise StoreDamaged("its bytes are not as they are written")
    leaves = [_leaf(row.raw, row.digests) if row.values else sha256(b"\0" + row.raw).digest() for row in rows]
    return rows, leaves


def _check_values(values: list[Any]) -> None:
    for value in values:
        if type(value) is not bytes and not (
            type(value) is Ext and value.code == _KEPT and len(bytes(value.data)) == 40
        ):
            raise msgspec.ValidationError("a value is neither bytes nor the digest of some")


class Outlines:
    """
    What records hold, but for their values, places and times: enough to tell what follows from them, and quicker than
    `Row.entry`, since equal bodies are decoded once. It serves one thread.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], dict[bytes, tuple[Entry, int]]] = {place: {} for place in _layouts.places}
        self._decode = {
            place: msgspec.msgpack.Decoder(body, ext_hook=self._stand_in).decode
            for place, body in _layouts.places.items()
        }
        self._packed: dict[int, Packed] = {}
        self._values = 0  # how many values the body names that is being decoded

    def of(self, row: Row) -> Entry | None:
        """
        What a row holds; None for a type or version that this release does not know.

        Raises:
            StoreDamaged: The body does not fit its type.
        """
        record = row.record
        place = (record.type, record.version)
        known = self._known.get(place)
        if known is None:
            return None
        data = bytes(record.body)
        found = known.get(data)
        if found is None:
            self._values = 0
            try:
                body = _layouts.lifted(place, self._decode[place](data))
            except _UNREADABLE as error:
                raise _no_body(record, error) from error
            found = _entry(record.type, 0, 0.0, body, 0), self._values
            if len(data) <= _SHORT:
                if len(known) >= _MANY:
                    known.clear()
                known[data] = found
        if found[1] > len(row.values):
            raise _no_body(record, LookupError(f"it names {found[1]} values, the row has {len(row.values)}"))
        return found[0]

    def _stand_in(self, code: int, data: memoryview) -> Packed:
        if code != RESULT:
            self._values = max(self._values, int.from_bytes(data, "big") + 1)
        packed = self._packed.get(code)
        if packed is None:
            packed = self._packed[code] = Packed(code, b"")
        return packed


_SHORT: Final = 64  # bytes of a body that may well come again
_MANY: Final = 1 << 12


@contextmanager
def uncollected() -> Iterator[None]:
    """
    While very many objects are made that are all kept: the garbage collector looks for cycles when this is over.

    It would walk over all of them again and again, which takes as long as to make them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _entry(type: str, seq: int, at: float, body: Any, epoch: int) -> Entry:
    facts = body.facts or NO_FACTS
    if type == "transition":
        return Transition(seq, at, body.to, body.asked, body.by, body.why, facts, epoch)
    return Ruling(seq, at, body.asked, body.by, body.why, body.until, facts, epoch)


def _no_body(record: Record, error: Exception) -> StoreDamaged:
    return StoreDamaged(
        f"Run {record.run.hex()}, record {record.seq}: its body is no {record.type} of version {record.version}: {error}."
    )


def open_record(data: bytes) -> Record:
    """
    The envelope of a stored row.

    Raises:
        StoreDamaged: The bytes are no row.
    """
    return open_row(data).record


def leaf(data: bytes) -> bytes:
    """
    The hash that binds a row: SHA-256 over a zero byte, the record and the digests of its values.

    Raises:
        StoreDamaged: The bytes are no row.
    """
    return open_row(data).leaf


def decode_each(
    rows: Iterable[bytes], fetch: Fetch | None = None, wanted: Callable[[Record], bool] | None = None
) -> Iterator[tuple[Record, Entry | None]]:
    """
    The records of many rows and their entries, as `open_row` and `Row.entry` give them, one by one and quicker.

    Args:
        rows: Stored rows.
        fetch: As for `Row.entry`.
        wanted: Only records of which it says so.

    Raises:
        StoreDamaged: A row is none, or its body does not fit its type.
    """
    coder = _coder()  # of this call alone until its end, whatever is decoded in between
    readers: dict[str, dict[int, Callable[[Any], Any] | None]] = defaultdict(dict)
    coder.fetch = fetch
    try:
        for data in rows:
            try:
                stored = _take_apart(data)
                record = _open(stored.record)
                if wanted is not None and not wanted(record):
                    continue
                type = record.type
                known, version = readers[type], record.version
                try:
                    read = known[version]
                except KeyError:
                    read = known[version] = _layouts.reader((type, version), coder)
                if read is None:
                    entry = None
                else:
                    coder.values, coder.run = stored.values, record.run
                    entry = _entry(type, record.seq, record.at / 1e6, read(record.body), record.epoch)
            except _UNREADABLE:
                row = open_row(data)  # it says what is wrong
                record, entry = row.record, row.entry(fetch)
            yield record, entry
    finally:
        coder.values, coder.fetch = (), None
        _coders.append(coder)


def decode(data: bytes, fetch: Fetch | None = None) -> Entry | None:
    """The entry in a stored row; None for what this release does not know. As `open_row`, then `Row.entry`."""
    return open_row(data).entry(fetch)

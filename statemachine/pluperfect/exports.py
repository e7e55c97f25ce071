"""
Histories as one file: to be judged by others, or taken into another store. ``specs/export.md`` is the format.

A file holds whole trees of runs, their rows as the log has them, byte for byte, the large values that they name, and for each
run the proof that its last record, and by its chain all of it, was in the log. The same runs give the same file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Struct

from .errors import BadCheckpoint, BadExport, RedactedValue, StoreDamaged, UnknownRun
from .evidence import Checkpoint, led_to
from .hooks import Log, Parcel
from .records import GENESIS, Row, continues, open_exact, open_row
from .states import Pending, State
from .transitions import Transition, legal

__all__ = ["LIMIT", "Export", "Header", "Told", "read", "write", "write_again"]

LIMIT: Final = 256 << 20
"""How many bytes a file may unpack to, unless the caller says otherwise."""

_MAGIC: Final = b"pluperfect export 1\n"
_ANY_VERSION: Final = b"pluperfect export "
_PLAIN_BYTES: Final = len(_MAGIC) + 8 + 32  # then the length and SHA-256 of the content, before what is compressed
_CHUNK: Final = 1 << 16


class Told(Struct, frozen=True, array_like=True):
    """
    What the header says of a run.

    Attributes:
        run: Its id.
        positions: Where its records stood in the log they come from.
        path: The proof of the last one.
    """

    run: bytes
    positions: list[int]
    path: list[bytes]


class Header(Struct, frozen=True):
    """
    What a file says beside its rows and values.

    Attributes:
        store: The id of the store that it comes from.
        size: The size of the tree that the proofs are for.
        root: The root of that tree.
        checkpoint: The text of a checkpoint of that size; empty where there was none.
        runs: In the order of their births.
        code: The definitions that the runs are of: kind, name, where it can be imported from, version, digest of its code.
        redacted: Values that were taken away: SHA-256, size, by whom, why.
        blobs: The large values that follow the rows: SHA-256 and size.
    """

    store: bytes
    size: int
    root: bytes
    checkpoint: str
    runs: list[Told]
    code: list[tuple[str, str, str, str | None, bytes]]
    redacted: list[tuple[bytes, int, str, str]]
    blobs: list[tuple[bytes, int]]


_read_header: Final = msgspec.msgpack.Decoder(Header).decode  # made here, by one thread: see `shapes`


class Export(Struct, frozen=True):
    """A file that was read and found sound."""

    header: Header
    raw: bytes
    """The bytes of the header."""
    rows: tuple[bytes, ...]
    blobs: dict[bytes, bytes]

    def parcel(self, at: float) -> Parcel:
        """All of it, for a log to take in at this time, UTC seconds."""
        told = self.header
        return Parcel(told.store, self.rows, self.blobs, tuple(told.redacted), self.raw, at)


# --- writing --------------------------------------------------------------------------------------------


def write(
    log: Log, path: str | os.PathLike[str], runs: Sequence[bytes], checkpoint: Checkpoint | None = None
) -> Header:
    """
    Write runs, with the whole trees that they belong to, into a file.

    Args:
        log: From here.
        path: The file; what stands there is replaced when the new one is whole.
        runs: Their ids.
        checkpoint: The proofs lead to its root, and its text goes into the file.

    Raises:
        UnknownRun: There is no such run.
        BadCheckpoint: It is of another store, or older than a record of these runs.
        StoreDamaged: A value is missing.
        PrunedAway: The checkpoint was made where all records are pruned now.
    """
    placed: list[tuple[int, bytes, bytes]] = []
    whole = _trees(log, runs)
    for run in whole:
        placed.extend((position, run, row) for position, row in log.placed(run))
    placed.sort()
    end = placed[-1][0] if placed else 0
    if checkpoint is not None:
        if checkpoint.store != log.store_id:
            raise BadCheckpoint(
                f"The checkpoint is of store {checkpoint.store.hex()}, and this is {log.store_id.hex()}."
            )
        if checkpoint.size < end:
            late = next(run for position, run, _ in reversed(placed) if position > checkpoint.size)
            raise BadCheckpoint(
                f"The checkpoint has seen {checkpoint.size} records, and run {late.hex()} has later ones. Make a new checkpoint, or"
                " export without one."
            )
    size, root = log.tree(end if checkpoint is None else checkpoint.size)
    if checkpoint is not None and root != checkpoint.root:
        raise BadCheckpoint("The store is not the one that the checkpoint saw. Run `pluperfect verify --against` it.")
    positions: dict[bytes, list[int]] = {}
    code: set[tuple[str, str, str, str | None, bytes]] = set()
    values: dict[bytes, int] = {}
    for position, run, data in placed:
        positions.setdefault(run, []).append(position)
        row = open_row(data)
        values.update((value.data[:32], int.from_bytes(value.data[32:], "big")) for value in _elsewhere(row))
        entry = row.entry() if row.record.seq == 1 else None
        if entry is not None and isinstance(entry.to, Pending) and entry.to.spec is not None:
            spec = entry.to.spec
            code.add((spec.kind, spec.name, spec.entry, spec.version, spec.code))
    header = Header(
        log.store_id,
        size,
        root,
        "" if checkpoint is None else checkpoint.text,
        [Told(run, places, list(log.prove(run, size).path)) for run, places in positions.items()],
        sorted(code, key=lambda told: [str(word) for word in told]),
        *_kept(log, values),
    )
    raw = msgspec.msgpack.encode(header)
    _pack(path, raw, [row for _, _, row in placed], (_there(log, digest) for digest, _ in header.blobs))
    return header


def write_again(log: Log, path: str | os.PathLike[str], run: bytes) -> Header:
    """
    Write the very file again that a run was imported from: its proofs are for the log that it comes from.

    Args:
        log: The log that it was imported into.
        path: The file to write.
        run: One of the runs that came with it; of several files the last.

    Raises:
        UnknownRun: The run was not imported, or one that came with it was pruned.
        RedactedValue: A value that came with it was taken away.
    """
    for data in reversed(log.records(log.store_id)):
        row = open_row(data)
        if row.record.type != "store/imported":
            continue
        value = row.values[0]
        raw = value if type(value) is bytes else log.blob(value.data[:32])
        if raw is None:
            continue
        header = _read_header(raw)
        if any(told.run == run for told in header.runs):
            placed: list[tuple[int, bytes]] = []
            for told in header.runs:
                rows = log.records(told.run, 0, len(told.positions))
                if len(rows) < len(told.positions):
                    raise UnknownRun(
                        f"Run {told.run.hex()}, which came in the same file as run {run.hex()}, was pruned; the file cannot be"
                        " written again. Leave --as-imported out: its proofs are of this store."
                    )
                placed.extend(zip(told.positions, rows, strict=True))
            placed.sort()
            _pack(path, raw, [row for _, row in placed], (_there(log, digest) for digest, _ in header.blobs))
            return header
    raise UnknownRun(f"Run {run.hex()} was not imported here. Leave --as-imported out: its proofs are of this store.")


def _there(log: Log, digest: bytes) -> bytes:
    data = log.blob(digest)
    if data is None:
        raise RedactedValue(
            f"The value {digest.hex()} is not in the log any more. It was redacted or pruned, and the file was not written."
        )
    return data


def _trees(log: Log, runs: Sequence[bytes]) -> list[bytes]:
    """All runs of the trees that these belong to, and of those that these were forked from."""
    found: dict[bytes, None] = {}
    for run in runs:
        head = log.head(run)
        if head is None:
            raise UnknownRun(f"There is no run {run.hex()} in {log.uri}.")
        waiting = [head.root or run]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found[one] = None
                waiting += log.children(one)
                forked = _forked(log, one)
                if forked is not None and log.head(forked) is not None:
                    waiting.append(forked)
    return [*found]


def _forked(log: Log, run: bytes) -> bytes | None:
    """The run that a fork shares its beginning with."""
    head = log.head(run)
    if head is None or head.root is not None:
        return None  # only roots are forks
    born = open_row(log.records(run, 0, 1)[0]).entry()
    spec = born.to.spec if born is not None and isinstance(born.to, Pending) else None
    return None if spec is None or spec.forked is None else spec.forked.run


def _elsewhere(row: Row) -> Iterator[Any]:
    """What stands in a row for values that are not in it."""
    return (value for value in row.values if type(value) is not bytes)


def _kept(log: Log, values: dict[bytes, int]) -> tuple[list[tuple[bytes, int, str, str]], list[tuple[bytes, int]]]:
    """Of the values that are not in their rows: which were taken away, and which are kept."""
    notes: dict[bytes, tuple[str, str]] = {}
    for data in log.records(log.store_id) if values else ():
        row = open_row(data)
        if row.record.type == "store/redacted":
            note = row.note()
            notes.update((digest, (note["by"], note["why"])) for digest, _ in note["values"])
    redacted: list[tuple[bytes, int, str, str]] = []
    blobs: list[tuple[bytes, int]] = []
    for digest, size in sorted(values.items()):
        if log.blob(digest) is not None:
            blobs.append((digest, size))
        elif digest in notes:
            redacted.append((digest, size, *notes[digest]))
        else:
            raise StoreDamaged(f"The value {digest.hex()} is missing. `pluperfect verify` says which records name it.")
    return redacted, blobs


def _pack(path: str | os.PathLike[str], header: bytes, rows: Sequence[bytes], blobs: Iterable[bytes]) -> None:
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    encode = msgspec.msgpack.Encoder().encode
    length, digest, packer = 0, sha256(), zlib.compressobj(6)
    try:
        with beside.open("wb") as file:
            file.write(bytes(_PLAIN_BYTES))
            for part in _chain([header], rows, blobs):
                data = encode(part)
                length += len(data)
                digest.update(data)
                file.write(packer.compress(data))
            file.write(packer.flush())
            file.seek(0)
            file.write(_MAGIC + length.to_bytes(8, "big") + digest.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _chain(*parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from part


# --- reading --------------------------------------------------------------------------------------------


class _Content:
    """What is packed in a file, read from its beginning and never further than the file said."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left, self._unpack = file, length, zlib.decompressobj()
        self._ready = bytearray()
        self._digest = sha256()

    def take(self, count: int) -> bytes:
        """So many bytes more."""
        if count > self._left + len(self._ready):
            raise BadExport(f"a part of {count} bytes is longer than what is left")
        while len(self._ready) < count:
            self._fill(count - len(self._ready))
        taken = bytes(self._ready[:count])
        del self._ready[:count]
        return taken

    def _fill(self, wanted: int) -> None:
        packed = self._unpack.unconsumed_tail or self._file.read(_CHUNK)
        more = self._unpack.decompress(packed, min(max(wanted, _CHUNK), self._left))
        if not more and (self._unpack.eof or not packed):
            raise BadExport("it ends before what it says it holds")
        self._left -= len(more)
        self._digest.update(more)
        self._ready += more

    def bin(self) -> bytes:
        """The next part, a msgpack bin in its shortest form."""
        kind = self.take(1)[0]
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(kind)
        if width is None:
            raise BadExport(f"a part begins with byte {kind:#x}, and not as one does")
        size = int.from_bytes(self.take(width), "big")
        if (width == 2 and size < 1 << 8) or (width == 4 and size < 1 << 16):
            raise BadExport("the length of a part is written longer than it need be")
        return self.take(size)

    def end(self, digest: bytes) -> None:
        """Make sure that nothing more comes, and that all of it is what it was."""
        if self._left or self._ready:
            raise BadExport(f"{self._left + len(self._ready)} bytes are left over")
        while not self._unpack.eof:
            packed = self._unpack.unconsumed_tail or self._file.read(_CHUNK)
            if not packed or self._unpack.decompress(packed, 1):
                raise BadExport("what is packed does not end where it says it does")
        if self._unpack.unused_data or self._file.read(1):
            raise BadExport("something stands behind its end")
        if self._digest.digest() != digest:
            raise BadExport("its bytes are not those that were written: its digest is another")


def read(path: str | os.PathLike[str], *, limit: int = LIMIT) -> Export:
    """
    Read a file and make sure that it is sound: digest, chains, proofs, values, legal histories. No code of it is run.

    Args:
        path: The file.
        limit: How many bytes it may unpack to.

    Raises:
        BadExport: It is not sound; the message says where.
    """
    try:
        with Path(path).open("rb") as file:
            return _read(file, limit)
    except (BadExport, BadCheckpoint, StoreDamaged, zlib.error, MemoryError) as error:
        text = str(error).rstrip(".")
        raise BadExport(f"{path} cannot be imported: {text}. Nothing was imported; get the file again.") from error


def _read(file: BinaryIO, limit: int) -> Export:
    plain = file.read(_PLAIN_BYTES)
    if not plain.startswith(_MAGIC):
        if plain.startswith(_ANY_VERSION):
            version = plain[len(_ANY_VERSION) :].split(b"\n")[0].decode("ascii", "replace")[:20]
            raise BadExport(f"it has version {version!r}, and this release reads version 1; install a newer pluperfect")
        raise BadExport("it is no export of pluperfect")
    if len(plain) < _PLAIN_BYTES:
        raise BadExport("it is cut short")
    length, digest = int.from_bytes(plain[-40:-32], "big"), plain[-32:]
    if length > limit:
        raise BadExport(f"it unpacks to {length} bytes, and {limit} are allowed; allow more with `limit` (--limit MIB)")
    content = _Content(file, length)
    raw = content.bin()
    try:
        header = _read_header(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadExport(f"its header is wrong: {error}") from error
    places = _places(header)
    rows = tuple(content.bin() for _ in places)
    blobs: dict[bytes, bytes] = {}
    for wanted, size in header.blobs:
        data = content.bin()
        if len(data) != size or sha256(data).digest() != wanted:
            raise BadExport(f"the value {wanted.hex()[:16]} is not the one that its digest says")
        blobs[wanted] = data
    content.end(digest)
    _check(header, places, rows, blobs)
    return Export(header, raw, rows, blobs)


def _places(header: Header) -> list[tuple[int, bytes, int]]:
    """Position, run and seq of each row, in the order in which they come."""
    places: list[tuple[int, bytes, int]] = []
    seen: set[bytes] = set()
    for told in header.runs:
        if len(told.run) != 16 or told.run in seen or not told.positions:
            raise BadExport(f"its header names run {told.run.hex()[:32]} wrongly, twice, or without records")
        seen.add(told.run)
        places.extend((position, told.run, seq) for seq, position in enumerate(told.positions, 1))
        if told.positions != sorted(set(told.positions)):
            raise BadExport(f"the positions of run {told.run.hex()} do not rise")
    places.sort()
    if any(one[0] == other[0] for one, other in pairwise(places)):
        raise BadExport("two records have one position")
    if places and not 0 < places[0][0] <= places[-1][0] <= header.size < 2**63:
        raise BadExport("its records stand outside of its tree")
    if len(header.store) != 16 or len(header.root) != 32:
        raise BadExport("its header names no store and no root")
    for digest, size in [*header.blobs, *((gone[0], gone[1]) for gone in header.redacted)]:
        if len(digest) != 32 or not 0 <= size < 2**63:
            raise BadExport("its header names a value wrongly")
    return places


def _check(
    header: Header, places: Sequence[tuple[int, bytes, int]], rows: Sequence[bytes], blobs: dict[bytes, bytes]
) -> None:
    """Chains, proofs, values and histories."""
    last: dict[bytes, bytes] = {}
    states: dict[bytes, State | None] = {}
    there = set(states)
    sizes = {digest: len(data) for digest, data in blobs.items()}
    sizes.update((gone[0], gone[1]) for gone in header.redacted if gone[0] not in blobs)
    named: set[bytes] = set()
    for (_, run, seq), data in zip(places, rows, strict=True):
        (row,), (leaf,) = open_exact((data,))
        record = row.record
        where = f"run {run.hex()}, record {seq}"
        if (record.run, record.seq) != (run, seq) or record.type.startswith("store/"):
            raise BadExport(f"{where} is another record")
        if not continues(record.prev, last.get(run, GENESIS)):
            raise BadExport(f"{where} does not follow the one before it: it, or that one, was changed")
        for value in _elsewhere(row):
            digest, size = value.data[:32], int.from_bytes(value.data[32:], "big")
            if sizes.get(digest) != size:
                raise BadExport(f"{where}: its value {digest.hex()[:16]} is missing, or has another size")
            named.add(digest)
        entry = row.entry()
        if seq == 1:
            spec = entry.to.spec if entry is not None and isinstance(entry.to, Pending) else None
            if spec is None or len(spec.root) != 16 or (spec.root != run and spec.root not in there):
                raise BadExport(f"{where}: it is no birth, or its root is not in the file before it")
            if spec.parent is not None and spec.parent not in there:
                raise BadExport(f"{where}: its parent is not in the file before it")
            there.add(run)
        elif entry is not None and entry.seq != seq:
            raise BadExport(f"{where} says that it is record {entry.seq}")
        if isinstance(entry, Transition):
            if not legal(states.get(run), entry.to):
                came = states.get(run)
                raise BadExport(f"{where}: {came.kind if came else 'birth'} -> {entry.to.kind} is not in the table")
            states[run] = entry.to
        last[run] = leaf
    if named != set(sizes):
        raise BadExport("it holds values that no record names")
    for told in header.runs:
        if led_to(last[told.run], told.positions[-1] - 1, header.size, told.path) != header.root:
            raise BadExport(f"the proof of run {told.run.hex()} does not lead to the root of the tree")
    if header.checkpoint:
        point = Checkpoint.parse(header.checkpoint)
        if (point.store, point.size, point.root) != (header.store, header.size, header.root):
            raise BadExport("its checkpoint is of another tree")

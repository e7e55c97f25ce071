"""What is done to a log besides appending: taking in what another store has written, and taking values away."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import NamedTuple

from pluperfect.errors import ImportRefused
from pluperfect.evidence import Redaction
from pluperfect.hooks import Admitted, Parcel
from pluperfect.records import Row, open_row
from pluperfect.values import PLAIN, Packed

from .layout import decode_owner, idx_key, number, u64
from .leases import gone
from .ledger import Batch, Rows

__all__ = ["Held", "admit", "away", "holding", "redacted_values"]


def admit(batch: Batch, parcel: Parcel, file_from: int) -> Admitted:
    """
    Take in all rows of a parcel that are not here yet.

    Args:
        batch: An empty one.
        parcel: Its rows are sound: they are chained and decode.
        file_from: Values of more bytes than this are kept as files already.

    Raises:
        ImportRefused: A run has another history here, or somebody carries it out; the batch is of no use any more.
    """
    rows = [(open_row(data), data) for data in parcel.rows]
    own = batch.rows.get("meta", b"store_id")
    new: dict[bytes, None] = {}
    extended: dict[bytes, None] = {}
    left: dict[bytes, None] = {}
    fresh: list[tuple[Row, bytes]] = []
    for row, data in rows:
        run, seq = row.record.run, row.record.seq
        if run == own:
            raise ImportRefused(
                f"The export has a run under the id of this store, {run.hex()}, which is no run's. Nothing was imported; do not trust"
                " the file."
            )
        head = batch.head(run)
        known = 0 if head is None else head.seq
        if seq > known:
            fresh.append((row, data))
            (extended if head is not None else new)[run] = None
            if seq == known + 1 and head is not None and row.record.prev != head.leaf:
                raise _other(run, seq)
        else:
            place = batch.rows.get("idx", idx_key(run, seq))
            here = None if place is None else batch.rows.get("log", place) or b""
            leaf = batch.rows.get("cut", place) if place and not here else open_row(here).leaf if here else None
            if leaf != row.leaf:
                raise _other(run, seq)
            left[run] = None
    for run in extended:
        head = batch.head(run)
        assert head is not None
        lease = batch.lease(head.root or run)
        data = None if lease is None else batch.rows.get("owner", lease.owner)
        if lease is not None and data is not None and not gone(lease.owner, decode_owner(data)):
            raise ImportRefused(
                f"Run {run.hex()} is carried out here by {decode_owner(data)}; the export has more of it than there is here. Nothing"
                " was imported. Wait for its end, or end that process."
            )
    if fresh:
        header = Packed(PLAIN, parcel.header)
        if len(parcel.header) > file_from:
            header = Packed.kept(PLAIN, header.digest, header.size, None)
        batch.note("imported", parcel.at, {"store": parcel.store, "rows": len(fresh), "header": header})
        for row, data in fresh:
            record = row.record
            batch.enter(record.run, record.seq, row.entry(), data, row.leaf, record.epoch)
        for data in parcel.blobs.values():
            if len(data) <= file_from:
                batch.keep(Packed(PLAIN, data))
        for digest, size, by, why in parcel.redacted:
            batch.note("redacted", parcel.at, {"values": [[digest, size]], "by": by, "why": why, "store": parcel.store})
    return Admitted((*new,), (*extended,), tuple(run for run in left if run not in extended))


def _other(run: bytes, seq: int) -> ImportRefused:
    return ImportRefused(
        f"Run {run.hex()} has another history here: record {seq} differs from the export's. Nothing was imported. Import the"
        " file into another store, and compare the two with `pluperfect show`."
    )


def redacted_values(rows: Rows) -> set[bytes]:
    """The values that were taken away on purpose, as the store's own records say; damaged ones say nothing."""
    own = rows.get("meta", b"store_id") or b""
    found: set[bytes] = set()
    for _, place in rows.scan("idx", idx_key(own, 1), idx_key(own, 2**32 - 1)) if own else ():
        row = open_row(rows.get("log", place) or b"")
        if row.record.type == "store/redacted":
            found.update(bytes(digest) for digest, _ in row.note().get("values", ()))
    return found


class Held(NamedTuple):
    """A record that names a value."""

    position: int
    run: bytes
    seq: int
    digest: bytes
    size: int
    inline: bool
    """Whether the value stands in the record's own row, and not where its digest leads."""


def holding(rows: Rows, digests: Collection[bytes], after: int) -> list[Held]:
    """The records behind a position that name one of these values."""
    found: list[Held] = []
    for key, data in rows.scan("log", u64(after + 1), b""):
        row = open_row(data)
        for value in row.values:
            inline = type(value) is bytes
            digest = sha256(value).digest() if inline else value.data[:32]
            if digest in digests:
                size = len(value) if inline else number(value.data[32:])
                found.append(Held(number(key), row.record.run, row.record.seq, digest, size, inline))
    return found


def away(
    batch: Batch,
    known: Sequence[Held],
    run: bytes,
    digests: Collection[bytes],
    *,
    everywhere: bool,
    by: str,
    why: str,
    at: float,
) -> Redaction:
    """
    Take values away, and put that on record.

    Args:
        batch: An empty one.
        known: The records that name them.
        run: From this run's records; large values, which are kept once, from all that name them.
        digests: SHA-256 of the values.
        everywhere: From the records of all other runs too.
        by: Who wants it.
        why: For which reason.
        at: When, UTC seconds.
    """
    sizes: dict[bytes, int] = {}
    taken: dict[tuple[bytes, int], None] = {}
    left: dict[tuple[bytes, int], None] = {}
    for held in known:
        if held.inline and held.run != run and not everywhere:
            left[held.run, held.seq] = None
            continue
        data = batch.rows.get("log", u64(held.position)) if held.inline else None
        if data is not None:
            batch.rewrite(u64(held.position), open_row(data).without(digests))
        sizes[held.digest] = held.size
        taken[held.run, held.seq] = None
    for digest in sizes:
        batch.remove("blob", digest)
    if sizes:
        values = sorted([digest, size] for digest, size in sizes.items())
        batch.note("redacted", at, {"values": values, "by": by, "why": why, "run": run})
    return Redaction((*sorted(sizes),), (*taken,), (*left,))

"""
The evidence half of every log here: proofs over the tree, and what else the `Log` protocol has beside reading and appending.

A proof is made of the nodes that are kept and of at most two blocks of 256 leaves, however long the log is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Final, TypeVar

from pluperfect.errors import PrunedAway, StoreDamaged, UnknownRun
from pluperfect.evidence import Checkpoint, Proof, Redaction, Report, joined
from pluperfect.hooks import Admitted, Parcel
from pluperfect.records import open_row

from .layout import decode_head, idx_key, node_key, number, u64
from .ledger import Batch, Rows, end_of
from .reading import Reading, check_id, check_whole
from .tree import BLOCK, KEPT_LEVEL, Tree, root_of_peaks

__all__ = ["Proving", "consistency_path", "inclusion_path", "root_at"]

T = TypeVar("T")

Hashes = dict[tuple[int, int], bytes]
"""Hashes over ranges of leaves, by their first index and the one behind their last."""

_MOST: Final = 1 << 16


class Proving(Reading):
    """Proves, verifies, takes in and takes away. A subclass gives snapshots, and runs what changes the tables."""

    def _change(self, job: Callable[[Batch], T]) -> T:
        """Do this with a batch over the committed tables, and commit what it made of it; perhaps more than once."""
        raise NotImplementedError

    def _file(self, digest: bytes) -> bytes | None:
        """A value that is kept outside of the tables."""
        return None

    def _put_file(self, digest: bytes, data: bytes) -> None:
        """Keep a value outside of the tables."""
        raise NotImplementedError

    def _remove_file(self, digest: bytes) -> None:
        """Take such a value away, where it is there."""

    _hashes: Hashes
    """Those that proofs were made of: a leaf never changes, so that they hold for ever."""

    _file_from: int | None = None
    """From how many bytes on values are kept outside of the tables; None: never."""

    def verify(self, run: bytes | None = None, against: Checkpoint | None = None) -> Report:
        """Say everything that is wrong; see `pluperfect.hooks.Log.verify`."""
        from .verifying import verify

        if run is not None:
            check_id(run)
        if against is not None and type(against) is not Checkpoint:
            raise TypeError(f"A log is held against a checkpoint, not {against!r}; `Checkpoint.parse` reads one.")
        with self._rows() as rows:
            return verify(rows, self._file, run, against)

    def tree(self, size: int | None = None) -> tuple[int, bytes]:
        """Size and root of the tree, now or as it was."""
        with self._rows() as rows:
            return _tree(rows, size, self._hashes)

    def prove(self, run: bytes, size: int | None = None) -> Proof:
        """Prove that a run's last record is in the log; see `pluperfect.hooks.Log.prove`."""
        check_id(run)
        with self._rows() as rows:
            size, root = _tree(rows, size, self._hashes)
            found = rows.get("head", run)
            head = None if found is None else decode_head(found)
            if head is None or head.born > size:
                raise UnknownRun(f"Run {run.hex()} is not among the first {size} records of this log.")
            seq, position = head.seq, head.position
            if position > size:
                # The last entry up to there: positions grow with seq.
                low, high = 1, seq
                while low < high:
                    middle = (low + high + 1) // 2
                    place = rows.get("idx", idx_key(run, middle))
                    if place is None or number(place) > size:
                        high = middle - 1
                    else:
                        low = middle
                seq, position = low, number(rows.get("idx", idx_key(run, low)) or b"")
            leaf = _leaf_at(rows, position)
            return Proof(
                run, seq, position, leaf, size, root, tuple(inclusion_path(rows, position - 1, size, self._hashes))
            )

    def consistency(self, size: int, later: int | None = None) -> tuple[bytes, ...]:
        """The path between two sizes of the tree; see `pluperfect.hooks.Log.consistency`."""
        with self._rows() as rows:
            check_whole("The size of a tree", size)
            later, _ = _tree(rows, later, self._hashes)
            if not 0 < size <= later:
                raise IndexError(f"There is no consistency between trees of {size} and {later} records.")
            return tuple(consistency_path(rows, size, later, self._hashes))

    def admit(self, parcel: Parcel) -> Admitted:
        """Take histories of another store in; see `pluperfect.hooks.Log.admit`."""
        from .receiving import admit

        if self._file_from is not None:
            for digest, data in parcel.blobs.items():
                if len(data) > self._file_from:
                    self._put_file(digest, data)
            if len(parcel.header) > self._file_from:
                self._put_file(sha256(parcel.header).digest(), parcel.header)
        return self._change(lambda batch: admit(batch, parcel, self._file_from or 2**63))

    def redact(
        self, run: bytes, digests: Collection[bytes], *, everywhere: bool, by: str, why: str, at: float
    ) -> Redaction:
        """Take values away; see `pluperfect.hooks.Log.redact`."""
        from .receiving import away, holding

        # The long look for what holds them is done before the transaction, which looks at what came since alone.
        with self._rows() as rows:
            end, known = end_of(rows), holding(rows, digests, 0)

        def job(batch: Batch) -> Redaction:
            since = holding(batch.rows, digests, end)
            return away(batch, [*known, *since], run, digests, everywhere=everywhere, by=by, why=why, at=at)

        gone = self._change(job)
        for digest in gone.digests:
            self._remove_file(digest)
        return gone


def _tree(rows: Rows, size: int | None, known: Hashes) -> tuple[int, bytes]:
    now = Tree.decode(rows.get("meta", b"tree"))
    if size is not None:
        check_whole("The size of a tree", size)
    if size is None or size == now.size:
        return now.size, now.root
    if not 0 <= size <= now.size:
        raise IndexError(f"The log has {now.size} records; a tree of {size} is not among what it was.")
    return size, root_at(rows, size, known)


def _leaf_at(rows: Rows, position: int) -> bytes:
    place = u64(position)
    data = rows.get("log", place)
    leaf = rows.get("cut", place) if data is None else open_row(data).leaf
    if leaf is None:
        raise _missing(rows, position)
    return leaf


def _missing(rows: Rows, position: int) -> PrunedAway | StoreDamaged:
    block = (position - 1) // BLOCK
    low, high = u64(block * BLOCK + 1), u64((block + 1) * BLOCK + 1)
    left = any(True for table in ("log", "cut") for _ in rows.scan(table, low, high))
    if left or not rows.has("node", node_key(KEPT_LEVEL, block)):
        return StoreDamaged(f"Position {position} of the log is missing. Run `pluperfect verify`.")
    return PrunedAway(
        f"Position {position} of the log was pruned with all those around it, from {block * BLOCK + 1} to {(block + 1) * BLOCK}: one"
        f" hash stands for them. What needs a tree that ends among them cannot be answered; ask for a size of {(block + 1) * BLOCK}"
        " or more."
    )


def _hash(rows: Rows, first: int, end: int, known: Hashes) -> bytes:
    """The hash over the leaves from index ``first`` to before ``end``: a node that is kept, or made of smaller ones."""
    count = end - first
    if count == 1:
        return _leaf_at(rows, end)
    level = count.bit_length() - 1
    if count == 1 << level and level >= KEPT_LEVEL:
        node = rows.get("node", node_key(level, first >> level))
        if node is None:
            raise StoreDamaged(f"Node {first >> level} of level {level} is missing. Run `pluperfect verify`.")
        return node
    found = known.get((first, end))
    if found is None:
        middle = first + _half(count)
        found = joined(_hash(rows, first, middle, known), _hash(rows, middle, end, known))
        if len(known) >= _MOST:
            known.clear()
        known[first, end] = found
    return found


def _half(count: int) -> int:
    """The greatest power of two below a count."""
    return 1 << ((count - 1).bit_length() - 1)


def root_at(rows: Rows, size: int, known: Hashes) -> bytes:
    """The root of the tree when it had so many leaves."""
    return _hash(rows, 0, size, known) if size else root_of_peaks(())


def inclusion_path(rows: Rows, index: int, size: int, known: Hashes) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, from the bottom up (RFC 6962, PATH)."""
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _half(end - first)
        if index < middle:
            path.append(_hash(rows, middle, end, known))
            end = middle
        else:
            path.append(_hash(rows, first, middle, known))
            first = middle
    return path[::-1]


def consistency_path(rows: Rows, size: int, later: int, known: Hashes) -> list[bytes]:
    """The hashes that lead from the root of a tree to that of a longer one (RFC 6962, PROOF)."""
    path: list[bytes] = []
    first, end, whole = 0, later, True
    while size != end:
        middle = first + _half(end - first)
        if size <= middle:
            path.append(_hash(rows, middle, end, known))
            end = middle
        else:
            path.append(_hash(rows, first, middle, known))
            first, whole = middle, False
    return [*([] if whole else [_hash(rows, first, end, known)]), *path[::-1]]

"""
What the walk of `verifying` over a log remembers, and whom it blames.

The leaf of a record is what the next record of its run says in ``prev``, and for the last what the head says. A record whose
leaf is another one is bad, unless its witness is bad itself: a changed ``prev`` is the fault of the record that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pluperfect.errors import StoreDamaged
from pluperfect.evidence import Finding
from pluperfect.histories import id_text
from pluperfect.records import GENESIS, Row, open_row

from .folding import told_pruned
from .layout import PRUNED, decode_head, idx_key, number
from .ledger import Rows
from .views import birth_of

__all__ = ["MOST", "RESTORE", "Fetch", "Lost", "Walk"]

MOST: Final = 1000
"""Findings of each kind; who has more has one cause for them."""

RESTORE: Final = "Restore the store from a backup, and compare the run with it."

Fetch = Callable[[bytes], "bytes | None"]


class _Last(NamedTuple):
    """The last record of a run that was met."""

    leaf: bytes
    seq: int
    position: int
    streak: tuple[tuple[int, int], ...] = ()
    """The records just before it whose leaf is not what their successor says, without a gap: seq and position."""


class Lost(NamedTuple):
    """Positions without the record that belongs there."""

    first: int
    last: int
    what: str
    row: Row | None = None
    """What stands there instead, where that can be read."""


class Walk:
    """What the walk over the log remembers."""

    def __init__(self, rows: Rows, file: Fetch) -> None:
        self.rows, self.file = rows, file
        self.store = rows.get("meta", b"store_id") or b""
        self.bad: list[Finding] = []  # of records
        self.doubtful: list[Finding] = []  # of records whose only witness is a view
        self.other: list[Finding] = []
        self.last: dict[bytes, _Last] = {}
        self.lost: list[Lost] = []
        self.doubted: list[Lost] = []  # what fits, but the index leads elsewhere
        self.gaps: list[tuple[bytes, int, int, int]] = []  # run, the record before, the one behind, its position
        self.records = self.pruned = self.told = 0  # told: how many were pruned, as the store's own records say
        self.redacted: dict[bytes, int] = {}
        self.kept: dict[bytes, int] = {}  # values that were looked at: their size
        self.missing: list[tuple[bytes, int, bytes, int, int]] = []
        self._names: dict[bytes, str] = {}

    # --- one record

    def see(self, position: int, key: bytes, data: bytes) -> Row | None:
        """Look at one row; None where it cannot be read."""
        self.records += 1
        try:
            row = open_row(data)
            record = row.record
            if len(record.run) != 16 or len(record.prev) != 32 or not 0 < record.seq < 2**32 or row.exact != data:
                raise StoreDamaged("its bytes are not as they are written")
        except StoreDamaged as error:
            self.lost.append(Lost(position, position, f"the record was changed: {str(error).rstrip('.')}"))
            return None
        leaf = row.leaf
        there = self.rows.get("idx", idx_key(record.run, record.seq))
        before = self.last.get(record.run)
        follows = record.seq == (1 if before is None else before.seq + 1)
        if there != key:
            lost = Lost(position, position, "the record was changed, or is another's", row)
            if not follows or record.prev != (GENESIS if before is None else before.leaf):
                self.lost.append(lost)  # it says of itself that it is another one: no witness, and no suspect
                return row
            self.doubted.append(lost)
        self._chain(row, position, leaf, before, follows)
        self._values(row, position)
        if record.run == self.store and record.type == "store/redacted":
            self.note(row)
        elif record.run == self.store and record.type == PRUNED:
            self.told += told_pruned(record)[0]
        return row

    def _chain(self, row: Row, position: int, leaf: bytes, before: _Last | None, follows: bool) -> None:
        record = row.record
        streak: tuple[tuple[int, int], ...] = ()
        if not follows:
            known = 0 if before is None else before.seq
            self.gaps.append((record.run, known, record.seq, position))
            if before is not None:
                self._blame(record.run, before.streak)
        elif before is None:
            if record.prev != GENESIS:
                self.bad.append(
                    self.of(row, position, "it is the first of its run, but names the hash of one before it.")
                )
        elif before.leaf != record.prev:
            streak = (*before.streak, (before.seq, before.position))
        elif before.streak:
            self._blame(record.run, before.streak)
        self.last[record.run] = _Last(leaf, record.seq, position, streak)

    def _blame(self, run: bytes, streak: tuple[tuple[int, int], ...]) -> None:
        # Each but the last has a witness that is blamed itself, or one that is not, in turn.
        for seq, position in streak[::-2]:
            what = "the record was changed: its hash is not the one that its successor names."
            self.bad.append(self.at(run, seq, position, what))

    def _values(self, row: Row, position: int) -> None:
        for value in row.values:
            if type(value) is bytes:
                continue  # the leaf binds it
            digest, size = value.data[:32], number(value.data[32:])
            known = self.kept.get(digest)
            if known is None:
                data = self.rows.get("blob", digest)
                if data is None:
                    data = self.file(digest)
                if data is not None and sha256(data).digest() != digest:
                    what = f"the value {digest.hex()[:16]} ({size} bytes) that the record names was changed."
                    self.bad.append(self.of(row, position, what))
                known = self.kept[digest] = -1 if data is None else len(data)
            if known == -1:
                self.missing.append((digest, size, row.record.run, row.record.seq, position))
            elif known != size:
                what = f"the value {digest.hex()[:16]} has {known} bytes, the row says {size}."
                self.bad.append(self.of(row, position, what))

    def note(self, row: Row) -> None:
        """Remember what was redacted on purpose."""
        try:
            values: Any = row.note().get("values", ())
            self.redacted.update((bytes(digest), int(size)) for digest, size in values)
        except (StoreDamaged, TypeError, ValueError):
            pass  # as a record it is found where it was changed

    # --- the end

    def finish(self) -> None:
        """Judge what could not be judged before: the last records by their heads, the values that are not there."""
        for run, last in self.last.items():
            found = self.rows.get("head", run)
            head = None
            try:
                head = None if found is None else decode_head(found)
            except Exception:  # of a view: `compare` says so
                head = None
            streak = last.streak
            if head is not None and head.seq == last.seq and head.leaf != last.leaf:
                if streak:
                    self._blame(run, (*streak, (last.seq, last.position)))
                else:
                    what = "the record was changed: its hash is not the one that the head of its run names."
                    self.doubtful.append(self.at(run, last.seq, last.position, what))
            else:
                self._blame(run, streak)
        for digest, size, run, seq, position in self.missing:
            told = self.redacted.get(digest)
            if told is None:
                what = f"the value {digest.hex()[:16]} ({size} bytes) that the record names is missing."
                self.bad.append(self.at(run, seq, position, what))
            elif told != size:
                what = f"the redacted value {digest.hex()[:16]} had {told} bytes, the row says {size}."
                self.bad.append(self.at(run, seq, position, what))

    def name_the_lost(self) -> None:
        """Say of positions without a readable record which record the index has there, and which gaps that explains."""
        known: dict[int, bytes] = {}
        for key, place in self.rows.scan("idx", b"", b"") if self.lost else ():
            position = number(place)
            if len(key) == 20 and any(lost.first <= position <= lost.last for lost in self.lost[:MOST]):
                known[position] = key
        for lost in self.lost:
            for position in range(lost.first, min(lost.last, lost.first + MOST) + 1):
                self._lost_at(position, known.get(position), lost)
        explained = {*known.values()}
        for run, before, seq, position in self.gaps:
            if any(idx_key(run, missing) not in explained for missing in range(before + 1, min(seq, before + MOST))):
                what = f"the run goes from record {before} to {seq}; what belongs between is gone."
                self.bad.append(self.at(run, seq, position, what))

    def _lost_at(self, position: int, key: bytes | None, lost: Lost) -> None:
        row = lost.row
        if key is None and row is not None:
            self.bad.append(
                self.of(row, position, "the record was put there; the index has nothing for this position.")
            )
        elif key is None:
            self.bad.append(Finding(f"{lost.what}.", RESTORE, position=position))
        else:
            claim = (
                "" if row is None else f": it says that it is record {row.record.seq} of run {id_text(row.record.run)}"
            )
            self.bad.append(self.at(key[:16], number(key[16:]), position, f"{lost.what}{claim}."))

    # --- words

    def of(self, row: Row, position: int, what: str) -> Finding:
        """A finding about a record that can be read."""
        return self.at(row.record.run, row.record.seq, position, what)

    def at(self, run: bytes, seq: int, position: int, what: str, advice: str = RESTORE) -> Finding:
        """A finding about a record."""
        return Finding(what, advice, id_text(run), self.name(run), seq, position)

    def name(self, run: bytes) -> str:
        """The name of a run's flow or task, as far as it can still be told."""
        if run == self.store:
            return "the store itself"
        if run not in self._names:
            self._names[run] = self._found_name(run)
        return self._names[run]

    def _found_name(self, run: bytes) -> str:
        try:
            place = self.rows.get("idx", idx_key(run, 1))
            row = None if place is None else self.rows.get("log", place)
            spec = None if row is None else birth_of(open_row(row).entry())
            if spec is not None:
                return spec.name
        except StoreDamaged:
            pass
        for key, value in self.rows.scan("by_name", b"", b""):
            if value == run:
                return key[:-9].decode(errors="replace")
        return ""

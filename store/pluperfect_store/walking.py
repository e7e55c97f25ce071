"""
What the walk of `verifying` over a log remembers, and whom it blames.

The leaf of a record is what the next record of its run says in ``prev``, and for the last what the head says. A record whose
leaf is another one is bad, unless its witness is bad itself: a changed ``prev`` is the fault of the record that holds it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pluperfect.errors import StoreDamaged
from pluperfect.evidence import Finding
from pluperfect.histories import id_text
from pluperfect.hooks import Head
from pluperfect.records import GENESIS, Outlines, Row, continues, open_exact, open_row
from pluperfect.transitions import Entry

from .comparing import Comparison, Met
from .folding import told_pruned
from .layout import PRUNED, idx_key, number
from .ledger import Rows
from .views import birth_of

__all__ = ["MOST", "RESTORE", "Fetch", "Lost", "Walk"]

MOST: Final = 1000
"""Findings of each kind; who has more has one cause for them."""

RESTORE: Final = "Restore the store from a backup, and compare the run with it."

Fetch = Callable[[bytes], "bytes | None"]

T = TypeVar("T")

_KEPT: Final = 1 << 16
_Streak = tuple[tuple[int, int, bytes], ...]
"""Records of a run, one behind the other, whose leaf is not what their successor says: seq, position and leaf."""


class _Some(Generic[T]):
    """The first of perhaps very many, and how many more there were."""

    def __init__(self) -> None:
        self.some: list[T] = []
        self.more = 0

    def add(self, one: T) -> None:
        if len(self.some) < MOST:
            self.some.append(one)
        else:
            self.more += 1

    def join(self, others: _Some[T]) -> None:
        """These too."""
        for one in others.some:
            self.add(one)
        self.more += others.more


class Lost(NamedTuple):
    """Positions without the record that belongs there."""

    first: int
    last: int
    what: str
    row: Row | None = None
    """What stands there instead, where that can be read."""


class Walk:
    """
    What the walk over the log remembers.

    Attributes:
        views: What follows from the rows so far; where they are not compared, only the heads are asked for.
        bad: What is wrong with records.
        other: What else is wrong.
    """

    def __init__(self, rows: Rows, file: Fetch) -> None:
        self.rows, self.file = rows, file
        self.store = rows.get("meta", b"store_id") or b""
        self.views = Comparison(rows, 10 * MOST)
        self.bad = _Some[Finding]()
        self.doubtful = _Some[Finding]()  # records whose only witness is a view
        self.unreadable = _Some[Finding]()  # records that hold what no entry does
        self.other: list[Finding] = []
        self.lost = _Some[Lost]()
        self.doubted = _Some[Lost]()  # what fits, but the index leads elsewhere
        self.gaps = _Some[tuple[bytes, int, int, int]]()  # run, the record before, the one behind, its position
        self.records = self.runs = self.pruned = self.told = 0  # told: of how many pruned ones the log tells
        self.redacted: dict[bytes, int] = {}
        self.missing: list[tuple[bytes, int, bytes, int, int]] = []
        self._kept: dict[bytes, int] = {}  # values that were looked at: their size
        self._outlines = Outlines()
        self._streaks: dict[bytes, _Streak] = {}
        self._rivals: dict[bytes, tuple[int, int, bytes]] = {}  # whose place another claims, and that one's leaf
        self._names: dict[bytes, str] = {}

    # --- some records

    def look(self, places: Sequence[bytes], rows: Sequence[bytes]) -> list[Met | None]:
        """Look at some rows of the log, in order; None stands for what cannot be read."""
        self.records += len(rows)
        met = self._opened(places, rows)
        there = [one for one in met if one is not None]
        astray = self.views.astray(there)
        for some in self.views.by_run(there):
            if not self._go_on(some, astray):
                for one in some:
                    self._look(one, led=one.position not in astray)
        return met

    def _opened(self, places: Sequence[bytes], rows: Sequence[bytes]) -> list[Met | None]:
        try:
            return [*map(Met, map(number, places), *open_exact(rows))]
        except StoreDamaged as error:
            if len(rows) > 1:  # which one?
                return [self._opened([place], [data])[0] for place, data in zip(places, rows, strict=True)]
            position = number(places[0])
            self.lost.add(Lost(position, position, f"the record was changed: {str(error).rstrip('.')}"))
            return [None]

    def _go_on(self, met: Sequence[Met], astray: Collection[int]) -> bool:
        """Take the next records of a run as they are, where nothing is wrong with them. Returns whether that is so."""
        first = met[0].row.record
        before = self.views.before(first.run, first.seq, met[0].position)
        seq, prev = (0, GENESIS) if before is None else (before.seq, before.leaf)
        held: list[Entry | None] = []
        try:
            for one in met:
                record = one.row.record
                seq += 1
                if record.seq != seq or not continues(record.prev, prev):
                    return False
                prev = one.leaf
                held.append(self._outlines.of(one.row))
        except StoreDamaged:
            return False
        if (self._streaks and first.run in self._streaks) or (astray and any(one.position in astray for one in met)):
            return False
        self._enter(met, held, before)
        return True

    def _look(self, one: Met, *, led: bool) -> None:
        """Look at a record with which something may be wrong."""
        row, record, position = one.row, one.row.record, one.position
        before = self.views.before(record.run, record.seq, position)
        follows = record.seq == (1 if before is None else before.seq + 1)
        fits = follows and continues(record.prev, GENESIS if before is None else before.leaf)
        if not led:
            lost = Lost(position, position, "the record was changed, or is another's", row)
            if not fits:
                self.lost.add(lost)  # it says of itself that it is another one: no suspect, and seldom a witness
                self._rival(one, before)
                return
            self.doubted.add(lost)
        self._chain(row, position, before, follows=follows, fits=fits)
        try:
            entry = self._outlines.of(row)
        except StoreDamaged as error:
            entry = None
            self.unreadable.add(self.of(row, position, f"the record was changed: {str(error).rstrip('.')}."))
        self._enter([one], [entry], before)

    def _rival(self, one: Met, before: Head | None) -> None:
        """Of two records that claim one place, the one that the next record follows was there first."""
        record = one.row.record
        if before is not None and record.seq == before.seq and one.leaf != before.leaf:
            if len(self._rivals) < MOST:
                self._rivals[record.run] = (record.seq, before.position, one.leaf)
            streak = self._streaks.get(record.run, ())
            if streak and streak[-1][2] == record.prev:  # it vouches for the one that both say they follow
                self._streaks.pop(record.run)
                self._rivals.pop(record.run, None)
                self._blame(record.run, streak[:-1])
                self._blame_rival(record.run, record.seq, before.position)
            return
        seq, position, leaf = self._rivals.get(record.run, (0, 0, b""))
        if record.seq == seq + 1 and record.prev == leaf:
            del self._rivals[record.run]
            self._blame_rival(record.run, seq, position)

    def _blame_rival(self, run: bytes, seq: int, position: int) -> None:
        what = "the record was put there: another one of this number fits to what stands around it."
        self.bad.add(self.at(run, seq, position, what))

    def _enter(self, met: Sequence[Met], held: Sequence[Entry | None], before: Head | None) -> None:
        run = met[0].row.record.run
        if before is None and run != self.store:
            self.runs += 1
        for one in met:
            if one.row.values:
                self._values(one.row, one.position)
            if run == self.store and one.row.record.type == "store/redacted":
                self.note(one.row)
            elif run == self.store and one.row.record.type == PRUNED:
                self.told += told_pruned(one.row.record)[0]
        self.views.enter(met, held, before)

    def _chain(self, row: Row, position: int, before: Head | None, *, follows: bool, fits: bool) -> None:
        run, seq = row.record.run, row.record.seq
        streak = self._streaks.pop(run, ())
        if follows and not fits:
            if before is None:
                what = "it is the first of its run, but names the hash of one before it."
                self.bad.add(self.of(row, position, what))
            else:
                self._streaks[run] = (*streak, (before.seq, before.position, before.leaf))
            return
        if not follows:
            self.gaps.add((run, 0 if before is None else before.seq, seq, position))
        self._blame(run, streak)

    def _blame(self, run: bytes, streak: _Streak) -> None:
        # Each but the last has a witness that is blamed itself, or one that is not, in turn.
        for seq, position, _ in streak[::-2]:
            what = "the record was changed: its hash is not the one that its successor names."
            self.bad.add(self.at(run, seq, position, what))

    def _values(self, row: Row, position: int) -> None:
        for value in row.values:
            if type(value) is bytes:
                continue  # the leaf binds it
            digest, size = value.data[:32], number(value.data[32:])
            known = self._kept.get(digest)
            if known is None:
                data = self.rows.get("blob", digest)
                if data is None:
                    data = self.file(digest)
                if data is not None and sha256(data).digest() != digest:
                    what = f"the value {digest.hex()[:16]} ({size} bytes) that the record names was changed."
                    self.bad.add(self.of(row, position, what))
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                known = self._kept[digest] = -1 if data is None else len(data)
            if known == -1:
                self.missing.append((digest, size, row.record.run, row.record.seq, position))
            elif known != size:
                what = f"the value {digest.hex()[:16]} has {known} bytes, the row says {size}."
                self.bad.add(self.of(row, position, what))

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
        for run, last in self.views.heads.items():
            streak = self._streaks.pop(run, ())
            head = self.views.stored(run)
            if head is None or head.seq != last.seq or head.leaf == last.leaf:
                self._blame(run, streak)
            elif streak:
                self._blame(run, (*streak, (last.seq, last.position, last.leaf)))
            else:
                what = "the record was changed: its hash is not the one that the head of its run names."
                self.doubtful.add(self.at(run, last.seq, last.position, what))
        for run, (seq, position, leaf) in self._rivals.items():
            head = self.views.stored(run)
            if head is not None and (head.seq, head.leaf) == (seq, leaf):
                self._blame_rival(run, seq, position)
        for run, streak in self._streaks.items():  # their heads are as the log says
            self._blame(run, streak)
        for digest, size, run, seq, position in self.missing:
            told = self.redacted.get(digest)
            if told is None:
                what = f"the value {digest.hex()[:16]} ({size} bytes) that the record names is missing."
                self.bad.add(self.at(run, seq, position, what))
            elif told != size:
                what = f"the redacted value {digest.hex()[:16]} had {told} bytes, the row says {size}."
                self.bad.add(self.at(run, seq, position, what))

    def name_the_lost(self) -> None:
        """Say of positions without a readable record what the index has there, which gaps that explains, and what is wrong besides."""
        lost = [*self._nameable()]
        firsts = [one.first for one in lost]
        known: dict[int, bytes] = {}
        for key, place in self.rows.scan("idx", b"", b"") if lost else ():
            position = number(place)
            at = bisect_right(firsts, position) - 1
            if at >= 0 and position <= lost[at].last and len(key) == 20:
                known[position] = key
        for one in lost:
            for position in range(one.first, one.last + 1):
                self._lost_at(position, known.get(position), one)
        explained = {*known.values()}
        for run, before, seq, position in self.gaps.some:
            if any(idx_key(run, missing) not in explained for missing in range(before + 1, min(seq, before + MOST))):
                what = f"the run goes from record {before} to {seq}; what belongs between is gone."
                self.bad.add(self.at(run, seq, position, what))
        blamed = {found.position for found in self.bad.some}
        for found in self.unreadable.some:
            if found.position not in blamed:
                self.bad.add(found)

    def _nameable(self) -> Iterator[Lost]:
        """The positions that are lost, in order, up to as many as are named."""
        left = MOST
        for one in sorted(self.lost.some, key=lambda lost: lost.first):
            count = one.last - one.first + 1
            if left:
                yield one._replace(last=one.first + min(count, left) - 1)
            self.bad.more += max(0, count - left)
            left = max(0, left - count)
        self.bad.more += self.lost.more

    def _lost_at(self, position: int, key: bytes | None, lost: Lost) -> None:
        row = lost.row
        if key is None and row is not None:
            self.bad.add(self.of(row, position, "the record was put there; the index has nothing for this position."))
        elif key is None:
            self.bad.add(Finding(f"{lost.what}.", RESTORE, position=position))
        else:
            claim = (
                "" if row is None else f": it says that it is record {row.record.seq} of run {id_text(row.record.run)}"
            )
            self.bad.add(self.at(key[:16], number(key[16:]), position, f"{lost.what}{claim}."))

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

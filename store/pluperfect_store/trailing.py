"""
The views that trail behind the log: what they lack, and how it comes into them.

A commit that somebody waits for should write few pages. The index and the lists (runs by state, name, tag and parent) decide
nothing of what may be written, so their rows are left behind for some hundred records, and come into the tables together, in
order. Nobody sees that: who reads such a view meanwhile adds what the end of the log says, in the same snapshot. ``settled`` in
``meta`` names the record up to which the tables are complete, by its position and its leaf; where there is none, they always are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pluperfect.errors import StoreDamaged
from pluperfect.hooks import Head
from pluperfect.records import open_row
from pluperfect.states import KINDS

from .layout import TRAILING, idx_key, number, readable_head, state_key, u64
from .views import gist, lasting

if TYPE_CHECKING:
    from .ledger import Rows

__all__ = ["BEHIND", "Lacking", "Trail", "end_of", "lacking", "mark", "settled", "wrong_mark"]

BEHIND: Final = 256
"""Records; a view that is read meanwhile costs the decoding of so many at most."""

_CODES: Final = tuple(kind.code for kind in KINDS)
_KEY: Final = itemgetter(0)


def mark(position: int, leaf: bytes) -> bytes:
    """The value of ``settled`` in ``meta``: the record up to which the trailing views are complete."""
    return u64(position) + leaf


def settled(rows: Rows, end: int) -> int:
    """The position up to which the trailing views of a log that ends here are complete; 0 where that is not known."""
    found = rows.get("meta", b"settled")
    upto = end if found is None else number(found[:8])
    return upto if upto <= end else 0


def end_of(rows: Rows) -> int:
    """The position of the last record; 0 in an empty log."""
    key = rows.last("log")
    return 0 if key is None else number(key)


def wrong_mark(rows: Rows) -> str | None:
    """What is wrong with the mark; None: nothing."""
    found = rows.get("meta", b"settled")
    if found is None or found == mark(0, b""):
        return None
    data = rows.get("log", found[:8]) if len(found) > 8 else None
    try:
        if data is not None and found[8:] == open_row(data).leaf:
            return None
    except StoreDamaged:
        pass  # the record itself is found
    return "what the store says of how far they are complete names no record of the log"


class Lacking:
    """
    What the trailing views lack that are complete up to one position, where the log ends at another.

    It is never changed: what is true of a later end is another one, which is made of this one and of the records in between.

    Attributes:
        upto: The position up to which they are complete.
        end: Up to where the log was read.
        tables: Table by table the value of each key; None for keys that must not be there.
    """

    __slots__ = ("_sorted", "end", "tables", "upto")

    def __init__(self, upto: int, end: int, tables: dict[str, dict[bytes, bytes | None]] | None = None) -> None:
        self.upto, self.end = upto, end
        self.tables: dict[str, dict[bytes, bytes | None]] = tables or {table: {} for table in TRAILING}
        self._sorted: dict[str, list[bytes]] = {}

    def grown(self, rows: Rows) -> Lacking:
        """
        The same with the records that follow.

        What cannot be decoded, or is not what the head of its run knows of, makes no rows: who reads the log finds it.
        """
        tables, end = {table: dict(found) for table, found in self.tables.items()}, self.end
        heads: dict[bytes, Head | None] = {}
        touched: dict[bytes, Head] = {}
        for position, (place, data) in enumerate(rows.scan("log", u64(end + 1), b""), end + 1):
            if number(place) != position:
                break  # a row that nobody appended: views follow from the log as far as it goes on
            end = position
            try:
                row = open_row(data)
                entry = row.entry()
            except StoreDamaged:
                continue
            run, seq = row.record.run, row.record.seq
            if run not in heads:
                heads[run] = readable_head(rows.get("head", run))
            head = heads[run]
            if head is None or head.position < position or head.seq < seq:
                continue
            touched[run] = head
            tables["idx"][idx_key(run, seq)] = place
            for table, key, value in lasting(run, position, seq, gist(entry)):
                if table in tables:
                    tables[table][key] = value
        states = tables["by_state"]
        for run, head in touched.items():
            if head.state:
                for code in _CODES:
                    states[state_key(code, head.root, head.born)] = run if code == head.state else None
        return Lacking(self.upto, end, tables)

    def amend(
        self, table: str, rows: Iterator[tuple[bytes, bytes]], low: bytes, high: bytes, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """The rows of a view between two keys with what it lacks, in order."""
        found = self.tables[table]
        keys = self._sorted.get(table)
        if keys is None:
            keys = self._sorted[table] = sorted(found)
        within = keys[bisect_left(keys, low) : bisect_left(keys, high) if high else len(keys)]
        if not within:
            return rows
        more = [(key, value) for key in within if (value := found[key]) is not None]
        theirs = (row for row in rows if row[0] not in found)
        return merge(theirs, reversed(more) if reverse else more, key=_KEY, reverse=reverse)


def lacking(rows: Rows, before: Lacking | None = None) -> Lacking | None:
    """
    What the trailing views lack in a snapshot; None where they are complete.

    Args:
        rows: The snapshot.
        before: What they lacked in another one, earlier or later: of that it is made, where that is possible.
    """
    end = end_of(rows)
    upto = settled(rows, end)
    if upto >= end:
        return None
    if before is None or before.upto != upto or before.end > end:
        before = Lacking(upto, upto)
    return before if before.end == end else before.grown(rows)


class Trail:
    """
    What the trailing views lack, as the writer keeps it from one transaction to the next.

    Args:
        upto: The position up to which they are complete.
        end: Where the log ends. What lies between is read from the log where it comes to that.
    """

    __slots__ = ("_gone", "_known", "_puts", "end", "upto")

    def __init__(self, upto: int, end: int) -> None:
        self.upto, self.end = upto, end
        self._known = upto >= end
        self._puts: dict[str, dict[bytes, bytes]] = {table: {} for table in TRAILING}
        self._gone: dict[tuple[str, bytes], None] = {}

    @classmethod
    def of(cls, rows: Rows) -> Trail:
        """What they lack as somebody else may have left them."""
        end = end_of(rows)
        return cls(settled(rows, end), end)

    def add(self, puts: Mapping[str, Mapping[bytes, bytes]], gone: Iterable[tuple[str, bytes]]) -> None:
        """What one transaction more makes of them."""
        if not self._known:
            return
        mine = self._puts
        for row in gone:
            if mine[row[0]].pop(row[1], None) is None:  # else it never stood in the table, or is named already
                self._gone[row] = None
        for table, rows in puts.items():
            mine[table].update(rows)

    def learn(self, rows: Rows) -> None:
        """Read from the log what another writer has left behind."""
        if self._known:
            return
        self._known = True
        lacks = Lacking(self.upto, self.upto).grown(rows)
        self.end = lacks.end
        for table, found in lacks.tables.items():
            for key, value in found.items():
                if value is not None:
                    self._puts[table][key] = value
                if value is None or table == "by_state":  # what a run is now may stand in the table already
                    self._gone[table, key] = None

    def within(self, table: str, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
        """What a view lacks between two keys, in order; all of it has to be known."""
        return sorted((key, value) for key, value in self._puts[table].items() if low <= key < high)

    def settle(self, upto: int, rows: Rows) -> tuple[dict[str, dict[bytes, bytes]], list[tuple[str, bytes]]]:
        """All that they lack, and which of these rows have to go: from here on they are complete up to this position."""
        puts = {table: found for table, found in self._puts.items() if found}
        # One that is lost already stops nobody; `compare` names it.
        gone = [row for row in self._gone if rows.has(*row)]
        self.upto = self.end = upto
        self._puts, self._gone = {table: {} for table in TRAILING}, {}
        return puts, gone

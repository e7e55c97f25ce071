"""
The views that trail behind the log: what they lack, and how it comes into them.

A commit that somebody waits for should write few pages. The index and the lists (runs by state, name, tag and parent) decide
nothing of what may be written, so their rows are left behind for some hundred records, and come into the tables together, in
order. Nobody sees that: who reads such a view meanwhile adds what the end of the log says, in the same snapshot. ``settled`` in
``meta`` names the record up to which the tables are complete, by its position and its leaf; where there is none, they always are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pluperfect.errors import StoreDamaged
from pluperfect.records import open_row
from pluperfect.states import KINDS

from .layout import TRAILING, decode_head, idx_key, number, state_key, u64
from .views import lasting

if TYPE_CHECKING:
    from .ledger import Rows

__all__ = ["BEHIND", "Trail", "amended", "lacking", "mark", "settled", "wrong_mark"]

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


def lacking(rows: Rows, after: int) -> tuple[dict[str, dict[bytes, bytes | None]], int]:
    """
    What the trailing views lack that are complete up to a position: table by table the value of each key, and None for keys that
    must not be there; and up to where the log was read. What cannot be decoded makes no rows: who reads the log finds it.
    """
    upto = after
    found: dict[str, dict[bytes, bytes | None]] = {table: {} for table in TRAILING}
    touched: dict[bytes, None] = {}
    for position, (place, data) in enumerate(rows.scan("log", u64(after + 1), b""), after + 1):
        if number(place) != position:
            break  # a row that nobody appended: views follow from the log as far as it goes on
        upto = position
        try:
            row = open_row(data)
            entry = row.entry()
        except StoreDamaged:
            continue
        run, seq = row.record.run, row.record.seq
        touched[run] = None
        found["idx"][idx_key(run, seq)] = place
        for table, key, value in lasting(run, position, seq, entry):
            if table in found:
                found[table][key] = value
    states = found["by_state"]
    for run in touched:
        data = rows.get("head", run)
        try:
            head = None if data is None else decode_head(data)
        except StoreDamaged:
            continue
        if head is not None and head.state:
            for code in _CODES:
                states[state_key(code, head.root, head.born)] = run if code == head.state else None
    return found, upto


def amended(
    rows: Iterable[tuple[bytes, bytes]],
    lacks: Mapping[bytes, bytes | None],
    low: bytes,
    high: bytes,
    *,
    reverse: bool = False,
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a view between two keys with what it lacks, in order."""
    more = [
        (key, value) for key, value in lacks.items() if value is not None and low <= key and (not high or key < high)
    ]
    theirs = (row for row in rows if row[0] not in lacks)
    return merge(theirs, sorted(more, reverse=reverse), key=_KEY, reverse=reverse)


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

    def add(self, puts: Mapping[str, Mapping[bytes, bytes]], gone: Iterable[tuple[str, bytes]]) -> None:
        """What one transaction more makes of them."""
        if not self._known:
            return
        mine = self._puts
        for row in gone:
            mine[row[0]].pop(row[1], None)
            self._gone[row] = None  # it may stand in the table too
        for table, rows in puts.items():
            mine[table].update(rows)

    def learn(self, rows: Rows) -> None:
        """Read from the log what another writer has left behind."""
        if self._known:
            return
        self._known = True
        lacks, self.end = lacking(rows, self.upto)
        for table, found in lacks.items():
            for key, value in found.items():
                if value is None:
                    self._gone[table, key] = None
                else:
                    self._puts[table][key] = value

    def within(self, table: str, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
        """What a view lacks between two keys, in order; all of it has to be known."""
        return sorted((key, value) for key, value in self._puts[table].items() if low <= key < high)

    def settle(self, upto: int, rows: Rows) -> tuple[dict[str, dict[bytes, bytes]], list[tuple[str, bytes]]]:
        """All that they lack, and which of these rows have to go: from here on they are complete up to this position."""
        puts = {table: found for table, found in self._puts.items() if found}
        gone = [
            row for row in self._gone if rows.has(*row)
        ]  # one that is lost already stops nobody; `compare` names it
        self.upto = self.end = upto
        self._puts, self._gone = {table: {} for table in TRAILING}, {}
        return puts, gone

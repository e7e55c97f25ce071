"""The whole log again: every view projected from it, to replace what stands there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pluperfect.errors import StoreDamaged
from pluperfect.hooks import Head
from pluperfect.records import Record, Row, open_row
from pluperfect.transitions import Entry

from .layout import decode_head, idx_key, number
from .ledger import IMPORTED, Batch, Changes, Rows
from .tree import Tree

__all__ = ["Lines", "entries", "fold_log", "projected", "tail"]


class _Nothing:
    """Tables without rows, over which the whole log is folded."""

    def get(self, table: str, key: bytes) -> bytes | None:
        return None

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes]:
        return []

    def scan(self, table: str, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def last(self, table: str) -> bytes | None:
        return None

    def has(self, table: str, key: bytes) -> bool:
        return False

    def keys(self, table: str) -> Iterator[bytes]:
        return iter(())


class Lines:
    """What is wrong with a log, one line each, up to so many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.told: list[str] = []
        self._more = 0

    def add(self, line: str) -> None:
        """One line more."""
        if len(self.told) < self.most:
            self.told.append(line)
        else:
            self._more += 1
            self.told[self.most :] = [f"... and {self._more} more"]

    def jump(self, position: int, record: Record, before: Head | None) -> None:
        """A record was met: does it come next in its run?"""
        known = 0 if before is None else before.seq
        if record.seq != known + 1:
            self.add(f"log: position {position}: run {record.run.hex()} goes from entry {known} to {record.seq}")


def entries(log: Iterable[tuple[bytes, bytes]], wrong: Lines) -> Iterator[tuple[int, Row, Entry | None]]:
    """
    The rows of a log that can be read, each with its position and what it holds.

    Args:
        log: Its rows, in order.
        wrong: Is told what is missing, or cannot be read.
    """
    end = 0
    for key, data in log:
        position = number(key)
        if position != end + 1:
            wrong.add(f"log: after position {end} comes {position}")
        end = position
        try:
            row = open_row(data)
            entry = row.entry()
        except StoreDamaged as error:
            wrong.add(f"log: position {position}: {error}")
            continue
        yield position, row, entry


def fold_log(log: Iterable[tuple[bytes, bytes]]) -> tuple[Changes, list[str]]:
    """
    Project a whole log onto empty tables.

    Returns:
        All rows that follow from it, and one line for each record that is missing, out of place or unreadable.
    """
    batch, wrong = Batch(_Nothing(), 0), Lines(1000)
    for position, row, entry in entries(log, wrong):
        record = row.record
        batch.position = position - 1
        wrong.jump(position, record, batch.head(record.run))
        batch.enter(record.run, record.seq, entry, b"", row.leaf, record.epoch)  # the views alone are wanted
        if record.type == IMPORTED:
            batch.importing(row)
    return batch.changes(), wrong.told


def projected(rows: Rows) -> Changes:
    """
    All rows of all views, from the log.

    Raises:
        StoreDamaged: The log itself has gaps or cannot be read; no view can be trusted then.
    """
    changes, wrong = fold_log(rows.scan("log", b"", b""))
    if wrong:
        raise StoreDamaged(
            f"The views cannot be rebuilt, since the log is damaged in {len(wrong)} places; nothing was changed. The first: {wrong[0]}."
        )
    for table in (
        "log",
        "node",
        "meta",
    ):  # the tree is evidence, and no view: what follows from a changed log would hide it
        changes.puts.pop(table, None)
    return changes


def tail(rows: Rows) -> str | None:
    """What contradicts the last record of the log: its place in ``idx``, or the head of its run; None: nothing."""
    key = rows.last("log")
    if key is None:
        return "the log is empty, but there are heads" if rows.last("head") is not None else None
    data = rows.get("log", key)
    if data is None:
        return f"record {number(key)} is the last one, but cannot be found by its key"
    row = open_row(data)
    record = row.record
    position, run = number(key), record.run.hex()
    if rows.get("idx", idx_key(record.run, record.seq)) != key:
        return f"record {position} is entry {record.seq} of run {run}, but the index does not lead there"
    found = rows.get("head", record.run)
    head = None if found is None else decode_head(found)
    if head is None or (head.seq, head.position, head.leaf) != (record.seq, position, row.leaf):
        return f"record {position} is entry {record.seq} of run {run}, but the run's head says otherwise: {head}"
    size = Tree.decode(rows.get("meta", b"tree")).size
    if size != position:
        return f"the log ends at record {position}, but the tree over it has {size}"
    return None

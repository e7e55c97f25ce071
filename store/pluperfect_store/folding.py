"""The whole log again: every view projected from it, to replace what stands there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from pluperfect.errors import StoreDamaged
from pluperfect.hooks import Head
from pluperfect.records import GENESIS, Record, Row, continues, open_row
from pluperfect.transitions import Entry

from .layout import PRUNED, decode_head, idx_key, node_key, number, u64
from .ledger import IMPORTED, Batch, Changes, Rows
from .tree import BLOCK, KEPT_LEVEL, Tree

__all__ = ["Lines", "Read", "entries", "fold_log", "projected", "pruned", "tail", "told_pruned"]

_LAST: Final = 2**64 - 1


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
        where = f"log: position {position}: run {record.run.hex()}"
        if record.seq != known + 1:
            self.add(f"{where} goes from entry {known} to {record.seq}")
        elif not continues(record.prev, GENESIS if before is None else before.leaf):
            self.add(f"{where}: entry {record.seq} does not continue {known}")


class Read(NamedTuple):
    """A row of the log that could be read, or, where there is none, what stands for pruned records."""

    position: int
    row: Row | None
    entry: Entry | None
    level: int = 0
    node: bytes = b""


def entries(log: Iterable[tuple[bytes, bytes]], wrong: Lines, rows: Rows | None = None) -> Iterator[Read]:
    """
    The rows of a log that can be read, each with its position and what it holds.

    Args:
        log: Its rows, in order.
        wrong: Is told what is missing, or cannot be read.
        rows: Where the leaves of pruned records stand; left out for a log of which nothing was pruned.
    """
    own = None if rows is None else rows.get("meta", b"store_id")
    end = gone = told = 0
    for key, data in log:
        position = number(key)
        if len(key) != 8:
            wrong.add(f"log: there is a row under {key.hex()}, which is no position")
            continue
        for at, level, node in () if rows is None or position == end + 1 else pruned(rows, end + 1, position):
            if at != end + 1:
                wrong.add(f"log: after position {end} comes {at}")
            end = at + (1 << level) - 1
            gone += 1 << level
            yield Read(at, None, None, level, node)
        if position != end + 1:
            wrong.add(f"log: after position {end} comes {position}")
        end = position
        try:
            row = open_row(data)
            entry = row.entry()
        except StoreDamaged as error:
            wrong.add(f"log: position {position}: {error}")
            continue
        if row.record.type == PRUNED and row.record.run == own:
            told += told_pruned(row.record)[0]
        yield Read(position, row, entry)
    # Nothing behind the last record was pruned: the record of a pruning stands there.
    if gone != told:
        wrong.add(f"log: {gone} records are not there, but the store's own records tell of {told} that were pruned")


def pruned(rows: Rows, first: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """
    What stands for the pruned records from position ``first`` to before ``end``: leaves, or the nodes of whole blocks.

    It looks at what is there, and never at each position: a damaged one may be far away.

    Yields:
        The first position that a hash stands for, its level in the tree, and the hash; in the order of the log.
    """
    if first >= end:
        return
    end = min(end, _LAST)
    nodes = _whole_blocks(rows, first, end)
    node = next(nodes, None)
    seen = -1  # the block of the last leaf: where leaves stand, the node does not stand for them
    for key, leaf in rows.scan("cut", u64(first), u64(end)):
        if len(key) != 8:
            continue
        block = (number(key) - 1) // BLOCK
        while node is not None and node[0] <= block:
            if seen < node[0] < block:
                yield node[0] * BLOCK + 1, KEPT_LEVEL, node[1]
            node = next(nodes, None)
        seen = block
        yield number(key), 0, leaf
    while node is not None:
        if node[0] > seen:
            yield node[0] * BLOCK + 1, KEPT_LEVEL, node[1]
        node = next(nodes, None)


def _whole_blocks(rows: Rows, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The nodes over the blocks that lie between two positions as a whole."""
    low, high = -(-(first - 1) // BLOCK), (end - 1) // BLOCK
    for key, node in rows.scan("node", node_key(KEPT_LEVEL, low), node_key(KEPT_LEVEL, high)) if low < high else ():
        if len(key) == 9:
            yield number(key[1:]), node


def told_pruned(record: Record) -> tuple[int, list[bytes]]:
    """What a record of a pruning tells: how many records went, and which rows of the cache."""
    try:
        body = _pruned(record.body)
    except (msgspec.MsgspecError, ValueError):
        return 0, []  # what it lacks is missed where records are counted
    return body.records, body.forgotten


class _PrunedBody(msgspec.Struct):
    records: int
    forgotten: list[bytes]


_pruned: Final = msgspec.msgpack.Decoder(_PrunedBody).decode  # made here, by one thread: see `pluperfect.shapes`


def fold_log(log: Iterable[tuple[bytes, bytes]], rows: Rows | None = None) -> tuple[Changes, list[str]]:
    """
    Project a whole log onto empty tables.

    Args:
        log: Its rows, in order.
        rows: As for `entries`.

    Returns:
        All rows that follow from it, and one line for each record that is missing, out of place or unreadable.
    """
    batch, wrong = Batch(_Nothing(), 0), Lines(1000)
    own = None if rows is None else rows.get("meta", b"store_id")
    for position, row, entry, level, node in entries(log, wrong, rows):
        if row is None:
            batch.tree.push(node, level)
            continue
        record = row.record
        batch.position = position - 1
        wrong.jump(position, record, batch.head(record.run))
        batch.enter(record.run, record.seq, entry, b"", row.leaf, record.epoch)  # the views alone are wanted
        if record.type == IMPORTED:
            batch.importing(row)
        elif record.type == PRUNED and record.run == own:
            for cached in told_pruned(record)[1]:
                batch.forget(cached)
    return batch.changes(), wrong.told


def projected(rows: Rows) -> Changes:
    """
    All rows of all views, from the log.

    Raises:
        StoreDamaged: The log itself has gaps or cannot be read; no view can be trusted then.
    """
    changes, wrong = fold_log(rows.scan("log", b"", b""), rows)
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

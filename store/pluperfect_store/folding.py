"""The whole log again: every view projected from it, to compare with what stands there or to replace it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from pluperfect.errors import StoreDamaged
from pluperfect.records import GENESIS, Record, open_row

from .layout import PRUNED, VIEWS, decode_head, idx_key, node_key, number, u64
from .ledger import IMPORTED, Batch, Changes, Rows
from .tree import BLOCK, KEPT_LEVEL, Tree

__all__ = ["differences", "fold_log", "projected", "pruned", "tail", "told_pruned"]

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


def fold_log(log: Iterable[tuple[bytes, bytes]], rows: Rows | None = None) -> tuple[Changes, list[str]]:
    """
    Project a whole log onto empty tables.

    Args:
        log: Its rows, in order.
        rows: Where the leaves of pruned records stand; left out for a log of which nothing was pruned.

    Returns:
        All rows that follow from it, and one line for each record that is missing, out of place or unreadable.
    """
    batch = Batch(_Nothing(), 0)
    wrong: list[str] = []
    own = None if rows is None else rows.get("meta", b"store_id")
    gone = told = 0
    for key, data in log:
        position = number(key)
        if len(key) != 8:
            wrong.append(f"log: there is a row under {key.hex()}, which is no position")
            continue
        for at, level, node in (
            () if rows is None or position == batch.position + 1 else pruned(rows, batch.position + 1, position)
        ):
            if at != batch.position + 1:
                wrong.append(f"log: after position {batch.position} comes {at}")
            batch.tree.push(node, level)
            batch.position = at + (1 << level) - 1
            gone += 1 << level
        if position != batch.position + 1:
            wrong.append(f"log: after position {batch.position} comes {position}")
            batch.position = position - 1
        try:
            row = open_row(data)
            record, entry = row.record, row.entry()
        except StoreDamaged as error:
            wrong.append(f"log: position {position}: {error}")
            batch.position = position
            continue
        if not 0 < record.seq < 2**32:
            wrong.append(f"log: position {position}: run {record.run.hex()} has no entry {record.seq}")
            batch.position = position
            continue
        head = batch.head(record.run)
        known = 0 if head is None else head.seq
        if record.seq != known + 1:
            wrong.append(f"log: position {position}: run {record.run.hex()} goes from entry {known} to {record.seq}")
        elif record.prev != (GENESIS if head is None else head.leaf):
            wrong.append(
                f"log: position {position}: run {record.run.hex()}: entry {record.seq} does not continue {known}"
            )
        batch.enter(record.run, record.seq, entry, b"", row.leaf, record.epoch)  # the views alone are wanted
        if record.type == IMPORTED:
            batch.importing(row)
        elif record.type == PRUNED and record.run == own:
            records, forgotten = told_pruned(record)
            told += records
            for cached in forgotten:
                batch.forget(cached)
    # What lies behind the last record was not pruned: the record of a pruning stands there.
    if gone != told:
        wrong.append(f"log: {gone} records are not there, but the store's own records tell of {told} that were pruned")
    return batch.changes(), wrong


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
        body = msgspec.msgpack.decode(record.body, type=_PrunedBody)
    except (msgspec.MsgspecError, ValueError):
        return 0, []  # what it lacks is missed where records are counted
    return body.records, body.forgotten


class _PrunedBody(msgspec.Struct):
    records: int
    forgotten: list[bytes]


def differences(rows: Rows, most: int = 1000, log: Iterable[tuple[bytes, bytes]] | None = None) -> list[str]:
    """
    One line for each row of a view that is not what the log says.

    Args:
        rows: The tables.
        most: How many lines at most.
        log: The rows of the log, where somebody reads them already.
    """
    changes, lines = fold_log(rows.scan("log", b"", b"") if log is None else log, rows)
    for table in VIEWS:
        wanted = dict(changes.puts.get(table, ()))
        for key, value in rows.scan(table, b"", b""):
            should = wanted.pop(key, None)
            if should is None:
                lines.append(f"{table}: row {key.hex()} stands there, but does not follow from the log")
            elif should != value:
                lines.append(
                    f"{table}: row {key.hex()} is {_shown(table, value)}, the log says {_shown(table, should)}"
                )
        lines.extend(f"{table}: row {key.hex()} is missing" for key in wanted)
    lines += _tree_differences(rows, changes)
    if len(lines) > most:
        lines[most:] = [f"... and {len(lines) - most} more"]
    return lines


def _tree_differences(rows: Rows, changes: Changes) -> list[str]:
    wanted = Tree.decode(dict(changes.puts.get("meta", ())).get(b"tree"))
    found = Tree.decode(rows.get("meta", b"tree"))
    lines: list[str] = []
    if (found.size, found.root) != (wanted.size, wanted.root):
        lines.append(
            f"tree: it has {found.size} records and root {found.root.hex()[:16]}, the log says {wanted.size} and {wanted.root.hex()[:16]}"
        )
    lines.extend(
        f"cut: row {key.hex()} stands for no record that was pruned"
        for key in rows.keys("cut")
        if rows.has("log", key) or number(key) > found.size
    )
    nodes = dict(changes.puts.get("node", ()))
    for key, value in rows.scan("node", b"", b""):
        if nodes.pop(key, None) != value:
            lines.append(f"node: row {key.hex()} is not what the log says")
    lines.extend(f"node: row {key.hex()} is missing" for key in nodes)
    return lines


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


def _shown(table: str, value: bytes) -> str:
    try:
        return str(decode_head(value)) if table == "head" else value.hex()
    except StoreDamaged:
        return value.hex()

"""
Taking old runs out of a log: whole trees, all of whose runs have ended.

Of a pruned record its leaf stays, in ``cut``, and of a whole block of them the node that stands in ``node`` anyway: size
and root of the tree never change. The store's own record of it, in the same transaction, tells how much went and by what
rule, and stands behind the last record, so that the end of the log is never pruned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from msgspec import Struct
from msgspec.msgpack import Ext
from msgspec.structs import replace

from pluperfect.errors import StoreDamaged
from pluperfect.hooks import Head, Pruned, PruneRule
from pluperfect.records import open_row
from pluperfect.states import KINDS
from pluperfect.values import Spec

from .files import Files
from .layout import (
    PRUNED,
    born_of,
    decode_head,
    decode_lease,
    decode_owner,
    node_key,
    number,
    state_prefix,
    u64,
)
from .leases import gone
from .ledger import Batch, Rows, end_of, under
from .tree import BLOCK, KEPT_LEVEL
from .views import birth_of, gist, lasting, standing

__all__ = ["Prunable", "named_values", "prune"]

T = TypeVar("T")

_FINAL: Final = tuple(kind.code for kind in KINDS if kind.final)
_SLICE: Final = 2_000  # records that one transaction takes out: other writers wait for it
_SWEEP: Final = 256  # values that one transaction sweeps
_FRESH: Final = 3600.0  # seconds for which a file may wait for the record that names it


class Prunable(Protocol):
    """A log that can be read, and changed in transactions of their own."""

    def _rows(self) -> AbstractContextManager[Rows]: ...

    def _change(self, job: Callable[[Batch], T]) -> T: ...


class _Tree(Struct, frozen=True):
    """A tree as it was when it was chosen: each run with its head, and when its last record was made."""

    runs: dict[bytes, Head]
    last: float


def prune(log: Prunable, rule: PruneRule, at: float, files: Files | None = None, *, dry_run: bool = False) -> Pruned:
    """
    Take out the trees that the rule names, some to a transaction, and then the values that no record names any more.

    Args:
        log: The log.
        rule: Which trees.
        at: When, UTC seconds; it stands in the record of it.
        files: Where large values are.
        dry_run: Only say what would go.
    """
    with log._rows() as rows:
        trees, keyed = _chosen(rows, rule)
        end = end_of(rows)
        if dry_run:
            told = Pruned(keyed=keyed)
            for tree in trees:
                told = _sum(told, _measured(rows, tree))
            values, size = _loose(rows, files, {run for tree in trees for run in tree.runs})
            return replace(told, values=values, value_bytes=size)
    total = Pruned(keyed=keyed)
    for some in _slices(trees):
        total = _sum(total, log._change(lambda batch, some=some: _take_out(batch, some, rule, at, end)))
    values, size = _sweep(log, files)
    return replace(total, values=values, value_bytes=size)


def _sum(one: Pruned, other: Pruned) -> Pruned:
    known = [at for at in (one.oldest, other.oldest) if at]
    return replace(
        one,
        trees=one.trees + other.trees,
        runs=one.runs + other.runs,
        records=one.records + other.records,
        bytes=one.bytes + other.bytes,
        oldest=min(known, default=0.0),
        newest=max(one.newest, other.newest),
    )


def _slices(trees: Iterable[_Tree]) -> Iterator[list[_Tree]]:
    some: list[_Tree] = []
    records = 0
    for tree in trees:
        size = sum(head.seq for head in tree.runs.values())
        if some and records + size > _SLICE:
            yield some
            some, records = [], 0
        some.append(tree)
        records += size
    if some:
        yield some


# --- which


def _chosen(rows: Rows, rule: PruneRule) -> tuple[list[_Tree], int]:
    """The trees that the rule names, the oldest first, and how many are kept for their idempotency key alone."""
    wanted: list[tuple[int, bytes]] = []
    for state in _FINAL:
        if rule.state in (None, state):
            wanted += [(born_of(key), run) for key, run in under(rows, "by_state", state_prefix(state, child=False))]
    kept: dict[str, int] = {}
    roots: dict[bytes, Spec] = {}
    for _, root in sorted(wanted, reverse=True):
        spec = _spec(rows, root)
        if spec is None or (rule.name is not None and spec.name != rule.name):
            continue
        kept[spec.name] = kept.get(spec.name, 0) + 1
        if kept[spec.name] > rule.keep and _at(rows, _head(rows, root).position) < rule.before:
            roots[root] = spec
    members: dict[bytes, dict[bytes, Head]] = {root: {} for root in roots}
    for run, data in rows.scan("head", b"", b"") if roots else ():
        head = decode_head(data)
        into = members.get(head.root or run)
        if into is not None:
            into[run] = head
    keyed = 0
    trees: dict[bytes, _Tree] = {}
    for root, runs in members.items():
        last = _at(rows, max(head.position for head in runs.values()))
        if last >= rule.before or not all(head.state in _FINAL for head in runs.values()) or _is_held(rows, root):
            continue
        if roots[root].idempotency_key is not None and not rule.with_keys:
            keyed += 1
            continue
        trees[root] = _Tree(runs, last)
    for root in _shared(rows, trees) if trees else ():
        trees.pop(root, None)
    return sorted(trees.values(), key=lambda tree: min(head.born for head in tree.runs.values())), keyed


def _shared(rows: Rows, going: Container[bytes], after: int = 0) -> set[bytes]:
    """The trees that runs which stay were forked from, theirs included; of runs born after this position alone."""
    found: set[bytes] = set()
    for kind in KINDS:
        for key, run in under(rows, "by_state", state_prefix(kind.code, child=False)):
            if born_of(key) > after and run not in going:
                source = _source(rows, run)
                while source is not None and source not in found:
                    found.add(source)
                    source = _source(rows, source)
    return found


def _source(rows: Rows, run: bytes) -> bytes | None:
    """The run that this one was forked from."""
    spec = _spec(rows, run) if rows.has("head", run) else None
    return None if spec is None or spec.forked is None else spec.forked.run


def _head(rows: Rows, run: bytes) -> Head:
    data = rows.get("head", run)
    if data is None:
        raise StoreDamaged(f"Run {run.hex()} stands in a list, but has no head. Rebuild the views.")
    return decode_head(data)


def _row(rows: Rows, position: int) -> bytes:
    return rows.get_many("log", [u64(position)])[0]


def _at(rows: Rows, position: int) -> float:
    return open_row(_row(rows, position)).record.at / 1e6


def _spec(rows: Rows, run: bytes) -> Spec | None:
    return birth_of(open_row(_row(rows, _head(rows, run).born)).entry())


def _is_held(rows: Rows, root: bytes) -> bool:
    """Whether somebody who lives carries out this tree."""
    data = rows.get("lease", root)
    if data is None:
        return False
    id = decode_lease(data).owner
    owner = rows.get("owner", id)
    return owner is not None and not gone(id, decode_owner(owner))


def _measured(rows: Rows, tree: _Tree) -> Pruned:
    size = sum(len(_row(rows, number(place))) for run in tree.runs for _, place in under(rows, "idx", run))
    return _told(tree, size)


def _told(tree: _Tree, size: int) -> Pruned:
    records = sum(head.seq for head in tree.runs.values())
    return Pruned(1, len(tree.runs), records, size, tree.last, tree.last)


# --- taking out


def _take_out(batch: Batch, trees: list[_Tree], rule: PruneRule, at: float, end: int) -> Pruned:
    """Take these trees out, so far as they are as they were when they were chosen."""
    rows = batch.rows
    leaves: dict[int, bytes] = {}
    forgotten: list[bytes] = []
    total = Pruned()
    shared = _shared(rows, (), end)
    for tree in trees:
        if not shared.isdisjoint(tree.runs) or not _is_unchanged(rows, tree):
            continue
        size = 0
        for run, head in tree.runs.items():
            for table, key, _ in (("head", run, b""), ("lease", run, b""), *standing(run, head)):
                batch.remove(table, key)
            for key, place in under(rows, "idx", run):
                data = _row(rows, number(place))
                row = open_row(data)
                size += len(data)
                leaves[number(place)] = row.leaf
                batch.remove("idx", key)
                batch.remove("log", place)
                for table, view, value in lasting(run, number(place), row.record.seq, gist(row.entry())):
                    if table != "cache":
                        batch.remove(table, view)
                    elif rows.get("cache", view) == value:
                        forgotten.append(view)
        total = _sum(total, _told(tree, size))
    if not leaves:
        return total
    for key in forgotten:
        batch.forget(key)
    _cut(batch, leaves)
    body = {field: getattr(total, field) for field in ("trees", "runs", "records", "bytes", "oldest", "newest")}
    batch.note(PRUNED.removeprefix("store/"), at, {**body, "rule": rule.told(), "forgotten": forgotten})
    return total


def _is_unchanged(rows: Rows, tree: _Tree) -> bool:
    root = next(run for run, head in tree.runs.items() if head.root is None)
    for run, head in tree.runs.items():
        data = rows.get("head", run)
        if data is None or decode_head(data).position != head.position:
            return False
        for _, child in under(rows, "child", run):
            if child not in tree.runs and _head(rows, child).root == root:
                return False  # born since
    return not _is_held(rows, root)


def _cut(batch: Batch, leaves: dict[int, bytes]) -> None:
    """Leave the leaves in ``cut``; where a whole block is pruned now, its node stands for it, and its rows there go."""
    rows = batch.rows
    blocks: dict[int, list[int]] = {}
    for position in leaves:
        blocks.setdefault((position - 1) // BLOCK, []).append(position)
    for block, positions in blocks.items():
        before = [key for key, _ in rows.scan("cut", u64(block * BLOCK + 1), u64((block + 1) * BLOCK + 1))]
        if len(before) + len(positions) == BLOCK and rows.has("node", node_key(KEPT_LEVEL, block)):
            for key in before:
                batch.remove("cut", key)
        else:
            for position in positions:
                batch.cut(u64(position), leaves[position])


# --- values that no record names any more


def named_values(log: Iterable[tuple[bytes, bytes]], without: Container[bytes] = ()) -> set[bytes]:
    """The digests of the values that these rows, but for those of some runs, name and do not hold."""
    rows = (open_row(data) for _, data in log)
    return {bytes(v.data)[:32] for row in rows if row.record.run not in without for v in row.values if type(v) is Ext}


def _loose(rows: Rows, files: Files | None, without: Container[bytes]) -> tuple[int, int]:
    """How many values no record would name any more if these runs were gone, and their bytes."""
    named = named_values(rows.scan("log", b"", b""), without)
    sizes = [len(data) for digest, data in rows.scan("blob", b"", b"") if digest not in named]
    if files is not None:
        sizes += [size for _, size in files.loose(named, time.time() - _FRESH)]
    return len(sizes), sum(sizes)


def _sweep(log: Prunable, files: Files | None) -> tuple[int, int]:
    """
    Remove what no record names. Returns how many values that were, and their bytes.

    A value may be named again at any moment. Those in ``blob`` are put again by whoever names them, in the same
    transaction. A file is written, or touched, before its record is: only old ones go, while nobody may touch one.
    """
    with log._rows() as rows:
        end = end_of(rows)
        named = named_values(rows.scan("log", b"", b""))
        loose = [digest for digest in rows.keys("blob") if digest not in named]
    count = size = 0

    def drop(batch: Batch, some: list[bytes]) -> tuple[int, int]:
        fresh = named_values(batch.rows.scan("log", u64(end + 1), b""))
        sizes: list[int] = []
        for digest in some:
            value = None if digest in fresh else batch.rows.get("blob", digest)
            if value is not None:
                batch.remove("blob", digest)
                sizes.append(len(value))
        return len(sizes), sum(sizes)

    for first in range(0, len(loose), _SWEEP):
        some = loose[first : first + _SWEEP]
        gone_now = log._change(lambda batch, some=some: drop(batch, some))
        count, size = count + gone_now[0], size + gone_now[1]
    if files is None:
        return count, size

    def drop_files(batch: Batch) -> tuple[int, int]:
        known = named | named_values(batch.rows.scan("log", u64(end + 1), b""))
        return files.sweep(known, time.time() - _FRESH)

    if any(digest not in named for digest, _ in files.all()):
        with files.alone() as alone:
            if alone:
                more = log._change(drop_files)
                return count + more[0], size + more[1]
    return count, size

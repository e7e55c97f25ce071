"""Is everything as it was written? One walk over the log, which is held against itself and against all that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pluperfect.errors import StoreDamaged
from pluperfect.evidence import Checkpoint, Finding, Report, led_to
from pluperfect.records import open_row

from .folding import differences, pruned
from .layout import idx_key, node_key, number
from .ledger import Rows
from .tree import Tree
from .walking import MOST, RESTORE, Fetch, Lost, Walk

__all__ = ["verify"]

_MOST_VIEWS: Final = 20

_REBUILD: Final = "The log itself is sound: `pluperfect rebuild` projects the views again."


def verify(rows: Rows, file: Fetch, run: bytes | None = None, against: Checkpoint | None = None) -> Report:
    """
    Say everything that is wrong.

    Args:
        rows: One snapshot.
        file: Gives values that are kept outside of the tables.
        run: Only the records of this run, and that they are in the tree.
        against: A checkpoint that was kept elsewhere.
    """
    walk = Walk(rows, file)
    try:
        recorded = Tree.decode(rows.get("meta", b"tree"))
    except Exception as error:
        recorded = Tree()
        walk.other.append(Finding(f"the tree in `meta` cannot be read: {error}.", RESTORE))
    if run is not None:
        return _one(walk, recorded, run)
    grown, seen = Tree(), _Seen(against)
    log = _log(walk, recorded, grown, seen)
    lines: list[str] = []
    try:
        lines = differences(rows, 10 * MOST, log)
        for _ in log:  # what was left where the comparison gave up
            pass
    except Exception as error:  # whatever a damaged file makes of the reading
        for _ in log:
            pass
        lines = [f"views: they cannot be compared with the log: {type(error).__name__}: {error}"]
    walk.finish()
    whole = not seen.broken and (grown.size, grown.root) == (recorded.size, recorded.root)
    if not whole:
        walk.bad += walk.doubtful
        walk.lost += walk.doubted
    walk.name_the_lost()
    if not whole:
        if not walk.bad:
            walk.other.append(_where(rows, grown, recorded))
    else:
        walk.other += _nodes(rows, grown)
        if walk.pruned != walk.told:
            what = f"{walk.pruned} records are not there, but the store's own records tell of {walk.told} that were pruned."
            walk.other.append(Finding(what, RESTORE))
    if against is not None:
        walk.other += _held_against(walk.store, grown.size if not seen.broken else recorded.size, against, seen)
    lines = [line for line in lines if not line.startswith(("log:", "tree:", "node:", "... and"))]
    views = [_view(walk, line, sound=whole and not walk.bad) for line in lines[:_MOST_VIEWS]]
    if len(lines) > _MOST_VIEWS:
        views.append(Finding(f"{len(lines) - _MOST_VIEWS} more rows of views differ from the log.", _REBUILD))
    return _report(walk, [*walk.other, *views], grown.size, grown.root)


def _report(walk: Walk, others: list[Finding], size: int, root: bytes) -> Report:
    bad = sorted(dict.fromkeys(walk.bad), key=lambda found: (found.position or 2**64, found.seq))
    if len(bad) > MOST:
        bad[MOST:] = [Finding(f"{len(bad) - MOST} more records are bad.", RESTORE)]
    gone = sum(1 for digest, *_ in walk.missing if digest in walk.redacted)
    runs = len(walk.last) - (walk.store in walk.last)
    return Report((*bad, *others), walk.records, runs, walk.pruned, gone, size, root)


# --- the whole log --------------------------------------------------------------------------------------


class _Seen:
    """What the walk has seen of the tree."""

    def __init__(self, against: Checkpoint | None) -> None:
        self.broken = False  # a leaf is missing: what comes behind it has no root
        self.passed = False  # the checkpoint stands among pruned records for which one hash stands
        self.size = -1 if against is None else against.size
        self.root: bytes | None = Tree().root if self.size == 0 else None

    def push(self, grown: Tree, node: bytes, level: int = 0) -> None:
        before = grown.size
        grown.push(node, level)
        self.passed |= before < self.size < grown.size
        if grown.size == self.size and not self.broken:
            self.root = grown.root


def _log(walk: Walk, recorded: Tree, grown: Tree, seen: _Seen) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the log that can be read, each looked at before it is given on."""
    expected = 1
    rows = walk.rows
    try:
        for key, data in rows.scan("log", b"", b""):
            position = number(key)
            if len(key) != 8 or position < expected:
                walk.other.append(Finding(f"the log has a row under {key.hex()}, which is no position.", RESTORE))
                seen.broken = True
                if position < expected:
                    return  # the file leads in circles
                continue
            _between(walk, expected, position, grown, seen)
            expected = position + 1
            row = walk.see(position, key, data)
            if position > recorded.size and row is not None:
                walk.bad.append(walk.of(row, position, "the record was put there: the tree ends before it."))
            if row is None:
                seen.broken = True
            else:
                seen.push(grown, row.leaf)
                yield key, data
        _between(walk, expected, recorded.size + 1, grown, seen)
    except Exception as error:
        seen.broken = True
        advice = "Restore the store from a backup."
        walk.other.insert(0, Finding(f"the log cannot be read beyond position {expected - 1}: {error}.", advice))


def _between(walk: Walk, expected: int, position: int, grown: Tree, seen: _Seen) -> None:
    """The positions up to before one that is there: their records were pruned, or are missing."""
    for at, level, node in pruned(walk.rows, expected, position):
        if at > expected:
            walk.lost.append(Lost(expected, at - 1, "the record is missing"))
            seen.broken = True
        seen.push(grown, node, level)
        walk.pruned += 1 << level
        expected = at + (1 << level)
    if expected < position:
        walk.lost.append(Lost(expected, position - 1, "the record is missing"))
        seen.broken = True


def _where(rows: Rows, grown: Tree, recorded: Tree) -> Finding:
    """The tree is another one, and no record can be blamed: where it begins to differ."""
    for level, index, node in sorted(grown.fresh):
        if rows.get("node", node_key(level, index)) != node:
            first, end = (index << level) + 1, (index + 1) << level
            return Finding(f"the records from position {first} to {end} are not those of the tree.", RESTORE)
    return Finding(
        f"the tree in `meta` has {recorded.size} records and root {recorded.root.hex()[:16]}, the log gives {grown.size} and"
        f" {grown.root.hex()[:16]}.",
        RESTORE,
    )


def _nodes(rows: Rows, grown: Tree) -> list[Finding]:
    """The nodes that are kept, where the log is as the tree says."""
    wanted = {node_key(level, index): node for level, index, node in grown.fresh}
    found: list[Finding] = []
    for key, value in rows.scan("node", b"", b""):
        if wanted.pop(key, None) != value:
            found.append(Finding(f"node {key.hex()} of the tree is not what the log gives.", RESTORE))
    found.extend(Finding(f"node {key.hex()} of the tree is missing.", RESTORE) for key in wanted)
    return found[:MOST]


def _held_against(store: bytes, size: int, against: Checkpoint, seen: _Seen) -> Iterable[Finding]:
    if against.store != store:
        yield Finding(
            f"the checkpoint is of store {against.store.hex()}, this is store {store.hex()}.",
            "Take the checkpoint of this store, or open the other one.",
        )
    elif against.size > size:
        yield Finding(
            f"the store was cut: the checkpoint of {against.time} saw {against.size} records, there are {size}.",
            "Restore it from a backup made after the checkpoint.",
        )
    elif seen.passed and not seen.broken:
        yield Finding(
            f"the checkpoint of {against.time} cannot be held against the log: it saw {against.size} records, and all around there"
            " were pruned since.",
            "Take a checkpoint that was made later, and keep one that is younger than what is pruned.",
        )
    elif seen.root is None:
        yield Finding(f"the root at the checkpoint's size, {against.size}, cannot be computed.", RESTORE)
    elif seen.root != against.root:
        yield Finding(
            f"the store was written anew: its first {against.size} records are not those that the checkpoint of {against.time} saw.",
            "Restore it from a backup that agrees with the checkpoint, and find out who wrote it.",
        )


def _view(walk: Walk, line: str, *, sound: bool) -> Finding:
    advice = _REBUILD if sound else "It may follow from what is said above."
    if line.startswith("cut:"):
        return Finding(f"{line}.", RESTORE)
    table, _, rest = line.partition(": row ")
    digits = rest.partition(" ")[0]
    if table in ("head", "idx") and len(digits) >= 32:
        run = bytes.fromhex(digits[:32])
        return walk.at(run, int(digits[32:] or "0", 16), 0, f"a view differs from the log: {line}.", advice)
    return Finding(f"a view differs from the log: {line}.", advice)


# --- one run --------------------------------------------------------------------------------------------


def _one(walk: Walk, recorded: Tree, run: bytes) -> Report:
    from .proving import inclusion_path

    rows = walk.rows
    for _, place in rows.scan("idx", idx_key(walk.store, 0), idx_key(walk.store, 2**32 - 1)):
        data = rows.get("log", place)
        if data is not None:
            try:
                row = open_row(data)
            except StoreDamaged:
                continue
            if row.record.type == "store/redacted":
                walk.note(row)
    for key, place in rows.scan("idx", idx_key(run, 0), idx_key(run, 2**32 - 1)):
        data = rows.get("log", place)
        if data is None:
            walk.bad.append(walk.at(run, number(key[16:]), number(place), "the record is missing."))
            continue
        row = walk.see(number(place), place, data)
        if row is not None and (row.record.run, row.record.seq) != (run, number(key[16:])):
            walk.lost.append(Lost(number(place), number(place), "the record was changed, or is another's", row))
    walk.finish()
    walk.bad += walk.doubtful
    walk.lost += walk.doubted
    walk.name_the_lost()
    last = walk.last.get(run)
    if last is not None:
        try:
            path = inclusion_path(rows, last.position - 1, recorded.size, {})
            proved = led_to(last.leaf, last.position - 1, recorded.size, path) == recorded.root
        except StoreDamaged as error:
            proved = False
            walk.other.append(Finding(str(error), RESTORE))
        if not proved:
            what = "the record is not in the tree over the log: it, or one near it, was changed."
            walk.bad.append(walk.at(run, last.seq, last.position, what))
    return _report(walk, walk.other, recorded.size, recorded.root)

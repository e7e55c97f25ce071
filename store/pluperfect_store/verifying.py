"""Is everything as it was written? One walk over the log, which is held against itself and against all that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pluperfect.errors import StoreDamaged, UnknownRun
from pluperfect.evidence import Checkpoint, Finding, Report, led_to
from pluperfect.records import open_row

from .comparing import Difference, Met, chunks
from .folding import pruned
from .layout import idx_key, node_key, number, u64
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

    Raises:
        UnknownRun: There is nothing of this run.
    """
    walk = Walk(rows, file)
    try:
        recorded = Tree.decode(rows.get("meta", b"tree"))
    except StoreDamaged as error:
        recorded = Tree()
        walk.other.append(Finding(f"`meta`: {error}", RESTORE))
    if run is not None:
        return _one(walk, recorded, run)
    seen = _Seen(against)
    grown = seen.grown
    _read(walk, recorded, seen)
    try:
        differences = walk.views.finish()
    except Exception as error:  # whatever a damaged file makes of the reading
        differences = [
            Difference("views", b"", f"they cannot be compared with the log: {type(error).__name__}: {error}")
        ]
    walk.finish()
    whole = not seen.broken and (grown.size, grown.root) == (recorded.size, recorded.root)
    if not whole:
        walk.bad.join(walk.doubtful)
        walk.lost.join(walk.doubted)
    walk.name_the_lost()
    if not whole:
        if not walk.bad.some:
            walk.other.append(_where(rows, grown, recorded))
    else:
        walk.other += _nodes(rows, grown)
        if walk.pruned != walk.told:
            what = f"{walk.pruned} records are not there, but the store's own records tell of {walk.told} that were pruned."
            walk.other.append(Finding(what, RESTORE))
    if against is not None:
        walk.other += _held_against(walk.store, grown.size if not seen.broken else recorded.size, against, seen)
    views = [_view(walk, one, sound=whole and not walk.bad.some) for one in differences[:_MOST_VIEWS]]
    if len(differences) > _MOST_VIEWS:
        views.append(Finding(f"{len(differences) - _MOST_VIEWS} more rows of views differ from the log.", _REBUILD))
    return _report(walk, [*walk.other, *views], grown.size, grown.root)


def _report(walk: Walk, others: list[Finding], size: int, root: bytes) -> Report:
    bad = sorted(dict.fromkeys(walk.bad.some), key=lambda found: (found.position or 2**64, found.seq))
    if walk.bad.more:
        bad.append(Finding(f"{walk.bad.more} more records are bad.", RESTORE))
    gone = sum(1 for digest, *_ in walk.missing if digest in walk.redacted)
    return Report((*bad, *others), walk.records, walk.runs, walk.pruned, gone, size, root)


# --- the whole log --------------------------------------------------------------------------------------


class _Seen:
    """
    What was seen of the tree.

    Attributes:
        grown: The tree of the leaves so far.
        broken: Whether a leaf is missing: what comes behind it has no root.
        root: The root at the checkpoint's size; None while that was not reached.
    """

    def __init__(self, against: Checkpoint | None) -> None:
        self.grown, self.broken = Tree(), False
        self.passed = False  # the checkpoint stands among pruned records for which one hash stands
        self.size = 0 if against is None else against.size
        self.root: bytes | None = None
        self.extend([])

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Some leaves more."""
        before = max(0, self.size - self.grown.size) if self.root is None else 0
        self.grown.extend(leaves[:before])
        if self.grown.size == self.size and not self.broken and self.root is None:
            self.root = self.grown.root
        self.grown.extend(leaves[before:])

    def skip(self, node: bytes, level: int) -> None:
        """What stands for pruned records: a leaf, or the node of a whole block."""
        if not level:
            self.extend([node])
            return
        before = self.grown.size
        self.grown.push(node, level)
        self.passed |= before < self.size < self.grown.size
        self.extend([])


def _read(walk: Walk, recorded: Tree, seen: _Seen) -> None:
    """Look at every row of the log."""
    expected = 1
    try:
        for chunk in chunks(walk.rows.scan("log", b"", b"")):
            for first, some in _stretches(walk, seen, chunk, expected):
                _between(walk, expected, first, seen)
                places, rows = zip(*some, strict=True)
                met = walk.look(places, rows)
                expected = first + len(some)
                seen.extend([one.leaf for one in met if one is not None])
                seen.broken = seen.broken or None in met
                if expected > recorded.size + 1:
                    _beyond(walk, recorded.size, met)
            walk.views.settle()
        _between(walk, expected, recorded.size + 1, seen)
    except Exception as error:
        seen.broken = True
        advice = "Restore the store from a backup."
        walk.other.insert(0, Finding(f"the log cannot be read beyond position {expected - 1}: {error}.", advice))


def _stretches(
    walk: Walk, seen: _Seen, chunk: Sequence[tuple[bytes, bytes]], expected: int
) -> Iterator[tuple[int, Sequence[tuple[bytes, bytes]]]]:
    """The rows of a chunk that stand one behind the other, with the position of the first."""
    if [key for key, _ in chunk] == [*map(u64, range(expected, expected + len(chunk)))]:
        yield expected, chunk
        return
    first, some = expected, list[tuple[bytes, bytes]]()
    for key, data in chunk:
        position = number(key)
        if len(key) != 8 or position < first + len(some):
            walk.other.append(Finding(f"the log has a row under {key.hex()}, which is no position.", RESTORE))
            seen.broken = True
            if position < first + len(some):
                raise StoreDamaged("the file leads in circles")
            continue
        if position != first + len(some):
            if some:
                yield first, some
            first, some = position, []
        some.append((key, data))
    if some:
        yield first, some


def _beyond(walk: Walk, size: int, met: Sequence[Met | None]) -> None:
    for one in met:
        if one is not None and one.position > size:
            walk.bad.add(walk.of(one.row, one.position, "the record was put there: the tree ends before it."))


def _between(walk: Walk, expected: int, position: int, seen: _Seen) -> None:
    """The positions up to before one that is there: their records were pruned, or are missing."""
    if expected >= position:
        return
    for at, level, node in pruned(walk.rows, expected, position):
        if at > expected:
            walk.lost.add(Lost(expected, at - 1, "the record is missing"))
            seen.broken = True
        seen.skip(node, level)
        walk.pruned += 1 << level
        expected = at + (1 << level)
    if expected < position:
        walk.lost.add(Lost(expected, position - 1, "the record is missing"))
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


def _view(walk: Walk, difference: Difference, *, sound: bool) -> Finding:
    advice = _REBUILD if sound else "It may follow from what is said above."
    what, key = f"a view differs from the log: {difference}.", difference.key
    if len(key) == {"head": 16, "idx": 20}.get(difference.table):
        return walk.at(key[:16], number(key[16:]), 0, what, advice)
    return Finding(what, advice)


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
    if rows.get("head", run) is None and not any(
        True for _ in rows.scan("idx", idx_key(run, 0), idx_key(run, 2**32 - 1))
    ):
        raise UnknownRun(f"There is no run {run.hex()} in this log.")
    last: Met | None = None
    for some in chunks(rows.scan("idx", idx_key(run, 0), idx_key(run, 2**32 - 1))):
        there: dict[int, tuple[int, bytes]] = {}
        for key, place in some:
            seq, data = number(key[16:]), rows.get("log", place)
            if data is not None:
                there[number(place)] = seq, data
            else:
                walk.bad.add(walk.at(run, seq, number(place), "the record is missing."))
        met = walk.look([*map(u64, there)], [data for _, data in there.values()])
        for one, (seq, _) in zip(met, there.values(), strict=True):
            if one is None:
                continue
            if (one.row.record.run, one.row.record.seq) != (run, seq):
                what = "the record was changed, or is another's"
                walk.lost.add(Lost(one.position, one.position, what, one.row))
            else:
                last = one
    walk.finish()
    walk.bad.join(walk.doubtful)
    walk.lost.join(walk.doubted)
    walk.name_the_lost()
    if last is not None:
        try:
            path = inclusion_path(rows, last.position - 1, recorded.size, {})
            proved = led_to(last.leaf, last.position - 1, recorded.size, path) == recorded.root
        except StoreDamaged as error:
            proved = False
            walk.other.append(Finding(str(error), RESTORE))
        if not proved:
            what = "the record is not in the tree over the log: it, or one near it, was changed."
            walk.bad.add(walk.of(last.row, last.position, what))
    return _report(walk, walk.other, recorded.size, recorded.root)

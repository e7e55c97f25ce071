"""
Is everything as it was written? One walk over the log, which is held against itself and against all that follows from it.

**Whom to blame.** The leaf of a record is what the next record of its run says in ``prev``, and for the last what the head
says. A record whose leaf is another one is bad, unless its witness is bad itself: a changed ``prev`` is the fault of the
record that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pluperfect.errors import StoreDamaged
from pluperfect.evidence import Checkpoint, Finding, Report, led_to
from pluperfect.histories import id_text
from pluperfect.records import GENESIS, Row, open_row

from .folding import differences
from .layout import decode_head, idx_key, node_key, number, u64
from .ledger import Rows
from .tree import BLOCK, KEPT_LEVEL, Tree
from .views import birth_of

__all__ = ["verify"]

_MOST: Final = 1000  # findings of each kind; who has more has one cause for them
_MOST_VIEWS: Final = 20

_RESTORE: Final = "Restore the store from a backup, and compare the run with it."
_REBUILD: Final = "The log itself is sound: `pluperfect rebuild` projects the views again."

Fetch = Callable[[bytes], "bytes | None"]


class _Last(NamedTuple):
    """The last record of a run that was met."""

    leaf: bytes
    seq: int
    position: int
    streak: tuple[tuple[int, int], ...] = ()
    """The records just before it whose leaf is not what their successor says, without a gap: seq and position."""


class _Lost(NamedTuple):
    """Positions without the record that belongs there."""

    first: int
    last: int
    what: str
    row: Row | None = None
    """What stands there instead, where that can be read."""


class _Walk:
    """What the walk over the log remembers."""

    def __init__(self, rows: Rows, file: Fetch) -> None:
        self.rows, self.file = rows, file
        self.store = rows.get("meta", b"store_id") or b""
        self.bad: list[Finding] = []  # of records
        self.doubtful: list[Finding] = []  # of records whose only witness is a view
        self.other: list[Finding] = []
        self.last: dict[bytes, _Last] = {}
        self.lost: list[_Lost] = []
        self.doubted: list[_Lost] = []  # what fits, but the index leads elsewhere
        self.gaps: list[tuple[bytes, int, int, int]] = []  # run, the record before, the one behind, its position
        self.records = self.pruned = 0
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
            self.lost.append(_Lost(position, position, f"the record was changed: {str(error).rstrip('.')}"))
            return None
        leaf = row.leaf
        there = self.rows.get("idx", idx_key(record.run, record.seq))
        before = self.last.get(record.run)
        follows = record.seq == (1 if before is None else before.seq + 1)
        if there != key:
            lost = _Lost(position, position, "the record was changed, or is another's", row)
            if not follows or record.prev != (GENESIS if before is None else before.leaf):
                self.lost.append(lost)  # it says of itself that it is another one: no witness, and no suspect
                return row
            self.doubted.append(lost)
        self._chain(row, position, leaf, before, follows)
        self._values(row, position)
        if record.run == self.store and record.type == "store/redacted":
            self._note(row)
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

    def _note(self, row: Row) -> None:
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
            if len(key) == 20 and any(lost.first <= position <= lost.last for lost in self.lost[:_MOST]):
                known[position] = key
        for lost in self.lost:
            for position in range(lost.first, min(lost.last, lost.first + _MOST) + 1):
                self._lost_at(position, known.get(position), lost)
        explained = {*known.values()}
        for run, before, seq, position in self.gaps:
            if any(idx_key(run, missing) not in explained for missing in range(before + 1, min(seq, before + _MOST))):
                what = f"the run goes from record {before} to {seq}; what belongs between is gone."
                self.bad.append(self.at(run, seq, position, what))

    def _lost_at(self, position: int, key: bytes | None, lost: _Lost) -> None:
        row = lost.row
        if key is None and row is not None:
            self.bad.append(
                self.of(row, position, "the record was put there; the index has nothing for this position.")
            )
        elif key is None:
            self.bad.append(Finding(f"{lost.what}.", _RESTORE, position=position))
        else:
            claim = (
                "" if row is None else f": it says that it is record {row.record.seq} of run {id_text(row.record.run)}"
            )
            self.bad.append(self.at(key[:16], number(key[16:]), position, f"{lost.what}{claim}."))

    # --- words

    def of(self, row: Row, position: int, what: str) -> Finding:
        """A finding about a record that can be read."""
        return self.at(row.record.run, row.record.seq, position, what)

    def at(self, run: bytes, seq: int, position: int, what: str, advice: str = _RESTORE) -> Finding:
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


def verify(rows: Rows, file: Fetch, run: bytes | None = None, against: Checkpoint | None = None) -> Report:
    """
    Say everything that is wrong.

    Args:
        rows: One snapshot.
        file: Gives values that are kept outside of the tables.
        run: Only the records of this run, and that they are in the tree.
        against: A checkpoint that was kept elsewhere.
    """
    walk = _Walk(rows, file)
    try:
        recorded = Tree.decode(rows.get("meta", b"tree"))
    except Exception as error:
        recorded = Tree()
        walk.other.append(Finding(f"the tree in `meta` cannot be read: {error}.", _RESTORE))
    if run is not None:
        return _one(walk, recorded, run)
    grown, seen = Tree(), _Seen(against)
    log = _log(walk, recorded, grown, seen)
    lines: list[str] = []
    try:
        lines = differences(rows, 10 * _MOST, log)
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
    if against is not None:
        walk.other += _held_against(walk.store, grown.size if not seen.broken else recorded.size, against, seen)
    lines = [line for line in lines if not line.startswith(("log:", "tree:", "node:", "... and"))]
    views = [_view(walk, line, sound=whole and not walk.bad) for line in lines[:_MOST_VIEWS]]
    if len(lines) > _MOST_VIEWS:
        views.append(Finding(f"{len(lines) - _MOST_VIEWS} more rows of views differ from the log.", _REBUILD))
    return _report(walk, [*walk.other, *views], grown.size, grown.root)


def _report(walk: _Walk, others: list[Finding], size: int, root: bytes) -> Report:
    bad = sorted(dict.fromkeys(walk.bad), key=lambda found: (found.position or 2**64, found.seq))
    if len(bad) > _MOST:
        bad[_MOST:] = [Finding(f"{len(bad) - _MOST} more records are bad.", _RESTORE)]
    gone = sum(1 for digest, *_ in walk.missing if digest in walk.redacted)
    runs = len(walk.last) - (walk.store in walk.last)
    return Report((*bad, *others), walk.records, runs, walk.pruned, gone, size, root)


# --- the whole log --------------------------------------------------------------------------------------


class _Seen:
    """What the walk has seen of the tree."""

    def __init__(self, against: Checkpoint | None) -> None:
        self.broken = False  # a leaf is missing: what comes behind it has no root
        self.size = -1 if against is None else against.size
        self.root: bytes | None = Tree().root if self.size == 0 else None

    def push(self, grown: Tree, leaf: bytes) -> None:
        grown.push(leaf)
        if grown.size == self.size and not self.broken:
            self.root = grown.root


def _log(walk: _Walk, recorded: Tree, grown: Tree, seen: _Seen) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the log that can be read, each looked at before it is given on."""
    expected = 1
    rows = walk.rows
    try:
        for key, data in rows.scan("log", b"", b""):
            position = number(key)
            if len(key) != 8 or position < expected:
                walk.other.append(Finding(f"the log has a row under {key.hex()}, which is no position.", _RESTORE))
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


def _between(walk: _Walk, expected: int, position: int, grown: Tree, seen: _Seen) -> None:
    """The positions up to before one that is there: their records were pruned, or are missing."""
    if expected >= position:
        return
    for key, leaf in walk.rows.scan("cut", u64(expected), u64(position)):
        cut = number(key)
        if cut > expected:
            walk.lost.append(_Lost(expected, cut - 1, "the record is missing"))
            seen.broken = True
        seen.push(grown, leaf)
        walk.pruned += 1
        expected = cut + 1
    if expected < position:
        walk.lost.append(_Lost(expected, position - 1, "the record is missing"))
        seen.broken = True


def _where(rows: Rows, grown: Tree, recorded: Tree) -> Finding:
    """The tree is another one, and no record can be blamed: where it begins to differ."""
    for level, index, node in grown.fresh:
        if level == KEPT_LEVEL and rows.get("node", node_key(level, index)) != node:
            first = index * BLOCK + 1
            return Finding(
                f"the records from position {first} to {first + BLOCK - 1} are not those of the tree.", _RESTORE
            )
    return Finding(
        f"the tree in `meta` has {recorded.size} records and root {recorded.root.hex()[:16]}, the log gives {grown.size} and"
        f" {grown.root.hex()[:16]}.",
        _RESTORE,
    )


def _nodes(rows: Rows, grown: Tree) -> list[Finding]:
    """The nodes that are kept, where the log is as the tree says."""
    wanted = {node_key(level, index): node for level, index, node in grown.fresh}
    found: list[Finding] = []
    for key, value in rows.scan("node", b"", b""):
        if wanted.pop(key, None) != value:
            found.append(Finding(f"node {key.hex()} of the tree is not what the log gives.", _RESTORE))
    found.extend(Finding(f"node {key.hex()} of the tree is missing.", _RESTORE) for key in wanted)
    return found[:_MOST]


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
    elif seen.root is None:
        yield Finding(f"the root at the checkpoint's size, {against.size}, cannot be computed.", _RESTORE)
    elif seen.root != against.root:
        yield Finding(
            f"the store was written anew: its first {against.size} records are not those that the checkpoint of {against.time} saw.",
            "Restore it from a backup that agrees with the checkpoint, and find out who wrote it.",
        )


def _view(walk: _Walk, line: str, *, sound: bool) -> Finding:
    advice = _REBUILD if sound else "It may follow from what is said above."
    table, _, rest = line.partition(": row ")
    digits = rest.partition(" ")[0]
    if table in ("head", "idx") and len(digits) >= 32:
        run = bytes.fromhex(digits[:32])
        return walk.at(run, int(digits[32:] or "0", 16), 0, f"a view differs from the log: {line}.", advice)
    return Finding(f"a view differs from the log: {line}.", advice)


# --- one run --------------------------------------------------------------------------------------------


def _one(walk: _Walk, recorded: Tree, run: bytes) -> Report:
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
                walk._note(row)
    for key, place in rows.scan("idx", idx_key(run, 0), idx_key(run, 2**32 - 1)):
        data = rows.get("log", place)
        if data is None:
            if rows.get("cut", place) is None:
                walk.bad.append(walk.at(run, number(key[16:]), number(place), "the record is missing."))
            continue
        row = walk.see(number(place), place, data)
        if row is not None and (row.record.run, row.record.seq) != (run, number(key[16:])):
            walk.lost.append(_Lost(number(place), number(place), "the record was changed, or is another's", row))
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
            walk.other.append(Finding(str(error), _RESTORE))
        if not proved:
            what = "the record is not in the tree over the log: it, or one near it, was changed."
            walk.bad.append(walk.at(run, last.seq, last.position, what))
    return _report(walk, walk.other, recorded.size, recorded.root)

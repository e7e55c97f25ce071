"""
The views, held against the log while somebody reads it: what follows from a row is looked up where it should stand.

Nothing is remembered of a run whose head is what the log has said so far, so that memory is bounded by the runs that go on
side by side, however long the log is. What stands in a view besides is found by counting, and named only then.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from pluperfect.errors import StoreDamaged
from pluperfect.hooks import Head
from pluperfect.records import Row, open_row
from pluperfect.transitions import Entry

from .folding import Lines, Read, entries, told_pruned
from .layout import PRUNED, VIEWS, decode_cell, decode_head, encode_value, idx_key, node_key, number, readable_head, u64
from .ledger import IMPORTED, Rows, imported_rows
from .trailing import wrong_mark
from .tree import Tree
from .views import evolve, gist, lasting, standing

__all__ = ["Comparison", "Difference", "Met", "chunks", "differences"]

_CHUNK: Final = 1024
"""So many rows are looked at together, which is quicker than one by one."""

_MISSING: Final = "is missing"
_TERMS: Final = 1 << 16

T = TypeVar("T")


class Difference(NamedTuple):
    """A row of a view that is not what the log says."""

    table: str
    key: bytes
    what: str

    def __str__(self) -> str:
        return f"{self.table}: row {self.key.hex()} {self.what}" if self.key else f"{self.table}: {self.what}"


class Met(Struct, frozen=True, gc=False):
    """A record that was met: where, its row, and its leaf hash."""

    position: int
    row: Row
    leaf: bytes


def chunks(scan: Iterator[T]) -> Iterator[list[T]]:
    """The rows of a scan, some at a time; where reading fails, what was read before comes first."""
    while True:
        some: list[T] = []
        try:
            some.extend(islice(scan, _CHUNK))
        except Exception:
            if some:
                yield some
            raise
        if some:
            yield some
        if len(some) < _CHUNK:
            return


class Comparison:
    """
    The views of a log that somebody reads from its beginning.

    Args:
        rows: The tables.
        most: How many differences are named.

    Attributes:
        heads: What the log says of the runs whose heads it does not agree with, or not yet.
    """

    def __init__(self, rows: Rows, most: int = 1000) -> None:
        self.rows, self.most = rows, most
        self.heads: dict[bytes, Head] = {}
        self._touched: set[bytes] = set()  # those of them that have changed since the last look
        self._wanted: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)
        self._cells: dict[bytes, tuple[bytes, int]] = {}  # of the cache, and by which position
        self._unmet: dict[bytes, tuple[bytes, int]] = {}  # those that do not stand there, unless a pruning took them
        self._forgotten: dict[bytes, int] = {}  # the keys that a pruning took out of the cache, and its position
        self._there: Counter[str] = Counter()  # rows that the log wants and that stand there, right or wrong
        self._terms: dict[bytes, int] = {}  # of roots whose heads are settled
        self._ahead: dict[bytes, int] = {}  # of roots that are entered after the records which raised their term
        self._wrong: dict[tuple[str, bytes], str] = {}
        self._more = 0
        self._imports: list[tuple[int, int]] = []  # from where and up to where records came from another store
        self._end = self._settled = 0  # the last position that was entered; and at the last look
        self._store = rows.get("meta", b"store_id")

    # --- what the log says

    def astray(self, met: Sequence[Met]) -> Collection[int]:
        """The positions of those of these records to which the index does not lead."""
        records = [one.row.record for one in met]
        keys = [idx_key(record.run, record.seq) for record in records]
        places = [u64(one.position) for one in met]
        wrong = self._looked_up("idx", keys, places)
        return {met[at].position for at in wrong} if wrong else ()

    def by_run(self, met: Sequence[Met]) -> Iterator[list[Met]]:
        """These records run by run; those of the store itself come first, since they tell of what comes behind them."""
        runs: defaultdict[bytes, list[Met]] = defaultdict(list)
        for one in met:
            runs[one.row.record.run].append(one)
        if self._store in runs:
            yield runs.pop(self._store)
        yield from runs.values()

    def before(self, run: bytes, seq: int, position: int) -> Head | None:
        """What the log has said of a run before this entry of it."""
        head = self.heads.get(run)
        if head is None and seq > 1:
            head = self.stored(run)
            if head is None or head.seq >= seq or head.position >= position:
                return None
            self._open_again(run, head)  # its head was right too early
        return head

    def enter(self, met: Sequence[Met], entries: Sequence[Entry | None], before: Head | None) -> None:
        """
        Take in what follows from the next records of a run.

        Args:
            met: They, in order.
            entries: What they hold.
            before: What `before` gave for the first of them.
        """
        record = met[-1].row.record
        run, seq = record.run, record.seq
        places = [one.position for one in met]
        if len(met) > 1 and any(first <= places[-1] and places[0] <= last for first, last in self._imports):
            for one, entry in zip(met, entries, strict=True):  # some of them, perhaps not all, were imported
                self.enter([one], [entry], before)
                before = self.heads[run]
            return
        epoch = max([one.row.record.epoch for one in met])
        gists = [*map(gist, entries)]
        head = evolve(before, run, places, gists, met[-1].leaf, epoch)
        imported = head.imported or any(first <= places[-1] <= last for first, last in self._imports)
        if head.seq != seq or imported != head.imported:
            head = replace(head, seq=seq, imported=imported)
        if self._ahead and head.root is None:
            head = replace(head, epoch=max(head.epoch, self._ahead.pop(run, 0)))
        self.heads[run] = head
        self._touched.add(run)
        self._end = max(self._end, places[-1])
        if head.root is not None:
            top = self.heads.get(head.root)
            if top is None or epoch > top.epoch:
                self._raise_term(head.root, top, epoch, met)
        for one, entry, told in zip(met, entries, gists, strict=True):
            for table, key, value in lasting(run, one.position, one.row.record.seq, told):
                if table != "cache":
                    self._wanted[table][key] = value
                elif not imported and self._cells.get(key, (b"", 0))[1] < one.position:
                    self._cells[key] = value, one.position
            if entry is None and run == self._store and one.row.record.type == PRUNED:
                self._forgotten.update(dict.fromkeys(told_pruned(one.row.record)[1], one.position))
            elif entry is None and one.row.record.type == IMPORTED:
                self._imports.append((one.position + 1, one.position + imported_rows(one.row)))

    def _raise_term(self, root: bytes, top: Head | None, epoch: int, met: Sequence[Met]) -> None:
        if top is not None:
            if top.root is None:
                self.heads[root] = replace(top, epoch=epoch)
                self._touched.add(root)
        elif epoch > self._terms.get(root, -1):
            stored = self.stored(root)
            if stored is not None and stored.born > self._settled:  # one append may bring a call before its root
                later = [one.row.record.epoch for one in met if one.position > stored.born]
                self._ahead[root] = max(self._ahead.get(root, 0), *later, 0)
                return
            before = stored is not None and stored.position < met[-1].position and stored.root is None
            if stored is not None and before and stored.epoch < epoch:
                self._open_again(root, replace(stored, epoch=epoch))
            elif len(self._terms) < _TERMS:
                self._terms[root] = epoch if stored is None else stored.epoch
            else:
                self._terms.clear()

    def _open_again(self, run: bytes, head: Head) -> None:
        self.heads[run] = head
        self._touched.add(run)
        self._there["head"] -= 1
        for table, key, _ in standing(run, head):
            self._there[table] -= self._wrong.pop((table, key), "") != _MISSING

    # --- what stands there

    def settle(self) -> None:
        """Look up what follows from the records since the last time, and forget the runs whose heads say the same."""
        self._settled = self._end
        touched = [run for run in self._touched if run in self.heads]
        self._touched.clear()
        for run, stored in zip(touched, self._values("head", touched), strict=True):
            head = self.heads[run]
            if stored == encode_value(head):
                del self.heads[run]
                self._there["head"] += 1
                for table, key, value in standing(run, head):
                    self._wanted[table][key] = value
        for table, wanted in self._wanted.items():
            self._looked_up(table, [*wanted], [*wanted.values()])
        self._wanted.clear()
        self._look_for_cells()
        self._imports = [(first, last) for first, last in self._imports if last > self._end]

    def _looked_up(self, table: str, keys: list[bytes], values: list[bytes]) -> list[int]:
        """Which of these rows are not there as they should be."""
        found = self._values(table, keys)
        self._there[table] += len(keys)
        if found == values:
            return []
        wrong = [at for at, (stored, value) in enumerate(zip(found, values, strict=True)) if stored != value]
        for at in wrong:
            self._there[table] -= found[at] is None
            self._differs(table, keys[at], found[at], values[at])
        return wrong

    def _look_for_cells(self) -> None:
        for key, position in self._forgotten.items():
            for wanted in (self._cells, self._unmet):
                if key in wanted and wanted[key][1] < position:
                    del wanted[key]
            stored = self._value("cache", key)
            if stored is not None and self._cited(stored) < position:
                self._there["cache"] += not self._follows("cache", key, stored)
                self._note("cache", key, "stands there, although the run that it cites was pruned")
        self._forgotten.clear()
        cells = [*self._cells.items()]
        self._cells.clear()
        for (key, (value, position)), stored in zip(
            cells, self._values("cache", [key for key, _ in cells]), strict=True
        ):
            if stored == value:
                self._there["cache"] += 1
            elif self._cited(stored) <= position:  # else a later record must be found there, and is then
                self._unmet[key] = value, position

    def _cited(self, stored: bytes | None) -> int:
        """The position of the record that a row of the cache cites; 0 where there is none."""
        try:
            cell = None if stored is None else decode_cell(stored)
            place = None if cell is None else self._value("idx", idx_key(cell.run, cell.seq))
        except (StoreDamaged, struct.error):
            return 0
        return 0 if place is None else number(place)

    def _values(self, table: str, keys: list[bytes]) -> list[bytes | None]:
        try:
            return [*self.rows.get_many(table, keys)] if keys else []
        except Exception:  # some are not there, or cannot be read
            return [self._value(table, key) for key in keys]

    def _value(self, table: str, key: bytes) -> bytes | None:
        try:
            return self.rows.get(table, key)
        except Exception:  # a broken page; who counts the rows meets it again, and says so
            return None

    def stored(self, run: bytes) -> Head | None:
        """The head that stands there; None where there is none that can be read."""
        return readable_head(self._value("head", run))

    # --- the end

    def finish(self) -> list[Difference]:
        """All differences, table by table; to be asked when the whole log was entered."""
        self.settle()
        for run, head in self.heads.items():
            stored = self._value("head", run)
            self._there["head"] += stored is not None
            self._differs("head", run, stored, encode_value(head))
            for table, key, value in standing(run, head):
                self._wanted[table][key] = value
        self.settle()
        for key, (value, _) in self._unmet.items():
            stored = self._value("cache", key)
            self._there["cache"] += stored is not None
            self._differs("cache", key, stored, value)
        for table in VIEWS:
            count = sum(1 for _ in self.rows.keys(table))
            if count != self._there[table]:
                self._name_what_is_too_much(table)
                if not any(named == table for named, _ in self._wrong):
                    self._wrong[table, b""] = f"it has {count} rows, the log makes {self._there[table]}"
        found = sorted(self._wrong.items(), key=lambda one: (VIEWS.index(one[0][0]), one[0][1]))
        found_all = [Difference(table, key, what) for (table, key), what in found]
        mark = wrong_mark(self.rows)
        if mark is not None:
            found_all.append(Difference("views", b"", mark))
        if self._more:
            found_all.append(Difference("views", b"", f"{self._more} more rows differ from the log"))
        return found_all

    def _name_what_is_too_much(self, table: str) -> None:
        for key, value in self.rows.scan(table, b"", b""):
            if (table, key) not in self._wrong and not self._follows(table, key, value):
                self._note(table, key, "stands there, but does not follow from the log")

    def _follows(self, table: str, key: bytes, value: bytes) -> bool:
        """Whether a row says what the record that it leads to has brought about, or what its run is now."""
        try:
            if table in ("by_state", "timer"):
                run = value or key[8:]
                data = self.rows.get("head", run)
                return (
                    data is not None
                    and (table, key, value) in standing(run, decode_head(data))
                    and self._follows("head", run, data)
                )
            if table == "cache":
                cell = decode_cell(value)
                place = self.rows.get("idx", idx_key(cell.run, cell.seq))
            else:
                place = value if table == "idx" else u64(decode_head(value).position) if table == "head" else key[-8:]
            data = None if place is None else self.rows.get("log", place)
            if data is None or place is None:
                return False
            row = open_row(data)
            run, seq = row.record.run, row.record.seq
            if table in ("idx", "head"):
                return key == (idx_key(run, seq) if table == "idx" else run)
            return (table, key, value) in lasting(run, number(place), seq, gist(row.entry()))
        except Exception:  # whatever a damaged row makes of it
            return False

    def _differs(self, table: str, key: bytes, stored: bytes | None, wanted: bytes) -> None:
        if stored is None:
            self._note(table, key, _MISSING)
        else:
            self._note(table, key, f"is {_shown(table, stored)}, the log says {_shown(table, wanted)}")

    def _note(self, table: str, key: bytes, what: str) -> None:
        if (table, key) in self._wrong or len(self._wrong) < self.most:
            self._wrong[table, key] = what
        else:
            self._more += 1


def _shown(table: str, value: bytes) -> str:
    try:
        return str(decode_head(value)) if table == "head" else value.hex()
    except StoreDamaged:
        return value.hex()


def differences(rows: Rows, most: int = 1000) -> list[str]:
    """
    One line for each record that is missing or cannot be read, and for each row of a view that is not what the log says.

    Args:
        rows: The tables.
        most: How many lines there are at most.
    """
    views, grown, lines = Comparison(rows, most), Tree(), Lines(most)
    for chunk in chunks(entries(rows.scan("log", b"", b""), lines, rows)):
        met = [Met(read.position, read.row, read.row.leaf) for read in chunk if read.row is not None]
        entry_at = {read.position: read.entry for read in chunk}
        views.astray(met)
        for some in views.by_run(met):
            for one in some:
                record = one.row.record
                before = views.before(record.run, record.seq, one.position)
                lines.jump(one.position, record, before)
                views.enter([one], [entry_at[one.position]], before)
        _grow(grown, chunk, met)
        views.settle()
    for difference in views.finish():
        lines.add(str(difference))
    for line in _tree_differences(rows, grown):
        lines.add(line)
    return lines.told


def _grow(grown: Tree, chunk: Sequence[Read], met: Sequence[Met]) -> None:
    if len(met) == len(chunk):
        grown.extend([one.leaf for one in met])
        return
    leaves = {one.position: one.leaf for one in met}
    for read in chunk:
        grown.push(read.node if read.row is None else leaves[read.position], read.level)


def _tree_differences(rows: Rows, grown: Tree) -> Iterator[str]:
    try:
        found = Tree.decode(rows.get("meta", b"tree"))
    except StoreDamaged as error:
        yield f"tree: {error}"
        return
    if (found.size, found.root) != (grown.size, grown.root):
        yield (
            f"tree: it has {found.size} records and root {found.root.hex()[:16]}, the log says {grown.size} and {grown.root.hex()[:16]}"
        )
    for key in rows.keys("cut"):
        if rows.has("log", key) or number(key) > found.size:
            yield f"cut: row {key.hex()} stands for no record that was pruned"
    nodes = {node_key(level, index): node for level, index, node in grown.fresh}
    for key, value in rows.scan("node", b"", b""):
        if nodes.pop(key, None) != value:
            yield f"node: row {key.hex()} is not what the log says"
    yield from (f"node: row {key.hex()} is missing" for key in nodes)

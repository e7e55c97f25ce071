"""
What every store does with an append, whatever holds its tables: check it, seal it, project it.

A `Batch` is what one transaction is about to write. It keeps heads and rows in memory over the committed
tables, so that appends of one batch see each other, a head is written once however often it changed, and
a row that came and went within the batch is never written at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from pluperfect.errors import Conflict, Fenced, StoreDamaged
from pluperfect.hooks import Head, Part
from pluperfect.records import GENESIS, body_of, check_body, decode, leaf, open_record, seal
from pluperfect.transitions import Entry

from .layout import decode_head, encode_value, idx_key, number, past, u64
from .views import Row, birth_of, evolve, key_of, lasting, root_of, standing

__all__ = ["Batch", "Changes", "Prepared", "Rows", "end_of", "prepare", "under"]


class Rows(Protocol):
    """The committed tables, as one snapshot shows them."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a row, or None."""
        ...

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes]:
        """The values of these rows, all of which are there, in the order of the keys."""
        ...

    def scan(self, table: str, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The rows with ``low <= key < high`` in the order of their keys; an empty ``high`` sets no bound."""
        ...

    def last(self, table: str) -> bytes | None:
        """The greatest key."""
        ...


class Changes(Struct):
    """What a transaction has to do to the tables; puts are in the order of keys, the log's behind its end."""

    puts: dict[str, list[tuple[bytes, bytes]]]
    deletes: list[tuple[str, bytes]]


class Prepared(Struct, frozen=True):
    """An append whose entries are encoded as far as that is possible before their place is known."""

    parts: tuple[tuple[Part, tuple[tuple[str, bytes], ...]], ...]
    epoch: int
    size: int
    """About how many bytes it will take in memory and in the file."""
    keys: tuple[str, ...]
    """The cache keys under which it stores results."""


def prepare(parts: Sequence[Part], epoch: int) -> Prepared:
    """
    Encode the entries, in the thread of the caller, who is told at once what cannot be written.

    Raises:
        ValueError: The parts contradict themselves: ids that are not 16 bytes, two parts for one run, entries
            that do not continue ``expected``, a birth under another root than the part's.
        ValueError, TypeError, OverflowError: An entry cannot be encoded, or could not be decoded again.
    """
    sealed: list[tuple[Part, tuple[tuple[str, bytes], ...]]] = []
    keys: list[str] = []
    size = 0
    seen: set[bytes] = set()
    for part in parts:
        run, entries = part.run, part.entries
        if len(run) != 16 or len(part.root) != 16:
            raise ValueError(f"The id of a run has 16 bytes; this append names {run!r} under root {part.root!r}.")
        if run in seen:
            raise ValueError(f"This append has two parts for run {run.hex()}; put their entries into one.")
        seen.add(run)
        expected = part.expected
        bodies: list[tuple[str, bytes]] = []
        for entry in entries:
            expected += 1
            if entry.seq != expected:
                raise ValueError(f"Run {run.hex()}: entry {entry.seq} stands where entry {expected} belongs.")
            body = body_of(entry)
            check_body(*body)
            bodies.append(body)
            size += len(body[1]) + 250  # envelope, index and head
            key = key_of(entry)
            if key is not None:
                keys.append(key)
        if not bodies:
            raise ValueError(f"Run {run.hex()}: a part without entries appends nothing.")
        if part.expected == 0:
            _check_birth(part, entries[0])
        sealed.append((part, tuple(bodies)))
    if not sealed:
        raise ValueError("An append without parts appends nothing.")
    return Prepared(tuple(sealed), epoch, size, tuple(keys))


def _check_birth(part: Part, entry: Entry) -> None:
    born_under = root_of(part.run, entry) or part.run
    if born_under != part.root:
        raise ValueError(
            f"Run {part.run.hex()} is born under root {born_under.hex()}, but its append names {part.root.hex()} as its root."
        )
    spec = birth_of(entry)
    if spec is not None and spec.parent is not None and len(spec.parent) != 16:
        raise ValueError(f"Run {part.run.hex()}: the id of its parent, {spec.parent!r}, does not have 16 bytes.")


def end_of(rows: Rows) -> int:
    """The position of the last record; 0 in an empty log."""
    key = rows.last("log")
    return 0 if key is None else number(key)


def under(rows: Rows, table: str, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """The rows whose key begins with these bytes."""
    return rows.scan(table, prefix, past(prefix), reverse=reverse)


class Batch:
    """
    What one transaction is about to write.

    Args:
        rows: The tables as they are committed.
        position: Where the log ends there.
    """

    __slots__ = ("_before", "_heads", "_idx", "_lasting", "_log", "_rows", "position")

    def __init__(self, rows: Rows, position: int) -> None:
        self._rows, self.position = rows, position
        self._before: dict[bytes, Head | None] = {}
        self._heads: dict[bytes, Head] = {}
        self._log: list[tuple[bytes, bytes]] = []
        self._idx: list[tuple[bytes, bytes]] = []
        self._lasting: list[Row] = []

    def head(self, run: bytes) -> Head | None:
        """The head of a run as this batch will leave it."""
        head = self._heads.get(run)
        if head is not None or run in self._before:
            return head
        data = self._rows.get("head", run)
        head = self._before[run] = None if data is None else decode_head(data)
        if head is not None:
            self._heads[run] = head
        return head

    # --- appends

    def take(self, op: Prepared) -> None:
        """
        Take one append into the batch, all of it or nothing.

        Raises:
            Fenced: The tree has seen a higher term.
            Conflict: A run has another version than the append expects, or its root is not there.
            ValueError: The root is not the one that the run was born under, or an entry cannot be sealed.
        """
        epoch, position = op.epoch, self.position
        heads: list[tuple[bytes, Head]] = []
        log: list[tuple[bytes, bytes]] = []
        idx: list[tuple[bytes, bytes]] = []
        rows: list[Row] = []
        before = [self._checked(part, op) for part, _ in op.parts]
        for (part, bodies), head in zip(op.parts, before, strict=True):
            run, entries, first = part.run, part.entries, position + 1
            prev = GENESIS if head is None else head.leaf
            for entry, (kind, body) in zip(entries, bodies, strict=True):
                record = seal(run, entry, kind, body, prev, epoch)
                prev = leaf(record)
                position += 1
                place = u64(position)
                log.append((place, record))
                idx.append((idx_key(run, entry.seq), place))
                rows += lasting(run, position, entry.seq, entry)
            heads.append((run, evolve(head, run, first, entries, prev, epoch)))
        # Nothing was touched until here, and from here on nothing can fail: all of it or nothing.
        self.position = position
        self._log += log
        self._idx += idx
        self._lasting += rows
        self._heads.update(heads)
        for part, _ in op.parts:
            if part.root != part.run:
                self._raise_term(part.root, epoch)

    def _checked(self, part: Part, op: Prepared) -> Head | None:
        run, root = part.run, part.root
        head = self.head(run)
        if head is not None and (head.root or run) != root:
            born_under = (head.root or run).hex()
            raise ValueError(
                f"Run {run.hex()} was born under root {born_under}, but its append names {root.hex()} as its root."
            )
        top = head if run == root else self.head(root)
        if top is None:
            if run != root and not any(other.run == root for other, _ in op.parts):
                raise Conflict(
                    f"Run {run.hex()} cannot be recorded: its root {root.hex()} is not in the log. An earlier append, of the"
                    " root's birth, was refused, or never made. Nothing was written.",
                    run=run.hex(),
                    expected=part.expected,
                    actual=0 if head is None else head.seq,
                )
        elif top.epoch > op.epoch:
            raise Fenced(
                f"Run {root.hex()} was taken over: its tree has seen term {top.epoch}, this writer has term {op.epoch}."
                " Nothing was written. Stop; whoever took it over goes on with it.",
                run=root.hex(),
                expected=op.epoch,
                actual=top.epoch,
            )
        actual = 0 if head is None else head.seq
        if actual != part.expected:
            raise self._conflict(part, actual)
        return head

    def _conflict(self, part: Part, actual: int) -> Conflict:
        run, expected = part.run, part.expected
        text = f"Run {run.hex()} is at version {actual}; this append was decided at {expected}."
        if actual < expected:
            text += " An earlier append, which this one builds on, was not recorded."
        else:
            since = [f"{seq} {_label(data)}" for seq, data in self._since(run, expected, expected + 5)]
            more = " ..." if actual > expected + 5 else ""
            text += f"\n  Recorded since: {', '.join(since)}{more}."
        return Conflict(f"{text} Read the run and decide again.", run=run.hex(), expected=expected, actual=actual)

    def _since(self, run: bytes, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
        rows, low, high = self._rows, idx_key(run, after + 1), idx_key(run, upto + 1)
        for key, place in rows.scan("idx", low, high):
            yield number(key[16:]), rows.get_many("log", [place])[0]
        for (key, _), (_, data) in zip(self._idx, self._log, strict=True):
            if low <= key < high:
                yield number(key[16:]), data

    def enter(self, run: bytes, seq: int, entry: Entry | None, record: bytes, hashed: bytes, epoch: int) -> None:
        """Put a record that is sealed already at the end of the log, and project it."""
        self.position += 1
        head = evolve(self.head(run), run, self.position, (entry,), hashed, epoch)
        place = u64(self.position)
        self._heads[run] = head
        self._log.append((place, record))
        self._idx.append((idx_key(run, seq), place))
        self._lasting += lasting(run, self.position, seq, entry)
        if head.root is not None:
            self._raise_term(head.root, epoch)

    def _raise_term(self, root: bytes, epoch: int) -> None:
        top = self.head(root)
        if top is not None and top.root is None and epoch > top.epoch:
            self._heads[root] = replace(top, epoch=epoch)

    # --- what comes of it

    def changes(self) -> Changes:
        """What has to be done to the tables."""
        tables: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)
        deletes: list[tuple[str, bytes]] = []
        for run, head in self._heads.items():
            before = self._before.get(run)
            if head is before:
                continue
            tables["head"][run] = encode_value(head)
            if before is not None:
                if before.state == head.state and before.due == head.due:
                    continue
                old, new = standing(run, before), standing(run, head)
                deletes += [(table, key) for table, key, value in old if (table, key, value) not in new]
                for row in new:
                    if row not in old:
                        tables[row[0]][row[1]] = row[2]
            else:
                for table, key, value in standing(run, head):
                    tables[table][key] = value
        for table, key, value in self._lasting:
            tables[table][key] = value
        puts = {table: sorted(rows.items()) for table, rows in tables.items()}
        if self._log:
            puts["idx"], puts["log"] = sorted(self._idx), self._log
        return Changes(puts, deletes)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self._log

    @property
    def end(self) -> tuple[bytes, bytes]:
        """The last record and its key: after a commit whose outcome is unknown, they tell what became of it."""
        return self._log[-1]


def _label(data: bytes) -> str:
    try:
        entry = decode(data)
    except StoreDamaged:
        return "a damaged record"
    if entry is None:
        return f"a record of type {open_record(data).type}"
    if entry.to is None:
        return f"a ruling of {entry.by or 'nobody'}"  # type: ignore[union-attr]
    return entry.to.kind

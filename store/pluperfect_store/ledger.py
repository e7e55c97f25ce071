"""
What every store does with an append, whatever holds its tables: check it, seal it, project it.

A `Batch` is what one transaction is about to write. It keeps heads and rows in memory over the committed
tables, so that appends of one batch see each other, a head is written once however often it changed, and
a row that came and went within the batch is never written at all.

A batch is one class, although a long one: what it keeps of its transaction is nobody else's to change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from pluperfect.errors import Conflict, Fenced, StoreDamaged
from pluperfect.hooks import Head, Part
from pluperfect.records import GENESIS, INLINE, Body, Row, body_of, check_body, open_row, seal, seal_note
from pluperfect.transitions import Entry
from pluperfect.values import Packed

from .layout import (
    TRAILING,
    decode_head,
    decode_lease,
    decode_owner,
    encode_value,
    idx_key,
    node_key,
    number,
    past,
    u64,
)
from .leases import Lease, gone
from .trailing import BEHIND, Trail, end_of, mark
from .tree import Tree
from .views import Gist, View, evolve, gist, lasting, standing

__all__ = [
    "IMPORTED",
    "Batch",
    "Changes",
    "Piece",
    "Prepared",
    "Rows",
    "claiming",
    "continuing",
    "end_of",
    "imported_rows",
    "prepare",
    "releasing",
    "under",
]

_FAR: Final = 1e11
"""Seconds; no time of a record lies so far from 1970."""

_MOST_ENTRIES: Final = 2**32 - 1 - 2**16
"""A run's entries are numbered in 32 bits, and one part may bring many."""


_BEYOND: Final = b"\xff" * 17
"""No id of a run comes behind this."""

_MOST_TERM: Final = 2**63
_MOST_KNOWN: Final = 2_048
"""Heads that one batch leaves to the next. When there are more, the first are kept: runs mostly go on in their order."""

_MOST_LEASES: Final = 64
"""The same of leases."""

_MOST_JOINED: Final = 1 << 16
"""Bytes; what is one append cannot be committed piece by piece."""


_RUN: Final = attrgetter("run")


IMPORTED: Final = "store/imported"
"""The type of the note before the rows of an import."""


class Rows(Protocol):
    """The committed tables, as one snapshot shows them."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a row, or None."""
        ...

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes]:
        """
        The values of these rows, in the order of the keys.

        Raises:
            StoreDamaged: Some are not there.
        """
        ...

    def scan(self, table: str, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The rows with ``low <= key < high`` in the order of their keys; an empty ``high`` sets no bound."""
        ...

    def last(self, table: str) -> bytes | None:
        """The greatest key."""
        ...

    def has(self, table: str, key: bytes) -> bool:
        """Whether there is such a row."""
        ...

    def keys(self, table: str) -> Iterator[bytes]:
        """All keys, in order; the values, which may be large, are not read."""
        ...


class Changes(Struct):
    """What a transaction has to do to the tables; the rows of the log are in their order, and behind its end."""

    puts: dict[str, dict[bytes, bytes]]
    deletes: list[tuple[str, bytes]]
    rewrites: list[tuple[bytes, bytes]] = []
    """Rows of the log from which values were taken away; their leaves stay what they are."""


class Line(Struct, frozen=True, gc=False):
    """One entry on its way into the log: its place and time, its encoded body, and what the views need of it."""

    seq: int
    at: float
    body: Body
    gist: Gist


class Piece(Struct, gc=False):
    """What one append brings for one run."""

    run: bytes
    root: bytes
    expected: int
    lines: tuple[Line, ...]
    """More may join them until they are taken into a batch."""
    follows: bool = False
    """Whether it goes on with a run for which the same append has brought something before."""


class Prepared(Struct, gc=False):
    """An append whose entries are encoded as far as that is possible before their place is known."""

    pieces: tuple[Piece, ...] | list[Piece]
    """A list where more have joined them: they may until they are taken into a batch."""
    epoch: int
    size: int
    """About how many bytes it will take in memory and in the file."""
    ends: dict[bytes, int]
    """Its runs, and the last entry that it brings of each."""
    keys: tuple[str, ...] = ()
    """The cache keys under which it stores results."""
    blobs: tuple[Packed, ...] = ()
    """The values that are too large to stand in their rows."""
    claim: bytes | None = None
    """The root that the owner who writes carries out from now on: born here, or else taken over."""
    release: bytes | None = None
    """The root that its owner lets go of."""
    at: float = 0.0
    """When it was asked for, UTC seconds."""


def claiming(root: bytes, at: float) -> Prepared:
    """
    A claim of the tree under this root.

    Raises:
        ValueError, TypeError: That is no id of a run, or no time.
    """
    if type(root) is not bytes or len(root) != 16:
        raise ValueError(f"The id of a run has 16 bytes; this claim names {root!r}.")
    if not isinstance(at, int | float) or not abs(at) < _FAR:
        raise ValueError(f"The time of a claim is in UTC seconds, not {at!r}.")
    return Prepared((), 0, 0, {}, claim=root, at=at)


def releasing(root: bytes, epoch: int) -> Prepared:
    """
    Letting go of the tree under this root.

    Raises:
        ValueError, TypeError: That is no id of a run, or no term.
    """
    if type(root) is not bytes or len(root) != 16:
        raise ValueError(f"The id of a run has 16 bytes; this release names {root!r}.")
    _check_term(epoch)
    return Prepared((), epoch, 0, {}, release=root)


def _check_term(epoch: int) -> None:
    if type(epoch) is not int or not 0 <= epoch < _MOST_TERM:
        raise ValueError(f"A term is a whole number from 0 on, and below 2^63, not {epoch!r}.")


def prepare(parts: Sequence[Part], epoch: int, *, claim: bool = False) -> Prepared:
    """
    Encode the entries, in the thread of the caller, who is told at once what cannot be written.

    Args:
        parts: The entries.
        epoch: The writer's term.
        claim: The first part is the birth of a root, which this owner will carry out.

    Raises:
        ValueError: The parts contradict themselves: ids that are not 16 bytes, two parts for one run, entries
            that do not continue ``expected``, a birth under another root than the part's.
        ValueError, TypeError, OverflowError: An entry cannot be encoded, or could not be decoded again.
    """
    if type(epoch) is not int or not 0 <= epoch < _MOST_TERM:
        _check_term(epoch)
    blobs: list[Packed] = []
    keys: list[str] = []
    size = 0
    pieces: list[Piece] = []
    ends: dict[bytes, int] = {}
    for part in parts:
        if type(part) is not Part:
            raise TypeError(f"An append takes parts, not {part!r}.")
        lines, more = _encoded(part, blobs, keys)
        if part.run in ends:
            raise ValueError(f"This append has two parts for run {part.run.hex()}; put their entries into one.")
        ends[part.run] = lines[-1].seq
        pieces.append(Piece(part.run, part.root, part.expected, lines))
        size += more
        if part.expected == 0:
            _check_birth(part, lines[0].gist)
    if not pieces:
        raise ValueError("An append without parts appends nothing.")
    first = parts[0]
    claimed = first.root if claim else None
    # Most bring no keys and no large values: to make a tuple of nothing costs as much as a call.
    named, large = tuple(keys) if keys else (), tuple(blobs) if blobs else ()
    return Prepared((*pieces,), epoch, size, ends, named, large, claimed, None, first.entries[0].at)


def _encoded(part: Part, blobs: list[Packed], keys: list[str]) -> tuple[tuple[Line, ...], int]:
    """The lines of a part, and about how many bytes they take; large values and cache keys go into the lists."""
    run, root, expected = part.run, part.root, part.expected
    if not 0 <= expected < _MOST_ENTRIES:
        raise ValueError(f"Run {run.hex()}: no run can have {expected} entries.")
    if len(run) != 16 or len(root) != 16:
        raise ValueError(f"The id of a run has 16 bytes; this append names {run!r} under root {root!r}.")
    lines: list[Line] = []
    size = 0
    for entry in part.entries:
        expected += 1
        if entry.seq != expected:
            raise ValueError(f"Run {run.hex()}: entry {entry.seq} stands where entry {expected} belongs.")
        at = entry.at
        if type(at) is not float or not -_FAR < at < _FAR:
            _check_time(run, expected, at)
        body = body_of(entry)
        if not body.sure:
            check_body(body)
        told = gist(entry)
        lines.append(Line(expected, at, body, told))
        size += body.size + 250  # envelope, index and head
        if body.spills:
            blobs += [value for value in body.values if value.size > INLINE and value.held is not None]
        if told.key is not None:
            keys.append(told.key)
    if not lines:
        raise ValueError(f"Run {run.hex()}: a part without entries appends nothing.")
    return (*lines,), size


def _check_time(run: bytes, seq: int, at: object) -> None:
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < _FAR:
        raise ValueError(f"Run {run.hex()}: entry {seq} has the time {at!r}; a time is in UTC seconds since the epoch.")


def continuing(op: Prepared, part: Part) -> tuple[tuple[Line, ...], int, list[str]] | None:
    """
    What an append needs to go on with more entries of its tree: those, their size and their cache keys; None where they cannot join
    it. Errors as of `prepare`.
    """
    run, expected, ends = part.run, part.expected, op.ends
    if op.size > _MOST_JOINED or part.root != op.pieces[-1].root or ends.get(run, expected) != expected:
        return None
    if op.claim is not None and run not in ends:
        return None  # a tree is claimed by itself
    blobs: list[Packed] = []
    keys: list[str] = []
    lines, size = _encoded(part, blobs, keys)
    if blobs:
        return None  # large values go their own way
    if not expected:
        _check_birth(part, lines[0].gist)
    return lines, size, keys


def _check_birth(part: Part, told: Gist) -> None:
    born_under, parent = part.run if told.root is None else told.root, told.parent
    if born_under != part.root:
        raise ValueError(
            f"Run {part.run.hex()} is born under root {born_under.hex()}, but its append names {part.root.hex()} as its root."
        )
    if parent is not None and len(parent) != 16:
        raise ValueError(f"Run {part.run.hex()}: the id of its parent, {parent!r}, does not have 16 bytes.")


def under(rows: Rows, table: str, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """The rows whose key begins with these bytes."""
    return rows.scan(table, prefix, past(prefix), reverse=reverse)


def imported_rows(note: Row) -> int:
    """How many rows were imported behind this note; 0 where it is damaged: the row itself is found."""
    try:
        return int(note.note().get("rows", 0))
    except (StoreDamaged, TypeError, ValueError):
        return 0


class Left(Struct):
    """What a batch leaves of all that the next one would read first."""

    position: int
    heads: dict[bytes, Head]
    """Of runs that have not ended, as they are committed now."""
    leases: dict[bytes, Lease]
    tree: Tree | None
    trail: Trail | None


class Batch:
    """
    What one transaction is about to write.

    Args:
        rows: The tables as they are committed.
        position: Where the log ends there.
        owner: The id of the owner who writes; empty where nothing is leased.
        left: What the batch before has left, where nothing was committed after it: that need not be read again.
        trail: What the trailing views lack; None where no view trails behind the log.
    """

    __slots__ = (
        "_before",
        "_blobs",
        "_cut",
        "_fence",
        "_gaps",
        "_gone",
        "_grown",
        "_heads",
        "_idx",
        "_known",
        "_lasting",
        "_leased",
        "_leaves",
        "_log",
        "_passed",
        "_rewrites",
        "_rows",
        "_trail",
        "_until",
        "end",
        "leases",
        "owner",
        "position",
    )

    def __init__(
        self,
        rows: Rows,
        position: int,
        owner: bytes = b"",
        left: Left | None = None,
        trail: Trail | None = None,
    ) -> None:
        self._rows, self.position, self.owner = rows, position, owner
        self._trail = trail if left is None else left.trail
        self._known = {} if left is None else left.heads  # as they are committed
        self._before: dict[bytes, Head | None] = {}  # the same, of those that were asked for
        self._heads: dict[bytes, Head] = {}
        # Not lists of pairs: to make so many at once sets off the garbage collector, which walks over all that the process has.
        self._log: dict[bytes, bytes] = {}
        self._idx: dict[bytes, bytes] = {}
        self.end: tuple[bytes, bytes] | None = None
        """The last row and its key: after a commit whose outcome is unknown, they tell what became of it."""
        self._lasting: list[View] = []
        self._blobs: dict[bytes, Packed] = {}
        self._leased: dict[bytes, Lease | None] = {}  # as they are committed
        self.leases: dict[bytes, Lease | None] = {}  # of the trees that it looked at, as this batch will leave them
        self._grown: Tree | None = None
        self._leaves: list[bytes] = []  # which it has not grown by yet
        self._passed: tuple[bytes, int] | None = None  # a tree and a term that may write in it
        self._fence: int | None = None
        self._gaps: dict[bytes, tuple[bytes, bytes]] = {}  # by tree: between which ids the committed tables have no run
        self._gone: dict[tuple[str, bytes], None] = {}  # rows that are taken away
        self._cut: list[tuple[bytes, bytes]] = []
        self._rewrites: dict[bytes, bytes] = {}
        self._until = 0  # up to where the rows that are entered were imported, by the note before them
        if left is not None:
            self._leased.update(left.leases)
            self.leases.update(left.leases)
            self._grown = left.tree

    def left(self) -> Left:
        """What this batch leaves, once it is committed. Nothing more may be asked of it."""
        known = self._known
        for run, head in self._heads.items():
            if head.outcome:  # nothing follows
                known.pop(run, None)
            elif run in known or len(known) < _MOST_KNOWN:
                known[run] = head
        leases = {root: lease for root, lease in self.leases.items() if lease is not None}
        tree = self._grown
        if tree is not None:
            tree.fresh = []
        return Left(self.position, known, leases if len(leases) <= _MOST_LEASES else {}, tree, self._trail)

    @property
    def rows(self) -> Rows:
        """The tables as they are committed."""
        return self._rows

    def head(self, run: bytes) -> Head | None:
        """The head of a run as this batch will leave it."""
        head = self._heads.get(run)
        if head is not None or run in self._before:
            return head
        head = self._known.get(run)
        if head is None:
            data = self._rows.get("head", run)
            head = None if data is None else decode_head(data)
        self._before[run] = head
        if head is not None:
            self._heads[run] = head
        return head

    def _is_new(self, run: bytes) -> bool:
        """
        Whether there is no such run, for sure: then its head need not be looked for.

        The ids of calls that follow each other lie side by side (`pluperfect.authoring.names.child_id`): where a batch brings
        several of a tree, one look at what comes behind the second answers for the others too.
        """
        if run in self._heads or run in self._known:
            return False
        tree = run[:6]
        gap = self._gaps.get(tree)
        if gap is None:  # a batch may bring only this one
            self._gaps[tree] = run, run
            return False
        if gap[0] <= run < gap[1]:
            return True
        behind = next((key for key, _ in self._rows.scan("head", run, b"")), _BEYOND)
        self._gaps[tree] = run, behind
        return behind != run

    def lease(self, root: bytes) -> Lease | None:
        """Who carries out a tree, as this batch will leave it."""
        if root not in self.leases:
            data = self._rows.get("lease", root)
            self._leased[root] = self.leases[root] = None if data is None else decode_lease(data)
        return self.leases[root]

    @property
    def tree(self) -> Tree:
        """The tree as this batch will leave it."""
        if self._grown is None:
            self._grown = Tree.decode(self._rows.get("meta", b"tree"))
        if self._leaves:  # many at once: that is quicker
            self._grown.extend(self._leaves)
            self._leaves.clear()
        return self._grown

    # --- appends

    def take(self, op: Prepared) -> int:
        """
        Take one append into the batch, all of it or nothing.

        Returns:
            The term that the writer has.

        Raises:
            Fenced: The tree has seen a higher term, or somebody else carries it out.
            Conflict: A run has another version than the append expects, or its root is not there.
            ValueError: The root is not the one that the run was born under, or an entry cannot be sealed.
        """
        if op.claim is not None and not op.pieces:
            return self._claim(op.claim, op.at)
        epoch, position, pieces = op.epoch, self.position, op.pieces
        before: list[Head | None] = []
        passed = None if self._passed is None or self._passed[1] != epoch else self._passed[0]
        for piece in pieces:
            if piece.follows:
                before.append(None)
            else:
                before.append(self._checked(piece, op, passed))
                passed = piece.root
        log, idx, leaves = self._log, self._idx, self._leaves
        stands = len(log), len(idx), len(leaves), len(self._lasting)
        heads: dict[bytes, Head] = {}
        place = row = b""
        try:
            for piece, found in zip(pieces, before):  # noqa: B905 - there is one for each, and `strict` costs as much as a call
                run = piece.run
                head = heads[run] if piece.follows else found
                places: list[int] = []
                prev = GENESIS if head is None else head.leaf
                gists: list[Gist] = []
                for line in piece.lines:
                    seq, told = line.seq, line.gist
                    gists.append(told)
                    row, prev = seal(run, seq, line.at, line.body, prev, epoch)
                    position += 1
                    places.append(position)
                    place = u64(position)
                    log[place] = row
                    idx[idx_key(run, seq)] = place
                    leaves.append(prev)
                    if (seq == 1 or told.key is not None) and (head is None or not head.imported):  # else it makes none
                        self._lasting += lasting(run, position, seq, told)
                heads[run] = evolve(head, run, places, gists, prev, epoch)
        except BaseException:
            self._take_back(*stands)
            raise
        # From here on nothing can fail: all of it or nothing.
        self.position = position
        if place:  # who lets go of a tree appends nothing
            self.end = (place, row)
        if op.blobs:
            for value in op.blobs:
                self._blobs[value.digest] = value
        self._heads.update(heads)
        raised = None
        for piece in pieces:
            root = piece.root
            if root is not raised and root != piece.run:
                raised = root
                if self._passed != (root, epoch):
                    self._raise_term(root, epoch)
                    self._passed = (root, epoch)
        if op.claim is not None:
            self.leases[op.claim] = Lease(epoch, self.owner)
            self._passed = None
        if op.release is not None:
            lease = self.lease(op.release)
            if lease is not None and (lease.epoch, lease.owner) == (epoch, self.owner):
                self.leases[op.release] = None
                self._passed = None
        return epoch

    def _take_back(self, rows: int, places: int, leaves: int, views: int) -> None:
        """An append could not be taken whole: what it has brought goes again, as far as it came."""
        while len(self._log) > rows:
            self._log.popitem()
        while len(self._idx) > places:
            self._idx.popitem()
        del self._leaves[leaves:], self._lasting[views:]

    def _claim(self, root: bytes, at: float) -> int:
        head, lease = self.head(root), self.lease(root)
        why = "nobody carried it out"
        if lease is not None and lease.owner == self.owner:
            why = "the same process begins again"
        elif lease is not None:
            data = self._rows.get("owner", lease.owner)
            why = "its owner closed the store" if data is None else gone(lease.owner, decode_owner(data))
            if not why:
                raise Fenced(
                    f"Run {root.hex()} is carried out by {self.described(lease.owner)}. Wait for its end, or end that process: its"
                    " lease ends with it. Nothing was written but this refusal.",
                    run=root.hex(),
                    expected=0,
                    actual=lease.epoch,
                )
        fence = self._rows.get("meta", b"fence")
        term = 1 + max(head.epoch if head else 0, lease.epoch if lease else 0, number(fence) if fence else 0)
        self.leases[root] = Lease(term, self.owner)
        self._passed = None
        if head is not None:
            self.note("lease", at, {"root": root, "epoch": term, "owner": self.described(self.owner), "why": why})
        return term

    def refused(self, op: Prepared, error: Fenced) -> None:
        """Put on record that a writer was refused whose tree somebody else carries out."""
        body = {"root": bytes.fromhex(error.run), "epoch": error.actual, "refused": error.expected}
        self.note("fenced", op.at, {**body, "owner": self.described(self.owner)})

    def described(self, owner: bytes) -> str:
        """An owner in words."""
        data = self._rows.get("owner", owner)
        return f"owner {owner.hex()[:8]}" if data is None else f"{decode_owner(data)}, owner {owner.hex()[:8]}"

    def note(self, kind: str, at: float, body: dict[str, Any]) -> None:
        """Put a record of the store's own into the log: what it did, or refused, beside the runs."""
        own = self._rows.get("meta", b"store_id") or bytes(16)
        head = self.head(own)
        seq = 1 if head is None else head.seq + 1
        row, hashed, values = seal_note(own, seq, at, f"store/{kind}", body, GENESIS if head is None else head.leaf)
        self._blobs.update((value.digest, value) for value in values if value.held is not None and value.size > INLINE)
        self.enter(own, seq, None, row, hashed, 0)
        if kind == "imported":
            self.importing(open_row(row))

    def _checked(self, piece: Piece, op: Prepared, passed: bytes | None) -> Head | None:
        """The head that a piece goes on with. Into the tree that has passed, its writer is known to be allowed to write."""
        run, root = piece.run, piece.root
        head = None if piece.expected == 0 and self._is_new(run) else self.head(run)
        if head is not None and (head.root or run) != root:
            born_under = (head.root or run).hex()
            raise ValueError(
                f"Run {run.hex()} was born under root {born_under}, but its append names {root.hex()} as its root."
            )
        actual = 0 if head is None else head.seq
        if passed == root and run != root:
            if actual != piece.expected:
                raise self._conflict(piece, actual)
            return head
        top = head if run == root else self.head(root)
        if top is None and run != root and root not in {*map(_RUN, op.pieces)}:
            raise Conflict(
                f"Run {run.hex()} cannot be recorded: its root {root.hex()} is not in the log. An earlier append, of the"
                " root's birth, was refused, or never made. Nothing was written.",
                run=run.hex(),
                expected=piece.expected,
                actual=actual,
            )
        lease = self.lease(root)  # a root may be taken before it is born
        term = max(0 if top is None else top.epoch, 0 if lease is None else lease.epoch)
        if term > op.epoch:
            by = "" if lease is None else f" by {self.described(lease.owner)}"
            raise Fenced(
                f"Run {root.hex()} was taken over{by}: its tree has seen term {term}, this writer has term {op.epoch}."
                " Nothing was written. Stop; whoever took it over goes on with it.",
                run=root.hex(),
                expected=op.epoch,
                actual=term,
            )
        if top is not None and lease is None and self._is_fenced_out(op.epoch):
            raise Fenced(
                f"Run {root.hex()} cannot be gone on with in term {op.epoch}: this store was restored from a backup since that"
                " term was given. Nothing was written. Stop; whoever takes the run over goes on with it.",
                run=root.hex(),
                expected=op.epoch,
                actual=term,
            )
        if actual != piece.expected:
            raise self._conflict(piece, actual)
        return head

    def _is_fenced_out(self, epoch: int) -> bool:
        if self._fence is None:
            fence = self._rows.get("meta", b"fence")
            self._fence = number(fence) if fence else 0
        return epoch <= self._fence and self._fence > 0

    def _conflict(self, piece: Piece, actual: int) -> Conflict:
        run, expected = piece.run, piece.expected
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
        behind: list[tuple[bytes, bytes]] = []
        if self._trail is not None:
            self._trail.learn(rows)
            behind = self._trail.within("idx", low, high)
        for key, place in (*rows.scan("idx", low, high), *behind):
            yield number(key[16:]), rows.get_many("log", [place])[0]
        for key, place in self._idx.items():
            if low <= key < high:
                yield number(key[16:]), self._log[place]

    def enter(self, run: bytes, seq: int, entry: Entry | None, record: bytes, hashed: bytes, epoch: int) -> None:
        """Put a row that is sealed already at the end of the log, and project it."""
        self.position += 1
        self._leaves.append(hashed)
        told = gist(entry)
        head = evolve(self.head(run), run, (self.position,), (told,), hashed, epoch)
        if self.position <= self._until:
            head = replace(head, imported=True)
        place = u64(self.position)
        self._heads[run] = head
        self._log[place] = record
        self._idx[idx_key(run, seq)] = place
        self.end = (place, record)
        found = lasting(run, self.position, seq, told)
        # What came from elsewhere is listed, but answers no call.
        self._lasting += [row for row in found if row[0] != "cache"] if head.imported else found
        if head.root is not None:
            self._raise_term(head.root, epoch)

    def importing(self, note: Row) -> None:
        """The note of an import was entered: as many rows as it says, which come next, are of it."""
        self._until = self.position + imported_rows(note)

    def rewrite(self, place: bytes, row: bytes) -> None:
        """Put another row in the place of a committed one with the same leaf."""
        self._rewrites[place] = row

    def keep(self, value: Packed) -> None:
        """Keep a large value beside the log."""
        self._blobs[value.digest] = value

    def remove(self, table: str, key: bytes) -> None:
        """Take a committed row away, where it is there."""
        if self._rows.has(table, key):
            self._gone[table, key] = None

    def cut(self, place: bytes, leaf: bytes) -> None:
        """Leave the leaf of a record that is taken out of the log."""
        self._cut.append((place, leaf))

    def forget(self, key: bytes) -> None:
        """Take a row out of the cache: the run that it cites is pruned."""
        self._lasting.append(("cache", key, b""))

    def _raise_term(self, root: bytes, epoch: int) -> None:
        top = self.head(root)
        if top is not None and top.root is None and epoch > top.epoch:
            self._heads[root] = replace(top, epoch=epoch)

    # --- what comes of it

    def changes(self, *, settle: bool = False) -> Changes:
        """
        What has to be done to the tables.

        Args:
            settle: Whether all views have to be complete afterwards.
        """
        heads: dict[bytes, bytes] = {}
        tables: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)
        deletes: list[tuple[str, bytes]] = []
        for run, head in self._heads.items():
            before = self._before.get(run)
            if head is before:
                continue
            heads[run] = encode_value(head)
            if before is not None and before.state == head.state and before.due == head.due:
                continue
            old, new = [] if before is None else standing(run, before), standing(run, head)
            for row in old:
                if row not in new:
                    deletes.append((row[0], row[1]))
            for row in new:
                if row not in old:
                    tables[row[0]][row[1]] = row[2]
        if heads:
            tables["head"] = heads
        for table, key, value in self._lasting:
            if value:
                tables[table][key] = value
            elif tables[table].pop(key, None) is None and self._rows.has(table, key):
                deletes.append((table, key))
        for root, lease in self.leases.items():
            before = self._leased.get(root)
            if lease is before:
                continue
            if lease is None:
                if before is not None:
                    deletes.append(("lease", root))
            elif lease != before:
                tables["lease"][root] = encode_value(lease)
        for digest, value in self._blobs.items():
            if not self._rows.has("blob", digest):
                tables["blob"][digest] = value.data
        if self._grown is not None or self._leaves:
            tree = self.tree
            tables["meta"] = {b"tree": tree.encode()}
            for level, index, node in tree.fresh:
                tables["node"][node_key(level, index)] = node
        if self._log:
            tables["idx"] = self._idx
        if self._trail is not None:
            deletes = self._trailing(self._trail, tables, deletes, settle=settle)
        if self._log:
            tables["log"] = self._log
        if self._cut:
            tables["cut"] = dict(self._cut)
        deletes += self._gone
        return Changes(tables, deletes, sorted(self._rewrites.items()))

    def _trailing(
        self, trail: Trail, tables: dict[str, dict[bytes, bytes]], deletes: list[tuple[str, bytes]], *, settle: bool
    ) -> list[tuple[str, bytes]]:
        """Leave behind what may trail, or put in all that does; the deletes that are left."""
        settle = settle or self.position - trail.upto > BEHIND
        if settle:
            trail.learn(self._rows)
        own: dict[str, dict[bytes, bytes]] = {}
        for table in TRAILING:
            if table in tables:
                own[table] = tables.pop(table)
        gone: list[tuple[str, bytes]] = []
        rest: list[tuple[str, bytes]] = []
        for row in deletes:
            (gone if row[0] in TRAILING else rest).append(row)
        trail.add(own, gone)
        if settle and self._log:
            puts, late = trail.settle(self.position, self._rows)
            tables.update(puts)
            rest += late
            assert self.end is not None
            tables["meta"][b"settled"] = mark(self.position, open_row(self.end[1]).leaf)
        return rest

    @property
    def trails(self) -> bool:
        """Whether it leaves views behind."""
        return self._trail is not None and self._trail.upto < self.position

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self._log and self.leases == self._leased


def _label(data: bytes) -> str:
    try:
        row = open_row(data)
        entry = row.entry()
    except StoreDamaged:
        return "a damaged record"
    if entry is None:
        return f"a record of type {row.record.type}"
    if entry.to is None:
        return f"a ruling of {entry.by or 'nobody'}"  # type: ignore[union-attr]
    return entry.to.kind

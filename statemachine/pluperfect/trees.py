"""
The events of a whole tree of runs, in the order of the log, and the tree as it was after any of them.

An entry has its number within its run, its ``seq``. An event is an entry at its place in a tree: its ``number`` counts from 1
over a run and all that it called. For a run that called nothing the two agree.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from itertools import count, repeat
from typing import TYPE_CHECKING

from msgspec import Struct

from .records import decode_each, leaf, uncollected
from .states import Looped, Pending, Retrying, Running, State
from .transitions import Entry, Ruling, Run, apply

if TYPE_CHECKING:
    from .histories import Histories, RecordedRun
    from .values import Forked

__all__ = ["Event", "Moment", "Tree", "beginning", "due_at", "without_beginning"]


class _Read:
    """The runs of a tree that was read, folded when somebody first asks for one. It knows no events, which know it."""

    __slots__ = ("_folded", "_shown", "entries", "histories", "of")

    def __init__(self, histories: Histories) -> None:
        self.histories: Histories = histories
        self.of: list[bytes] = []  # by event: whose it is
        self.entries: list[Entry | None] = []
        self._folded: list[Run] | None = None
        self._shown: dict[bytes, RecordedRun] = {}

    @property
    def folded(self) -> list[Run]:
        """By event, the run as it was after it."""
        if self._folded is None:
            runs: dict[bytes, Run] = {}
            found: list[Run] = []
            with uncollected():
                for run, entry in zip(self.of, self.entries, strict=True):
                    after = runs[run] if run in runs else Run(run)
                    if entry is not None:
                        after = apply(after, entry)
                    runs[run] = after
                    found.append(after)
            self._folded = found
        return self._folded

    def run(self, run: bytes) -> RecordedRun:
        """The same one for all events of a run."""
        shown = self._shown.get(run)
        if shown is None:
            from .histories import RecordedRun

            shown = self._shown.setdefault(run, RecordedRun(self.histories, run))
        return shown


class Event(Struct, frozen=True, gc=False, eq=False):
    """
    One entry of a run, at its place in a tree. It keeps what was read of the tree, for `after`.

    Attributes:
        number: Its place in the tree, from 1, without gaps.
        position: Its place in the log.
        run_id: Whose entry it is.
        entry: The transition or ruling; None where a later release or another program wrote something unknown.
        row: The bytes of its record and of the values that it names, as they are stored.
    """

    number: int
    position: int
    run_id: bytes
    entry: Entry | None
    row: bytes
    _tree: _Read

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[int, int, bytes]:
        return self.number, self.position, self.row

    @property
    def run(self) -> RecordedRun:
        """The run whose entry it is."""
        return self._tree.run(self.run_id)

    @property
    def after(self) -> Run:
        """The run folded up to it."""
        return self._tree.folded[self.number - 1]

    @property
    def leaf(self) -> bytes:
        """The hash of its record."""
        return leaf(self.row)

    @property
    def state(self) -> State | None:
        """The state that it recorded, which can decode its result; None where the run stayed as it was."""
        state = None if self.entry is None else self.entry.to
        if state is not None:
            self._tree.histories.show(state, self.after)
        return state

    def line(self, name: str = "", width: int = 0) -> str:
        """The event in one line: number, time, whose it is, what was recorded."""
        name = name or (self.after.id.hex()[-8:] if self.after.spec is None else self.after.name)
        if self.entry is None:
            return f"{self.number:>4} {name:<{width}}  something that this release does not know"
        time, _, said = str(self.entry).lstrip().partition(" ")[2].partition("  ")
        return f"{self.number:>4} {time}  {name:<{width}}  {said}"

    def __str__(self) -> str:
        return self.line()


class Moment:
    """
    A tree of runs as it was after one event.

    Attributes:
        number: The event; 0: before the first.
        event: The event; None for 0.
    """

    def __init__(self, histories: Histories, top: bytes, events: tuple[Event, ...]) -> None:
        self.number: int = len(events)
        self.event: Event | None = events[-1] if events else None
        self._histories, self._top, self._events = histories, top, events

    @property
    def at(self) -> float:
        """When the event was, UTC seconds since the epoch; 0 before the first."""
        event = self.event
        return 0.0 if event is None else event.after.updated if event.entry is None else event.entry.at

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run that was born by then, folded up to then, in the order of their births."""
        found = {event.after.id: event.after for event in self._events}
        for run in found.values():
            if run.state is not None:
                self._histories.show(run.state, run)
        return tuple(found.values())

    @property
    def run(self) -> Run:
        """The run at the top; with ``seq`` 0 where it was not born."""
        return next((run for run in self.runs if run.id == self._top), Run(self._top))

    @property
    def state(self) -> State | None:
        """The state of the run at the top; None where it was not born."""
        return self.run.state

    @property
    def running(self) -> tuple[Run, ...]:
        """The runs whose body was being called."""
        return tuple(run for run in self.runs if isinstance(run.state, Running))

    @property
    def due(self) -> tuple[Run, ...]:
        """The runs that waited for a time, the earliest first; `due_at` says for which."""
        times = {run.id: time for run in self.runs if (time := due_at(run)) is not None}
        return tuple(sorted((run for run in self.runs if run.id in times), key=lambda run: times[run.id]))

    @property
    def waiting(self) -> tuple[Run, ...]:
        """The runs that waited for something else: for their turn, for `blockers`, or, paused, for somebody to resume them."""
        return tuple(
            run for run in self.runs if isinstance(run.state, Pending | Looped | Retrying) and due_at(run) is None
        )

    @cached_property
    def shared(self) -> Moment | None:
        """Of a fork: the tree that it was forked from, as it was there; None for others, and where that tree is not in this log."""
        forked = None if self.run.spec is None else self.run.spec.forked
        if forked is None:
            return None
        return beginning(self._histories, forked)

    def blockers(self, run: Run) -> tuple[Run, ...]:
        """The runs that a call waited for and that had not ended."""
        wanted = set(() if run.spec is None else run.spec.upstream)
        return tuple(other for other in self.runs if other.id in wanted and not other.final)

    def __repr__(self) -> str:
        state = self.state
        return f"<Moment {self.number} {'not born' if state is None else state} {len(self.runs)} runs>"


class Tree:
    """
    A run and all that it called, with their events.

    It shows what was committed when it was made.

    Attributes:
        events: Every event, in the order of the log.
    """

    def __init__(self, histories: Histories, top: bytes) -> None:
        self._histories, self._top = histories, top
        tree = _Read(histories)
        with uncollected():
            placed = histories.log.beneath(top)
            positions, rows = [position for position, _ in placed], [row for _, row in placed]
            for record, entry in decode_each(rows, histories.log.blob):
                tree.of.append(record.run)
                tree.entries.append(entry)
            events = map(Event, count(1), positions, tree.of, tree.entries, rows, repeat(tree))
            self.events: tuple[Event, ...] = tuple(events)

    def at(self, number: int) -> Moment:
        """
        The tree as it was after event ``number`` (0: before the birth of the run at its top).

        Raises:
            IndexError: There is no such event.
        """
        if not 0 <= number <= len(self.events):
            top = self.events[0].after if self.events else Run(self._top)
            name = top.id.hex() if top.spec is None else top.name
            raise IndexError(
                f"The tree of run {name} has {len(self.events)} events; {number} is not among 0 to {len(self.events)}."
            )
        return Moment(self._histories, self._top, self.events[:number])

    def digest(self, number: int) -> bytes:
        """SHA-256 over the leaf hashes of the first ``number`` events: it binds all of them, and their order."""
        return sha256(b"".join(event.leaf for event in self.events[:number])).digest()


def beginning(histories: Histories, forked: Forked) -> Moment | None:
    """The tree that a fork shares the beginning of, as it was there; None where it is not in this log, or another one."""
    tree = Tree(histories, forked.run)
    whole = len(tree.events) >= forked.at and tree.digest(forked.at) == forked.digest
    return tree.at(forked.at) if whole else None


def without_beginning(histories: Histories, run: bytes | None = None) -> list[Run]:
    """The forks, of all or only this run, whose beginning is not in this log as they share it."""
    found: list[Run] = []
    for root in histories.log.find(roots=True) if run is None else (run,):
        born = next(histories.entries(root, 0, 1), None)
        spec = getattr(None if born is None else born.to, "spec", None)
        if spec is not None and spec.forked is not None and beginning(histories, spec.forked) is None:
            found.append(Run(root, spec=spec))
    return found


def due_at(run: Run) -> float | None:
    """For which time a run waits, UTC seconds since the epoch; None where it waits for none."""
    if run.final:
        return None
    if isinstance(run.ruling, Ruling) and run.ruling.until is not None:
        return run.ruling.until
    state = run.state
    if isinstance(state, Retrying) and not state.is_paused():
        return state.due
    return state.due if isinstance(state, Pending) else None

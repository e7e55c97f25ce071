"""Two runs side by side: their calls aligned by place, the first event at which they part, and what else differs."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from .places import places
from .states import ABSENT, RESULT, Cached, Packed, Pending, State
from .transitions import Entry, Ruling, Run, sentence

if TYPE_CHECKING:
    from .histories import RecordedRun
    from .trees import Event
    from .values import Input

__all__ = ["CallDifference", "Diff", "diff"]


class CallDifference(Struct, frozen=True):
    """
    One call in two runs.

    Attributes:
        place: Its place; empty for the flow itself.
        runs: The call in either run; None where one did not make it.
        inputs: The inputs that differ, by name, each with both values in words.
        results: What it came to, in words, where that differs; else None.
        took: How long it lasted on either side, in seconds, from its birth; None where it was not made or has not ended.
    """

    place: str
    runs: tuple[Run | None, Run | None]
    inputs: dict[str, tuple[str, str]]
    results: tuple[str, str] | None
    took: tuple[float | None, float | None]


class Diff(Struct, frozen=True):
    """
    How two runs differ.

    Attributes:
        runs: The two.
        first: The first event at which they part, on either side; None on a side that has none there.
        place: The place of the call that the event belongs to; empty for the flow itself.
        calls: The calls that differ, in the order in which they were made, and those that only one of them made.
        same: How many calls do not differ.
        took: How long either run lasted, in seconds; None where it has not ended.
    """

    runs: tuple[RecordedRun, RecordedRun]
    first: tuple[Event | None, Event | None] | None
    place: str
    calls: tuple[CallDifference, ...]
    same: int
    took: tuple[float | None, float | None]


class _Side:
    """One run with its calls, its events by call, and the names of runs."""

    def __init__(self, run: RecordedRun) -> None:
        self.recorded = run
        tree = run.tree
        moment = tree.at(len(tree.events))
        self.top: Run = moment.run
        self.calls: dict[str, Run] = {"": self.top, **places(moment, shared=True)}
        self.named = {one.id: place for place, one in self.calls.items()}
        self.events: dict[bytes, list[Event]] = {}
        for event in tree.events:
            self.events.setdefault(event.run_id, []).append(event)

    def entries(self, call: Run) -> list[tuple[Entry | None, Event | None]]:
        """The entries of a call, each with its event where it has one in this tree: a fork shares calls of another."""
        events = self.events.get(call.id)
        if events is not None:
            return [(event.entry, event) for event in events]
        return [(entry, None) for entry in self.recorded.histories.entries(call.id, 0, call.seq)]

    def value(self, packed: Any) -> Any:
        """A value as it is compared: references to runs by their places."""
        if not isinstance(packed, Packed):
            return packed
        if packed.code == RESULT:
            cited: Any = msgspec.msgpack.decode(packed.data)
            runs: list[bytes] = [cited] if isinstance(cited, bytes) else cited
            return [self.named.get(run, "another run") for run in runs]
        return None if packed.code == ABSENT else (packed.code, packed.digest)

    def inputs(self, call: Run) -> dict[str, Any]:
        """The inputs of a call as they are compared."""
        return {given.name: self._input(given) for given in call.birth.inputs}

    def _input(self, given: Input) -> Any:
        packed = given.value
        if isinstance(packed, Packed) and packed.code == RESULT:
            return self.value(packed)
        return given.digest if given.digest is not None else self.value(packed)

    def words(self, call: Run, name: str) -> str:
        """An input in words."""
        for given in call.birth.inputs:
            if given.name == name:
                packed = given.value
                if isinstance(packed, Packed) and packed.code == RESULT:
                    return f"<{', '.join(self.value(packed))}>"
                if isinstance(packed, Packed):
                    return self.recorded.histories.describe(packed)
                return "not recorded" if given.digest is None else f"<{given.digest.hex()[:8]}>"
        return "not given"

    def state(self, state: State | None) -> Any:
        """A state as it is compared: without times, and with its values by digest."""
        if state is None:
            return None
        error = getattr(state, "error", None)
        told: list[Any] = [state.kind, getattr(state, "name", ""), state.message]
        told += [getattr(state, word, None) for word in ("attempt", "loop_count", "count", "cause")]
        told += [self.value(getattr(state, "payload", None)), self.value(self.data(state))]
        told.append(None if error is None else (error.type, error.message))
        return told

    def data(self, state: State | None) -> Any:
        """The packed result of a state, wherever it stands."""
        data = getattr(state, "data", None)
        if data is None and isinstance(state, Cached) and state.source is not None:
            return self.recorded.histories.recorded_data(*state.source)
        return data

    def entry(self, call: Run, entry: Entry | None) -> Any:
        """An entry as it is compared."""
        if entry is None:
            return None
        asked = self.state(entry.asked)
        if isinstance(entry, Ruling):
            return ("ruling", asked, entry.by, entry.until is None)
        if isinstance(entry.to, Pending):
            return ("birth", self.inputs(call))
        return ("transition", self.state(entry.to), asked, entry.by)

    def outcome(self, call: Run) -> str:
        """What a call came to, in words."""
        state = call.state
        if state is None:
            return "not born"
        data = self.data(state)
        told = sentence(state) if state.final else f"{sentence(state)} (not ended)"
        if state.is_completed() and isinstance(data, Packed) and data.code != RESULT:
            return self.recorded.histories.describe(data)
        return told


def diff(one: RecordedRun, other: RecordedRun) -> Diff:
    """Compare two runs of one flow; see `RecordedRun.diff`."""
    left, right = _Side(one), _Side(other)
    found: list[CallDifference] = []
    parted: list[tuple[str, tuple[Event | None, Event | None]]] = []
    same = 0
    for place in dict.fromkeys([*left.calls, *right.calls]):
        a, b = left.calls.get(place), right.calls.get(place)
        if a is not None and b is not None and a.id == b.id:
            same += 1  # one of them was forked from the other, and shares it
            continue
        at = _parting(left, right, a, b)
        if at is not None:
            parted.append((place, at))
        inputs = _inputs(left, right, a, b)
        results = _results(left, right, a, b)
        if a is None or b is None or inputs or results or (at is not None and place):
            found.append(CallDifference(place, (a, b), inputs, results, (_took(a), _took(b))))
        elif place:
            same += 1
    first = _earliest(parted)
    return Diff(
        (one, other),
        None if first is None else first[1],
        "" if first is None else first[0],
        tuple(found),
        same,
        (_took(left.top), _took(right.top)),
    )


def _earliest(
    parted: list[tuple[str, tuple[Event | None, Event | None]]],
) -> tuple[str, tuple[Event | None, Event | None]] | None:
    """Where the two part first: by the numbers of the first run, unless the other one had gone astray before that."""
    ours = [(at[0].number, (place, at)) for place, at in parted if at[0] is not None]
    theirs = [(at[1].number, (place, at)) for place, at in parted if at[0] is None and at[1] is not None]
    mine = min(ours, key=lambda row: row[0], default=None)
    yours = min(theirs, key=lambda row: row[0], default=None)
    if mine is None or yours is None:
        found = mine or yours
        return None if found is None else found[1]
    beside = mine[1][1][1]
    return yours[1] if beside is not None and yours[0] < beside.number else mine[1]


def _parting(left: _Side, right: _Side, a: Run | None, b: Run | None) -> tuple[Event | None, Event | None] | None:
    """The first entries of a call that differ; None where all agree, or where neither stands in its tree."""
    ours = [] if a is None else left.entries(a)
    theirs = [] if b is None else right.entries(b)
    for mine, yours in zip_longest(ours, theirs):
        same = (
            mine is not None
            and yours is not None
            and a is not None
            and b is not None
            and left.entry(a, mine[0]) == right.entry(b, yours[0])
        )
        if not same:
            events = (None if mine is None else mine[1], None if yours is None else yours[1])
            return None if events == (None, None) else events
    return None


def _inputs(left: _Side, right: _Side, a: Run | None, b: Run | None) -> dict[str, tuple[str, str]]:
    if a is None or b is None:
        return {}
    ours, theirs = left.inputs(a), right.inputs(b)
    return {
        name: (left.words(a, name), right.words(b, name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name, ...) != theirs.get(name, ...)
    }


def _results(left: _Side, right: _Side, a: Run | None, b: Run | None) -> tuple[str, str] | None:
    if a is None or b is None:
        return None
    ours, theirs = a.state, b.state
    completed = ours is not None and theirs is not None and ours.is_completed() and theirs.is_completed()
    if completed:
        alike = left.value(left.data(ours)) == right.value(right.data(theirs))
    else:
        alike = left.state(ours) == right.state(theirs)
    return None if alike else (left.outcome(a), right.outcome(b))


def _took(run: Run | None) -> float | None:
    return None if run is None or not run.final else round(max(run.updated - run.born, 0.0), 6)

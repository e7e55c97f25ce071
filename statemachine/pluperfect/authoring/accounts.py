"""
The account of one run in a replay: its record on one side, what its code does today on the other.

A call is found in the record by its place: the task, and which of its calls in this body it is. What was recorded at that
place is compared with what is called there now; what is left over on either side, and the order, are compared when the body
has come to its end. One module, although a long one: all that is compared of a run stands together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec import Struct

from ..divergences import (
    DIVERGED,
    EXTENDED,
    SAME,
    UNANSWERED,
    Difference,
    Section,
    Side,
    differing_inputs,
    differing_options,
    differing_outcome,
)
from ..histories import id_text
from ..records import open_row
from ..sites import raise_site
from ..states import Completed, Failed, Retrying, Running, State, TimedOut
from ..transitions import Entry, Ruling, Run, Transition, apply, fold, sentence
from .cues import differs
from .names import call_key
from .patches import MARK
from .signals import RecordEnds

if TYPE_CHECKING:
    from ..values import Spec
    from .definitions import Authored
    from .frames import Frame
    from .logs import OpenLog
    from .replaying import Script

__all__ = ["Account", "Call", "Child"]

_FROM_OUTSIDE: Final = frozenset({"cancelled", "in_doubt"})
"""The causes of ends that the body has no part in."""

NOTHING: Final = "nothing"

_MOVED: Final = (
    "It has the same name and is another task all the same: a task is known by its name, the module and name of its function, and"
    " its tags. Name the flow by the module that it was recorded in, and put the task back where it was."
)

_ANOTHER: Final = "The code makes another call here. Put what is new behind `if pluperfect.patched('NAME')`, and keep what was behind `else`."


class Child:
    """
    A recorded call of one body.

    Attributes:
        run: Its run, folded.
        position: Where in the log its birth stands.
        ended: When and where in the log its end was recorded; infinite where it was not.
        order: Which call of its body it is.
        begun: Whether its body was ever called.
        mark: Whether it is the mark of a patch: code that no longer asks for that is no other code.
        certain: Whether it is known that the body made it. Nothing is recorded of the calls that a fork shares; once it has
            gone another way, it may have made those that follow in another order, or not at all.
        level: 0 for a call of the run itself; of those that a fork shares, how many forks lie between.
    """

    __slots__ = ("begun", "birth", "called", "certain", "ended", "level", "mark", "order", "place", "position", "run")

    def __init__(self, run: Run, birth: Entry, position: int, ended: tuple[float, float], *, begun: bool) -> None:
        self.run: Run = run
        self.birth: Entry = birth
        self.position: int = position
        self.ended: tuple[float, float] = ended
        self.begun: bool = begun
        self.order: int = 0
        self.mark: bool = run.birth.name.startswith(MARK)
        self.called: bool = False
        self.certain: bool = True
        self.level: int = 0
        spec = run.birth
        self.place: tuple[Any, ...] = (spec.generation, spec.key, spec.index, spec.map_index)

    def newborn(self) -> Run:
        """The run as it was born."""
        return apply(Run(self.run.id), self.birth)

    def differs(self, spec: Spec) -> bool:
        """Whether the call is made with inputs that are known to be others."""
        return differs(self.run.birth, spec.inputs)


class Call(Struct):
    """
    A call that the code makes.

    Attributes:
        spec: What a run would be born with.
        child: The recorded call at its place; None where there is none.
        lane: The strand of code that makes it.
        burst: How many answers were given before it.
        found: What differs between the two: the part, and by name what is on record and what is called.
    """

    spec: Spec
    child: Child | None
    lane: int
    burst: int
    found: list[tuple[str, dict[str, str], dict[str, str]]] = []

    @property
    def other_inputs(self) -> bool:
        """Whether it has other inputs than on record, so that it may be another call altogether."""
        return any(part == "inputs" for part, _, _ in self.found)


class Account:
    """One run, and what its code does."""

    def __init__(self, script: Script, log: OpenLog, run: bytes) -> None:
        self._script = script
        self._log = log
        rows = log.log.placed(run)
        self._entries = [entry for _, row in rows if (entry := open_row(row).entry(log.log.blob))]
        self._unknown = len(rows) - len(self._entries)
        self.recorded: Run = fold(run, self._entries)
        self._cursor = 1
        self.newborn: Run = fold(run, self._entries[:1])
        self.run: Run = self.newborn
        self._children: list[Child] = []
        self._by_id: dict[bytes, Child] = {}
        self._by_place: defaultdict[tuple[Any, ...], list[Child]] = defaultdict(list)
        self._by_task: defaultdict[tuple[Any, ...], list[Child]] = defaultdict(list)
        self._parted = False  # whether it is a fork that has gone another way than what it shares
        self._take(_recorded_calls(log, log.log.children(run)))
        self._calls: list[Call] = []
        self.answered: list[bytes] = []
        self._generation = 0
        self._compared = 0
        self._differences: list[Difference] = []
        self._warnings: dict[str, None] = {}
        self._stop: RecordEnds | None = None
        self._beyond = False  # whether the record was cut off from outside, and the code goes on
        self._generates = False

    def share(self, earlier: Iterable[tuple[int, int, Run]]) -> None:
        """
        The run is a fork: what the one that it was forked from had called counts as on record here.

        Args:
            earlier: The level, the nearest first, the generation, as this run counts them, and the run; only those that had
                ended answer.
        """
        known = {run.id: (level, generation, run.final) for level, generation, run in earlier}
        found = _recorded_calls(self._log, known)
        for _, _, child in found:
            level, generation, _ = known[child.run.id]
            child.place, child.level = (generation, *child.place[1:]), level + 1
        found += [(child.run.born, child.position, child) for child in self._children]
        # Each fork on the way went another way from the first call on that it made itself: there what it shares ends.
        parted: dict[int, tuple[float, int]] = {}
        nearest: dict[tuple[Any, ...], tuple[int, tuple[float, int]]] = {}
        for born, position, child in sorted(found, key=lambda one: -one[2].level):
            there = nearest.get(child.place)
            at = there[1] if there is not None and there[0] > child.level else (born, position)
            parted[child.level] = min(parted.get(child.level, at), at)
            nearest[child.place] = (
                child.level,
                at if there is not None and there[0] == child.level else (born, position),
            )
        for born, position, child in found:
            before = min((at for level, at in parted.items() if level < child.level), default=(math.inf, 0))
            child.certain = (born, position) < before and nearest[child.place][0] == child.level
            self._parted = self._parted or not child.certain
        self._take([one for one in found if one[2].level == 0 or known[one[2].run.id][2]])

    def _take(self, found: list[tuple[float, int, Child]]) -> None:
        found.sort(key=lambda one: one[:2])
        self._children = [child for _, _, child in found]
        firsts: dict[tuple[Any, ...], int] = {}
        self._by_place.clear()
        self._by_task.clear()
        for number, child in enumerate(self._children):
            child.order = firsts.setdefault((child.level, *child.place), number)
            self._by_id[child.run.id] = child
            self._by_place[child.place].append(child)
            self._by_task[child.place[0], child.place[1], child.place[3]].append(child)
        for children in self._by_place.values():
            children.sort(key=lambda child: child.level)

    # --- what the code calls

    def begin(self, generation: int) -> None:
        """The body is called: for its children of this generation."""
        self._generation = generation
        self._calls = []

    def find(self, spec: Spec, *, alike: bool) -> Child | None:
        """
        The recorded call at the place of this one: where it was made several times, the one with these inputs, or the last.

        Args:
            spec: What is called.
            alike: Where the one at its place had other inputs, one with the same inputs that was not made yet will do: strands
                that go on side by side may call one task in any order.
        """
        place = (spec.generation, spec.key, spec.index, spec.map_index)
        found = [child for child in self._by_place.get(place, ()) if not child.called]
        same = next((child for child in found if not child.differs(spec)), None)
        # A fork that has gone another way takes what it shares by its inputs, wherever that was called.
        anywhere = (alike or self._parted) and spec.inputs and all(given.digest is not None for given in spec.inputs)
        if same is None and anywhere:
            others = self._by_task.get((spec.generation, spec.key, spec.map_index), ())
            free = (child for child in others if not child.called and (alike or not child.certain))
            same = next((child for child in free if not child.differs(spec)), None)
        chosen = same or next((child for child in reversed(found) if child.certain), None)
        if chosen is not None:
            for child in self._by_place[chosen.place]:
                if (child.certain and chosen.certain) or not child.differs(spec):
                    child.called = True  # those that it has replaced are no longer asked for
        return chosen

    def note(self, call: Call, frame: Frame | None = None) -> None:
        """The code has made a call."""
        self._offences()
        self._calls.append(call)
        self._compared += 1
        child, spec = call.child, call.spec
        if child is None:
            return
        before = child.run.birth
        found: list[tuple[str, dict[str, str], dict[str, str]]] = []
        if differs(before, spec.inputs):
            found.append(("inputs", *differing_inputs(before.inputs, spec.inputs, self._script.describe)))
        if before.options != spec.options:
            left, right = differing_options(before, spec)
            if left:
                found.append(("options", left, right))
        if before.tags != spec.tags:
            found.append(("tags", {"tags": ", ".join(before.tags) or "none"}, {"tags": ", ".join(spec.tags) or "none"}))
        if frame is not None:
            version = _versions(before, spec, frame.definition.owner)
            if version is not None:
                found.append(("version", {"version": version[0]}, {"version": version[1]}))
            if before.upstream != spec.upstream and not found:
                waits = self._waits(before, spec, frame)
                if waits is not None:
                    found.append(("upstream", *waits))
        if before.kind == "task" and before.code and spec.code and before.code != spec.code and not self._script.bodies:
            self._warnings[
                f"the body of task {spec.name!r} has changed since; bodies=True (--bodies) compares what it gives"
            ] = None
        call.found = found

    def _waits(self, before: Spec, spec: Spec, frame: Frame) -> tuple[dict[str, str], dict[str, str]] | None:
        """The runs that only one of two calls waits for; not those whose values are known by their identity alone."""
        values = [frame.args, *frame.args, *frame.kwargs.values()]

        def named(runs: tuple[bytes, ...], others: tuple[bytes, ...]) -> list[str]:
            found: list[str] = []
            for run in runs:
                if run in others:
                    continue
                child = self._by_id.get(run)
                if child is None or (child.run.state is not None and _stands_in(child.run.state, values)):
                    continue
                found.append(child.run.birth.run_name)
            return found

        left, right = named(before.upstream, spec.upstream), named(spec.upstream, before.upstream)
        if not left and not right:
            return None
        return {"waits for": ", ".join(left) or "no more"}, {"waits for": ", ".join(right) or "no more"}

    def behind(self) -> bool:
        """Whether recorded calls of this body, or the end of a body that ended by itself, still lie ahead."""
        found = self._outcome()
        if found is not None and not _from_outside(found[1]):
            return True
        return any(self._expects(child) for child in self._children)

    def _expects(self, child: Child) -> bool:
        """Whether the body of the generation at hand has yet to make this call, for all that is known."""
        return child.place[0] == self._generation and child.certain and not child.called and not child.mark

    def has(self, key: str) -> bool:
        """Whether a call with this key is on record and was not made yet."""
        return any(child.place[:2] == (self._generation, key) and not child.called for child in self._children)

    # --- when answers come, as the engine asks the cues of a resumed body

    async def answer(self, run: bytes) -> None:
        """Wait for the turn of a recorded answer."""
        import asyncio

        from .virtual import VirtualLoop

        loop = asyncio.get_running_loop()
        child = self._by_id.get(run)
        if isinstance(loop, VirtualLoop):
            await loop.cue(*((math.inf, math.inf) if child is None else child.ended))
        self.answered.append(run)

    def ended(self, run: bytes) -> float | None:
        """Where the recorded end of a call stands; None where it has none."""
        child = self._by_id.get(run)
        return None if child is None or child.ended[1] == math.inf else child.ended[1]

    # --- what the body comes to

    def begun(self) -> Run:
        """
        The run with its body begun, as it was recorded next.

        Raises:
            RecordEnds: It was not.
        """
        place = self._next_start(self._cursor)
        if self.recorded.birth.kind == "task":  # an attempt that was ended from outside tells nothing about a body
            while place is not None:
                found = self._outcome(place + 1)
                later = None if found is None else self._next_start(found[0])
                if (
                    found is None
                    or later is None
                    or not (_from_outside(found[1]) or _interrupted(self._entries[found[0]]))
                ):
                    break
                place = later
        if place is None:
            raise RecordEnds("open", f"{self.recorded.name} was not begun again")
        return self._go_to(place)

    def _next_start(self, place: int) -> int | None:
        for at in range(place, len(self._entries)):
            if isinstance(self._entries[at].to, Running):
                return at
        return None

    def _go_to(self, place: int) -> Run:
        while self._cursor <= place:
            entry = self._entries[self._cursor]
            self.run: Run = apply(self.run, entry)
            self._script.clock.move_to(entry.at)
            self._cursor += 1
        return self.run

    def _outcome(self, place: int | None = None) -> tuple[int, State] | None:
        """Where the end of the attempt under way is recorded, and what was proposed there; None where it is not."""
        at = self._cursor if place is None else place
        while at < len(self._entries):
            entry = self._entries[at]
            if isinstance(entry, Ruling):
                if entry.until is None:
                    return at, entry.asked
            elif _interrupted(entry):
                again = self._next_start(at)
                if again is None:
                    return None
                at = again
            elif not isinstance(entry.to, Running):
                return at, entry.to if entry.asked is None else entry.asked
            at += 1
        return None

    def concluded(self, to: State) -> Run:
        """
        The run after the end of an attempt: what is on record, whatever the body has come to.

        Raises:
            RecordEnds: The record ends before.
        """
        live: Any = to.live
        if isinstance(live, KeyboardInterrupt) and not self._recorded_crash():
            raise live
        stop = _ending(live)
        acted = self._offences()
        if acted and stop is None:
            stop = self._stop or RecordEnds("unanswered", "")
        if stop is None and self._script.clock.stuck:
            stop = RecordEnds("idle", "the code waits for something that does not come from the record")
            self.stopped(stop)
        found = self._outcome()
        outside = found is None or _from_outside(found[1]) or (_crashed(found[1]) and not _crashed(to))
        if stop is not None and stop.kind == "unanswered":
            self._stop = stop
        self._compare_calls(stop, to, whole=not outside)
        if found is None:
            self._beyond = True
            self.close()
            raise stop or RecordEnds("open", f"{self.recorded.name} has no end on record")
        place, expected = found
        if outside:
            self._beyond = True
        elif stop is None:
            self._compare_end(expected, to)
        if self._differences or (stop is not None and not outside):
            return self._adopt_all(stop)
        run = self._go_to(place)
        entry = self._entries[place]
        if isinstance(entry, Ruling) and place + 1 < len(self._entries):
            run = self._go_to(place + 1)
        if run.final:
            self.close()
        elif isinstance(run.state, Retrying) and run.state.cause == "paused":
            if self._next_start(self._cursor) is not None:  # somebody has resumed it
                from msgspec.structs import replace

                return replace(run, state=replace(run.state, cause="requested"))
            self.close()
        return run

    def _recorded_crash(self) -> bool:
        found = self._outcome()
        return found is not None and _crashed(found[1])

    def _adopt_all(self, stop: RecordEnds | None) -> Run:
        """Nothing of what follows can be compared any more: its caller goes on with what is on record."""
        run = self._go_to(len(self._entries) - 1)
        self.close()
        if not run.final:
            raise stop or RecordEnds("open", f"{run.name} has no end on record")
        return run

    def _compare_end(self, expected: State, to: State) -> None:
        if self._generates and isinstance(expected, Completed) and isinstance(to, Completed):
            return
        found = differing_outcome(expected, to, self._log.unpack, self._script.describe)
        if found is None:
            return
        part, recorded, replayed = found
        code = "flow" if self.recorded.birth.kind == "flow" else "task"
        self._differ(part, recorded, replayed, f"The {code} comes to another end than the one on record.")

    # --- what was called, against what is on record

    def _compare_calls(self, stop: RecordEnds | None, to: State, *, whole: bool) -> None:
        generation, calls = self._generation, self._calls
        highest = max((call.child.order for call in calls if call.child is not None), default=-1)
        left = [child for child in self._children if self._expects(child)]
        if stop is not None and stop.kind in ("unanswered", "idle"):
            left = [child for child in left if child.order < highest]
        placed: list[tuple[float, Difference]] = []
        maps = self._maps(generation, left)
        for place, call in enumerate(calls):
            if call.child is None:
                group = (call.spec.key, call.spec.index)
                if call.spec.map_index is not None and group in maps:
                    continue
                before = max((c.child.order for c in calls[:place] if c.child is not None), default=-1)
                following = min(
                    (c.child.order for c in calls[place:] if c.child is not None and c.child.order > before),
                    default=math.inf,
                )
                expected = next((child for child in left if before < child.order < following), None)
                if expected is None and not whole and following == math.inf:
                    self._beyond = True  # beyond the end of the record
                    continue
                # Before what else is left out there: it is the first of that.
                placed.append((place if expected is None else place - 0.75, self._other_call(call, expected)))
                if expected is not None:
                    left.remove(expected)
                continue
            if call.other_inputs:
                before = max((c.child.order for c in calls[:place] if c.child is not None), default=-1)
                expected = next((child for child in left if before < child.order < call.child.order), None)
                if expected is not None:
                    left.remove(expected)
                    placed.append((place - 0.75, self._other_call(call, expected)))
                    continue
            for part, recorded, replayed in call.found:
                placed.append((place, self._other_parts(call, part, recorded, replayed)))
        if stop is not None and stop.kind == "unrecorded" and (placed or not left):
            left = [child for child in left if child.order < highest]  # what comes later it might have called yet
        if stop is None or stop.kind != "unrecorded" or placed:
            placed += [self._left_over(child, calls, to) for child in _firsts(left)]
        elif left:
            placed.append(self._left_over(left[0], calls, to))
        placed += [(place, difference) for place, difference in maps.values()]
        placed += self._disorder(calls)
        self._differences += [difference for _, difference in sorted(placed, key=lambda found: found[0])]

    def _maps(self, generation: int, left: list[Child]) -> dict[tuple[Any, ...], tuple[float, Difference]]:
        """The maps that have another length than on record; their children are taken out of what is left."""
        made: defaultdict[tuple[Any, ...], list[tuple[int, Call]]] = defaultdict(list)
        for place, call in enumerate(self._calls):
            if call.spec.map_index is not None:
                made[call.spec.key, call.spec.index].append((place, call))
        found: dict[tuple[Any, ...], tuple[float, Difference]] = {}
        for group, calls in made.items():
            recorded = {
                child.place: child
                for child in self._children
                if child.place[0] == generation and child.place[1:3] == group and child.place[3] is not None
            }
            if not recorded or len(recorded) == len(calls):
                continue
            if len(recorded) > len(calls) and not any(child in left for child in recorded.values()):
                continue
            first = next(iter(recorded.values()))
            place, call = calls[-1]
            name = call.spec.name
            found[group] = (
                place + 0.5,
                self._difference(
                    "map length",
                    Side(f"{name}.map of {len(recorded)}", first.run.birth.site, {"calls": str(len(recorded))}),
                    Side(f"{name}.map of {len(calls)}", call.spec.site, {"calls": str(len(calls))}),
                    "The map goes over another number of items than on record.",
                ),
            )
            left[:] = [child for child in left if child not in recorded.values()]
        return found

    def _disorder(self, calls: list[Call]) -> list[tuple[float, Difference]]:
        """The first call that comes before one which is recorded before it."""
        later_of_lane: dict[int, Call] = {}
        later_of_burst: dict[int, Call] = {}
        found: list[tuple[float, Difference]] = []
        side_by_side = len({call.lane for call in calls}) > 1
        for place in range(len(calls) - 1, -1, -1):
            call = calls[place]
            child = call.child
            if child is None or not child.certain:
                continue
            rivals = [later_of_lane.get(call.lane)]
            if side_by_side:
                rivals.append(later_of_burst.get(call.burst))
            first = min((r for r in rivals if r is not None), key=_order, default=None)
            if first is not None and _order(first) < child.order:
                assert first.child is not None
                another = call.other_inputs or first.other_inputs
                found = [
                    (
                        place - 0.25,
                        self._difference(
                            "call" if another else "order",
                            self._recorded_call(first.child),
                            self._made_call(call),
                            _ANOTHER if another else "The code makes the same calls in another order.",
                        ),
                    )
                ]
            for table, key in ((later_of_lane, call.lane), (later_of_burst, call.burst)):
                known = table.get(key)
                if known is None or child.order < _order(known):
                    table[key] = call
        return found

    @staticmethod
    def _place_of(child: Child, calls: list[Call]) -> float:
        """Where a call that was left out would have come."""
        for place, call in enumerate(calls):
            if call.child is not None and call.child.order > child.order:
                return place - 0.5
        return len(calls)

    def _left_over(self, child: Child, calls: list[Call], to: State) -> tuple[float, Difference]:
        """A call that the code does not make, and where it would have come."""
        place = self._place_of(child, calls)
        raised = to.live if isinstance(to, Failed) else None
        if place == len(calls) and isinstance(raised, Exception):
            made = Side(f"the end: {sentence(to)}", raise_site(raised))
            advice = "The code ends before this call, with an exception that is not on record there."
        else:
            made = Side(NOTHING)
            advice = (
                "The code no longer makes this call. Runs that are under way need it: keep it behind"
                " `if not pluperfect.patched('NAME')` until they have ended."
            )
        return place, self._difference("call", self._recorded_call(child), made, advice)

    def _other_call(self, call: Call, expected: Child | None) -> Difference:
        if expected is None:
            found = self._outcome()
            recorded = Side(NOTHING if found is None else f"the end: {sentence(found[1])}")
            advice = "The code makes a call that is not on record. Put it behind `if pluperfect.patched('NAME')`."
        else:
            recorded = self._recorded_call(expected)
            moved = expected.run.birth.name == call.spec.name and expected.run.birth.key != call.spec.key
            advice = _MOVED if moved else _ANOTHER
        return self._difference("call", recorded, self._made_call(call), advice)

    def _other_parts(self, call: Call, part: str, recorded: dict[str, str], replayed: dict[str, str]) -> Difference:
        assert call.child is not None
        words = {
            "inputs": "The code makes this call with other inputs than on record.",
            "options": "The task has other options than on record; runs under way would go on with the new ones.",
            "tags": "The call has other tags than on record.",
            "version": "The definition has another version than on record.",
            "upstream": "The call waits for other runs than on record.",
        }
        before, now = self._recorded_call(call.child), self._made_call(call)
        return self._difference(
            part, Side(before.what, before.site, recorded), Side(now.what, now.site, replayed), words[part]
        )

    def _recorded_call(self, child: Child) -> Side:
        spec = child.run.birth
        return Side(self._call_in_words(spec), spec.site)

    def _made_call(self, call: Call) -> Side:
        return Side(self._call_in_words(call.spec), call.spec.site)

    def _call_in_words(self, spec: Spec) -> str:
        shown: list[str] = []
        for given in spec.inputs:
            text = "..." if given.value is None else self._script.describe(given.value)
            shown.append(f"{given.name}={text if len(text) <= 60 else f'{text[:57]}...'}")
        index = "" if spec.map_index is None else f"[{spec.map_index}]"
        return f"{spec.name}{index}({', '.join(shown)})"

    # --- the root, and what goes wrong

    def compare_root(self, spec: Spec, owner: Authored) -> None:
        """Hold the definition of the root flow against the one on record."""
        before = self.recorded.birth
        self._generates = owner.generates
        sides = self._call_in_words(before), self._call_in_words(spec)
        found: list[tuple[str, dict[str, str], dict[str, str]]] = []
        if differs(before, spec.inputs):
            found.append(("inputs", *differing_inputs(before.inputs, spec.inputs, self._script.describe)))
        left, right = differing_options(before, spec)
        if left:
            found.append(("options", left, right))
        declared = set(owner.tags)
        if not declared <= set(before.tags) or self._lost_tags(before, spec, owner):
            # Tags that a `with tags(...)` around the call has set are on record beside those of the flow.
            found.append(("tags", {"tags": ", ".join(before.tags)}, {"tags": ", ".join(sorted(declared)) or "none"}))
        version = _versions(before, spec, owner)
        if version is not None:
            found.append(("version", {"version": version[0]}, {"version": version[1]}))
        for part, one, other in found:
            self._differ(
                part,
                Side(sides[0], before.site, one),
                Side(sides[1], "", other),
                "The flow is not defined as it was when the run began.",
            )

    @staticmethod
    def _lost_tags(before: Spec, spec: Spec, owner: Authored) -> bool:
        function = getattr(owner.fn, "__qualname__", "")
        if before.key == spec.key:
            return False
        from ..digests import place_of

        place = f"{place_of(getattr(owner.fn, '__module__', ''))}.{function}"
        return before.key == call_key(owner.name, place, tuple(before.tags))

    def cannot_bind(self, error: Exception) -> None:
        """The flow does not take the parameters that are on record."""
        self._differ(
            "inputs",
            Side(self._call_in_words(self.recorded.birth), self.recorded.birth.site),
            Side(str(error)),
            "The flow has another signature. Give new parameters defaults, and keep those that runs under way were given.",
        )

    def stopped(self, end: RecordEnds) -> None:
        """The replay ended on the way."""
        if end.kind == "idle" and not self._differences:
            self._differ(
                "state",
                Side(sentence(self.recorded.state) if self.recorded.state is not None else NOTHING),
                Side("waits for ever"),
                end.why,
            )
        self._beyond = True

    def failed(self, error: BaseException) -> None:
        """An error of the engine, before the body was called."""
        self._differ("state", Side(NOTHING), Side(f"{type(error).__name__}: {error}"), "The flow could not be called.")

    def close(self) -> None:
        """Nothing more comes of this run."""
        if self not in self._script.ended:
            self._script.ended.append(self)

    def _offences(self) -> bool:
        """Put what strict mode has stopped since on this account."""
        found = self._script.offences()
        for offence in found:
            if self.recorded.birth.kind == "task":
                self._stop = RecordEnds("unanswered", f"its body wants to {offence.act} at {offence.place}")
                continue
            self._differ(
                "side effect",
                Side("what a body does outside of tasks is not on record"),
                Side(offence.act, offence.place),
                "Put it into a task, whose outcome is on record; or replay without strict mode (--no-strict).",
            )
        return bool(found)

    def _difference(self, part: str, recorded: Side, replayed: Side, advice: str) -> Difference:
        return Difference(part, id_text(self.recorded.id), recorded, replayed, advice)

    def _differ(self, part: str, recorded: Side, replayed: Side, advice: str) -> None:
        self._differences.append(self._difference(part, recorded, replayed, advice))

    def section(self) -> Section:
        """What came of it."""
        spec = self.recorded.birth
        warnings = [*self._warnings]
        if self._unknown:
            warnings.append(f"{self._unknown} records of {spec.run_name} are of a type that this release does not know")
        outcome, why = SAME, ""
        if self._differences:
            outcome = DIVERGED
        elif self._stop is not None:
            outcome, why = UNANSWERED, self._stop.why
        elif self._beyond:
            outcome = EXTENDED
        return Section(
            id_text(self.recorded.id),
            spec.name,
            outcome,
            self._compared,
            tuple(self._differences),
            tuple(warnings),
            why,
        )


def _recorded_calls(log: OpenLog, runs: Iterable[bytes]) -> list[tuple[float, int, Child]]:
    """Recorded calls, each with when it was made, and where in the log its birth stands."""
    found: list[tuple[float, int, Child]] = []
    for run in runs:
        placed = [
            (position, entry) for position, row in log.log.placed(run) if (entry := open_row(row).entry(log.log.blob))
        ]
        entries = [entry for _, entry in placed]
        folded = fold(run, entries)
        if folded.spec is None:
            continue
        ended = (entries[-1].at, float(placed[-1][0])) if folded.final else (math.inf, math.inf)
        begun = any(isinstance(entry.to, Running) for entry in entries)
        child = Child(folded, entries[0], placed[0][0], ended, begun=begun)
        found.append((folded.born, placed[0][0], child))
    return found


def _firsts(left: list[Child]) -> list[Child]:
    """One for each place, and one for each map."""
    found: dict[tuple[Any, ...], Child] = {}
    for child in left:
        found.setdefault(child.place if child.place[3] is None else child.place[:3], child)
    return list(found.values())


def _order(call: Call) -> int:
    assert call.child is not None
    return call.child.order


def _interrupted(entry: Entry) -> bool:
    return isinstance(entry, Transition) and isinstance(entry.to, Retrying) and entry.to.cause == "interrupted"


def _crashed(state: State) -> bool:
    return isinstance(state, Failed) and state.cause == "crashed"


def _from_outside(state: State) -> bool:
    """Whether an attempt that ended so was ended by somebody else than its body."""
    return isinstance(state, TimedOut) or (isinstance(state, Failed) and state.cause in _FROM_OUTSIDE)


def _ending(error: Any) -> RecordEnds | None:
    """The end of the record, where a body was stopped by it."""
    if isinstance(error, RecordEnds):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := _ending(one)) is not None), None)  # type: ignore[reportUnknownVariableType]
    return None


def _versions(before: Spec, spec: Spec, owner: Authored) -> tuple[str, str] | None:
    """The versions, where somebody has given them and they differ; the default is the file's, which any edit changes."""
    given: Any = owner.given.get("version")
    if before.version == spec.version:
        return None
    if given is None and (before.version is None or _is_hash(before.version)):
        return None
    if given is not None and before.version is not None and _is_hash(before.version) and not _is_hash(str(given)):
        return "none", str(given)
    return before.version or "none", str(given or "none")


def _is_hash(version: str) -> bool:
    return len(version) == 32 and not set(version) - set("0123456789abcdef")


def _stands_in(state: State, values: list[Any]) -> bool:
    """Whether the result of a run is among these values, or directly in one: then it may count as known by its identity."""
    try:
        result = state.live if state.live is not None else state.result(raise_on_failure=False)
    except Exception:
        return True
    for value in values:
        rows: Any = ()
        if isinstance(value, dict):
            rows = cast("dict[Any, Any]", value).values()
        elif isinstance(value, list | tuple):
            rows = cast("list[Any]", value)
        for one in cast("list[Any]", [value, *rows]):
            try:
                if one is result or bool(one == result):
                    return True
            except Exception:
                return True
    return False

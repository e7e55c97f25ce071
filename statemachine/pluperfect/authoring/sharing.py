"""
What answers the calls of a body besides its own record: the run that it was forked from, overrides, stubs.

A call of a fork that had ended at its place before the fork is answered from there: its run is that of the other tree, and
nothing is written for it. A call with an override is recorded with it. All others are carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ..errors import Divergence, PluperfectError
from ..places import any_generation, full_place, place_name
from ..states import Cached, Completed, Error, Failed, Input, Packed, State, usable
from ..transitions import Run
from ..trees import beginning
from ..values import Forked, Override
from .cues import differs, likeness
from .names import child_id

if TYPE_CHECKING:
    from ..hooks import Definition
    from .definitions import Authored
    from .logs import OpenLog

__all__ = [
    "OVERRIDE",
    "Level",
    "Shared",
    "any_generation",
    "current_stubs",
    "outcome_of",
    "packed_override",
    "shared_by",
    "stubbed",
]

OVERRIDE: Final = "override"
"""Who recorded the outcome of a call that somebody had set beforehand: the ``by`` of the entry."""


class Level:
    """
    One run that a tree shares its beginning with, and what was set beforehand in the place of recorded outcomes.

    Args:
        overrides: By full place; they are asked first.
        root: The shared root run; None where there are only overrides.
        runs: The runs of its tree as they were at the fork, by id.
        complete: Whether every task has an override: one without is an error.
        live: The places for which that does not hold.
    """

    __slots__ = ("_alike", "complete", "live", "overrides", "root", "runs")

    def __init__(
        self,
        overrides: Iterable[Override],
        root: bytes | None = None,
        runs: Mapping[bytes, Run] | None = None,
        *,
        complete: bool = False,
        live: Iterable[str] = (),
    ) -> None:
        self.overrides: dict[str, Override] = {override.place: override for override in overrides}
        self.root: bytes | None = root
        self.runs: Mapping[bytes, Run] = runs or {}
        self.complete: bool = complete
        self.live: frozenset[str] = frozenset(live)
        self._alike: dict[tuple[bytes, int], dict[tuple[Any, ...], list[Run]]] = {}

    def override(self, place: str) -> Override | None:
        """What was set for a place, or for the place whatever the generation."""
        return self.overrides.get(place) or self.overrides.get(any_generation(place))

    def wants(self, place: str) -> bool:
        """Whether the call at this place must not be carried out."""
        return self.complete and not self.within(place) and not {place, any_generation(place)} & self.live

    def within(self, place: str) -> bool:
        """Whether something was set for a call that the call at this place makes."""
        begins = (f"{place}/", f"{any_generation(place)}/")
        return any(set_for.startswith(begins) for set_for in self.overrides)

    def at(
        self, caller: bytes, authored: Authored, index: int, map_index: int | None, generation: int, redo: int
    ) -> Run | None:
        """The run that was recorded for a call."""
        assert self.root is not None
        return self.runs.get(child_id(self.root, caller, authored.key, index, map_index, generation, redo))

    def alike(self, caller: bytes, generation: int, wanted: tuple[Any, ...], made: set[bytes]) -> Run | None:
        """A call of the same task with the very same inputs that nobody has made again: coroutines may change places."""
        known = self._alike.get((caller, generation))
        if known is None:
            known = self._alike[caller, generation] = {}
            for run in self.runs.values():
                spec = run.spec
                if spec is not None and spec.parent == caller and spec.generation == generation:
                    known.setdefault(likeness(spec.key, spec.map_index, spec.inputs), []).append(run)
        return next((run for run in known.get(wanted, ()) if run.id not in made), None)


class Shared:
    """
    What answers the calls of one body.

    Args:
        log: Where the answers are read from.
        levels: The nearest first: a fork of a fork has two.
        callers: For each level the run there whose body this is; None where there is none.
        prefix: The place of this body's run, with a slash; empty for the run at the top.
    """

    __slots__ = ("_log", "_made", "callers", "levels", "prefix")

    def __init__(
        self, log: OpenLog, levels: tuple[Level, ...], callers: tuple[bytes | None, ...], prefix: str = ""
    ) -> None:
        self._log = log
        self.levels: tuple[Level, ...] = levels
        self.callers: tuple[bytes | None, ...] = callers
        self.prefix: str = prefix
        self._made: set[bytes] = set()

    def answer(
        self, authored: Authored, call: tuple[int, int | None, int], number: int, inputs: tuple[Input, ...]
    ) -> Run | Override | None:
        """
        What a call is answered with: the run that ended at its place, or an override; None: it is carried out.

        Args:
            authored: What is called.
            call: Which occurrence it is, its place in a map, and the generation of its caller.
            number: Its number among the calls of its name.
            inputs: Its inputs; a call that had other ones does not answer.

        Raises:
            Divergence: It should have a stub, and has none.
        """
        index, map_index, generation = call
        place = f"{self.prefix}{place_name(authored.name, number, generation)}"
        inner = False
        for level, caller in zip(self.levels, self.callers, strict=True):
            override = level.override(place)
            if override is not None:
                return override
            inner = inner or level.within(place)
            if authored.kind == "task" and level.wants(place):
                raise Divergence(
                    f"The call {place} has no stub: {authored.name} was not called there in the run that the stubs come from."
                    " Bring the code back to what was recorded, or add a stub for it."
                )
            if caller is None or inner:
                continue
            shared = generation + level.runs[caller].generation
            found = self._found(level, caller, authored, (index, map_index, shared), inputs)
            if found is not None:
                self._made.add(found.id)
                state = found.state
                if state is None or not found.final:
                    return None
                if authored.generates or (isinstance(state, Completed) and not usable(state.data)):
                    return None  # what it gave is not on record
                self._log.show(state, found)
                return found
        return None

    def earlier(self) -> Iterator[tuple[int, int, Run]]:
        """What the body that was forked had called: the level, the generation as the fork counts them, and the run."""
        for number, (level, caller) in enumerate(zip(self.levels, self.callers, strict=True)):
            begun = 0 if caller is None else level.runs[caller].generation
            for run in level.runs.values() if caller is not None else ():
                if run.spec is not None and run.spec.parent == caller:
                    yield number, run.spec.generation - begun, run

    def _found(
        self,
        level: Level,
        caller: bytes,
        authored: Authored,
        call: tuple[int, int | None, int],
        inputs: tuple[Input, ...],
    ) -> Run | None:
        redo = 0
        while (run := level.at(caller, authored, *call, redo)) is not None:
            spec = run.birth
            if run.id not in self._made and not differs(spec, inputs):
                return run
            redo += 1
        if not redo or any(given.digest is None for given in inputs):
            return None
        return level.alike(caller, call[2], likeness(authored.key, call[1], inputs), self._made)

    def below(self, authored: Authored | Definition, call: tuple[int, int | None, int], number: int) -> Shared | None:
        """What answers the calls of a call that is carried out; None: nothing does."""
        index, map_index, generation = call
        callers: list[bytes | None] = []
        for level, caller in zip(self.levels, self.callers, strict=True):
            found = None
            if caller is not None and level.root is not None:
                shared = generation + level.runs[caller].generation
                found = child_id(level.root, caller, authored.key, index, map_index, shared, 0)
                found = found if found in level.runs else None
            callers.append(found)
        if not any(callers) and not any(level.overrides or level.complete for level in self.levels):
            return None
        prefix = f"{self.prefix}{place_name(authored.name, number, generation)}/"
        return Shared(self._log, self.levels, tuple(callers), prefix)


# --- where it comes from --------------------------------------------------------------------------------

current_stubs: Final[ContextVar[Level | None]] = ContextVar("pluperfect_stubs", default=None)
"""The stubs that hold for the root runs begun in this context."""


def shared_by(log: OpenLog, run: Run) -> Shared:
    """
    What answers the calls of a root run: what it was forked from, in any number of steps, and the stubs at hand.

    Raises:
        PluperfectError: The run that it was forked from is not here, or its history is another one.
    """
    levels: list[Level] = []
    stubs = current_stubs.get()
    if stubs is not None:
        levels.append(stubs)
    forked, fork = run.birth.forked, run
    while forked is not None:
        runs = shared_runs(log, fork, forked)
        levels.append(Level(forked.overrides, forked.run, runs))
        fork = runs.get(forked.run) or Run(forked.run)
        forked = None if fork.spec is None else fork.spec.forked
    return Shared(log, tuple(levels), tuple(level.root if level.root in level.runs else None for level in levels))


def shared_runs(log: OpenLog, fork: Run, forked: Forked) -> dict[bytes, Run]:
    """The runs of the tree that a run was forked from, as they were there."""
    log.flush()
    there = beginning(log, forked)
    if there is None:
        what = "is not in this log" if log.log.head(forked.run) is None else "has another history here than at the fork"
        raise PluperfectError(
            f"Run {fork.id.hex()} was forked from run {forked.run.hex()} at event {forked.at}, and that one {what}. A fork goes on"
            " only beside the run that it shares its beginning with."
        )
    return {run.id: run for run in there.runs}


# --- overrides ------------------------------------------------------------------------------------------


def outcome_of(override: Override) -> State:
    """The state that a call with an override ends in."""
    if override.error is not None:
        return Failed(override.message or f"{override.error.type}: {override.error.message}", error=override.error)
    return Cached(override.message, override.value)


def packed_override(log: OpenLog, place: str, given: Any) -> Override:
    """
    An override as it is recorded.

    Args:
        log: Whose plugins pack values.
        place: The place of the call.
        given: A value, an exception, or a final state.

    Raises:
        ValueError: It is no place.
        TypeError: It is a state that ends nothing.
        UnpackableValue: The value cannot be recorded.
    """
    place = full_place(place)
    message = ""
    if isinstance(given, Packed):
        return Override(place, given)
    if isinstance(given, Error):
        return Override(place, None, given)
    if isinstance(given, State):
        if not given.final:
            raise TypeError(
                f"{place} is overridden by {given}, which ends nothing. Give a final state, a value or an exception."
            )
        message, given = given.message, given.result(raise_on_failure=False)
    if not isinstance(given, BaseException):
        return Override(place, log.hooks.pack(given), None, message)
    from .outcomes import packed_error

    return Override(place, None, packed_error(log, given), message)


def stubbed(log: OpenLog, outcomes: Mapping[str, Any], *, live: Iterable[str] = ()) -> Level:
    """Stubs for the calls of the root runs to come; a call of a task without one, and not at a ``live`` place, is an error."""
    made = [packed_override(log, place, given) for place, given in outcomes.items()]
    return Level(made, complete=True, live=map(full_place, live))

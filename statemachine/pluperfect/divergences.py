"""
What a replay of code finds: where a run of today's code parts from what is on record, and how the two are compared.

Nothing here calls user code; ``authoring/replaying.py`` does, and hands what it sees to these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from .digests import Undigestible, digest
from .sites import line_of, shown_site
from .states import ABSENT, Cached, Completed, Failed, Looped, Packed, Retrying, State, TimedOut, usable
from .transitions import sentence

if TYPE_CHECKING:
    from .values import Input, Spec

__all__ = [
    "DIVERGED",
    "EXTENDED",
    "SAME",
    "UNANSWERED",
    "UNLOADABLE",
    "Difference",
    "Replay",
    "Section",
    "Side",
    "Upgrade",
    "differing_inputs",
    "differing_options",
    "differing_outcome",
]

SAME: Final = "same"
"""The code does what is on record."""
EXTENDED: Final = "extended"
"""The code does so up to the end of the record, and goes on beyond it."""
DIVERGED: Final = "diverged"
"""The code does something else."""
UNANSWERED: Final = "unanswered"
"""A value that the code needs is not on record; up to there it does the same."""
UNLOADABLE: Final = "unloadable"
"""There is no code, or it is another flow's."""


class Side(Struct, frozen=True):
    """
    One of two things that are held against each other.

    Attributes:
        what: In words: a call with its arguments, a state, ``nothing``.
        site: The line of code that it comes from, as records name lines; empty where there is none.
        parts: What differs, by name.
    """

    what: str
    site: str = ""
    parts: dict[str, str] = {}

    @property
    def source(self) -> str:
        """The line of code as it stands today; empty where it is not found."""
        found = line_of(self.site) if self.site else None
        return "" if found is None else found.text

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"what": self.what, "site": self.site, "parts": dict(self.parts)}


class Difference(Struct, frozen=True):
    """
    One place where the code of today parts from the record.

    Attributes:
        part: What differs: ``call`` (another one, or none), ``inputs``, ``options``, ``tags``, ``version``, ``upstream``,
            ``order``, ``map length``, ``result``, ``state``, ``side effect``.
        run: The id of the run whose code it is.
        recorded: What is on record.
        replayed: What the code does today.
        advice: What to do about it.
    """

    part: str
    run: str
    recorded: Side
    replayed: Side
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "part": self.part,
            "run": self.run,
            "recorded": self.recorded.as_dict(),
            "replayed": self.replayed.as_dict(),
            "advice": self.advice,
        }

    def __str__(self) -> str:
        return "\n".join([f"{self.part} differs", *(f"  {line}" for line in self.lines())])

    def lines(self) -> Iterator[str]:
        """The two sides in words, one under the other."""
        for head, side in (("recorded", self.recorded), ("replayed", self.replayed)):
            at = f"   {shown_site(side.site)}" if side.site else ""
            yield f"{head}: {side.what}{at}"
            yield from (f"  {name} = {value}" for name, value in side.parts.items())
        if self.advice:
            yield self.advice


class Section(Struct, frozen=True):
    """
    The code of one run, led again beside its record.

    Attributes:
        run: The id of the run.
        name: The name of its flow or task.
        outcome: ``same``, ``extended``, ``diverged`` or ``unanswered``.
        calls: How many calls were compared.
        differences: Where the two part, the first first.
        warnings: What differs and need not matter.
        why: Why the replay came to an end before the code did, where it did.
    """

    run: str
    name: str
    outcome: str
    calls: int
    differences: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "run": self.run,
            "name": self.name,
            "outcome": self.outcome,
            "calls": self.calls,
            "differences": [one.as_dict() for one in self.differences],
            "warnings": list(self.warnings),
            "why": self.why,
        }


class Replay(Struct, frozen=True):
    """
    What came of a replay.

    Attributes:
        run: The id of the root run.
        name: The name of its flow.
        run_name: Its own name.
        state: The state that is on record.
        sections: One for each run whose code was led again, in the order in which they ended; the root's is the last.
        patches: The patches that the code asked for, and whether the run has them; see `pluperfect.patched`.
        why: Why the code could not be led, where the outcome is ``unloadable``.
    """

    run: str
    name: str
    run_name: str
    state: str
    sections: tuple[Section, ...] = ()
    patches: dict[str, bool] = {}
    why: str = ""

    @property
    def outcome(self) -> str:
        """
        ``same``: the code does what is on record.

        ``extended``: it does so up to the end of the record, and goes on beyond it. ``diverged``: it does something else.
        ``unanswered``: a value that it needs is not on record; up to there it does the same. ``unloadable``: there is no code.
        """
        found = {section.outcome for section in self.sections}
        if not found:
            return UNLOADABLE
        return next(word for word in (DIVERGED, UNANSWERED, EXTENDED, SAME) if word in found)

    @property
    def first(self) -> Difference | None:
        """The first difference of all; None where there is none."""
        return next((one for section in self.sections for one in section.differences), None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What differs and need not matter."""
        return tuple(warning for section in self.sections for warning in section.warnings)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        first = self.first
        return {
            "run": self.run,
            "name": self.name,
            "run_name": self.run_name,
            "state": self.state,
            "outcome": self.outcome,
            "first": None if first is None else first.as_dict(),
            "sections": [section.as_dict() for section in self.sections],
            "patches": dict(self.patches),
            "why": self.why,
        }

    def __repr__(self) -> str:
        first = self.first
        told = "" if first is None else f": {first.part}, {first.recorded.what} / {first.replayed.what}"
        return f"<Replay {self.name}/{self.run_name} {self.outcome}{told}>"


class Upgrade(Struct, frozen=True):
    """
    What runs of a flow would do under its code of today.

    Attributes:
        flow: Its name.
        replays: One for each run that is looked at.
        open: The ids of those that have not ended.
    """

    flow: str
    replays: tuple[Replay, ...]
    open: frozenset[str]

    @property
    def blocked(self) -> tuple[Replay, ...]:
        """The runs under way that may not go on under this code: it does something else than they have on record."""
        return tuple(one for one in self.replays if one.run in self.open and one.outcome in (DIVERGED, UNLOADABLE))

    @property
    def patches(self) -> dict[str, tuple[str, ...]]:
        """For each patch that the code asks for, the runs under way that need its old branch; where none does, it can go."""
        names = dict.fromkeys(name for one in self.replays for name in one.patches)
        return {
            name: tuple(one.run for one in self.replays if one.patches.get(name) is False and one.run in self.open)
            for name in names
        }

    @property
    def retained(self) -> dict[str, tuple[str, ...]]:
        """For each patch, the runs that have ended by its old branch: without it, they no longer replay."""
        names = dict.fromkeys(name for one in self.replays for name in one.patches)
        return {
            name: tuple(one.run for one in self.replays if one.patches.get(name) is False and one.run not in self.open)
            for name in names
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "flow": self.flow,
            "runs": [{**one.as_dict(), "open": one.run in self.open} for one in self.replays],
            "blocked": [one.run for one in self.blocked],
            "patches": {
                name: {"under way": list(runs), "ended": list(self.retained[name])}
                for name, runs in self.patches.items()
            },
        }


# --- comparing --------------------------------------------------------------------------------------------

Describe = Callable[[Any], str]


def differing_inputs(
    recorded: Iterable[Input], made: Iterable[Input], describe: Describe
) -> tuple[dict[str, str], dict[str, str]]:
    """The inputs that are known to differ, by name, as they are on record and as they are now."""
    before, now = {given.name: given for given in recorded}, {given.name: given for given in made}
    left: dict[str, str] = {}
    right: dict[str, str] = {}
    for name in (*before, *(name for name in now if name not in before)):
        one, other = before.get(name), now.get(name)
        if one is not None and other is not None and not _other(one, other):
            continue
        left[name], right[name] = _input(one, describe), _input(other, describe)
    return left, right


def _other(one: Input, other: Input) -> bool:
    if one.digest is None or other.digest is None:
        return False  # what has no digest cannot be told apart
    return one.digest != other.digest


def _input(given: Input | None, describe: Describe) -> str:
    if given is None:
        return "not given"
    if given.value is None:
        return f"<too large to be recorded, digest {given.digest.hex()[:16] if given.digest else 'none'}>"
    return describe(given.value)


def differing_options(recorded: Spec, made: Spec) -> tuple[dict[str, str], dict[str, str]]:
    """The options that differ, by name, as they are on record and as they are now."""
    before, now = dict(recorded.options), dict(made.options)
    names = [name for name in (*before, *(n for n in now if n not in before)) if before.get(name) != now.get(name)]
    return {n: _option(before, n) for n in names}, {n: _option(now, n) for n in names}


def _option(options: dict[str, Any], name: str) -> str:
    return repr(options[name]) if name in options else "not set"


def differing_outcome(
    recorded: State, made: State, unpack: Callable[[Any], Any], describe: Describe
) -> tuple[str, Side, Side] | None:
    """
    What differs between how a body ended on record and how it ends now: the part, and the two sides; None where nothing does.

    Args:
        recorded: The state that was proposed at the end of the body.
        made: The one that is proposed now.
        unpack: Decodes what is on record.
        describe: Says what a packed value is.
    """
    if type(recorded) is not type(made) or _cause(recorded) != _cause(made):
        return "state", _told(recorded, describe), _told(made, describe)
    if isinstance(recorded, Completed | Cached):
        assert isinstance(made, Completed | Cached)
        if not usable(recorded.data) or not usable(made.data):
            return None
        same = _alike(recorded.data, made.data, unpack)
        return None if same else ("result", _told(recorded, describe), _told(made, describe))
    if isinstance(recorded, Looped):
        assert isinstance(made, Looped)
        same = recorded.count == made.count and _alike(recorded.payload, made.payload, unpack)
        return None if same else ("payload", _told(recorded, describe), _told(made, describe))
    one, other = getattr(recorded, "error", None), getattr(made, "error", None)
    if one is None or other is None or (one.type, one.message) == (other.type, other.message):
        return None
    if other.message.startswith(f"{one.type}: {one.message}") or other.message.startswith(
        f"{one.type.rpartition('.')[2]}: {one.message}"
    ):
        return None  # the recorded exception, which could not be decoded: its text stands for it
    return "state", _told(recorded, describe), _told(made, describe)


def _cause(state: State) -> str:
    cause = getattr(state, "cause", "")
    # What the children did to their flow is told by their results; a state that a body returned has failed it all the same.
    return "" if cause in ("error", "returned") else cause


def _alike(one: Any, other: Any, unpack: Callable[[Any], Any]) -> bool:
    if one is None or other is None:
        return one is other
    if one == other:
        return True
    if type(one) is not Packed or type(other) is not Packed or ABSENT in (one.code, other.code):
        return True  # not on record: nothing to hold against
    try:
        before, now = unpack(one), unpack(other)
    except Exception:
        return False
    try:
        return digest(before) == digest(now)
    except (Undigestible, RecursionError):
        pass
    try:
        return bool(before == now) or _is_opaque(before, now)
    except Exception:  # arrays and their like have no truth value
        return False


def _is_opaque(before: Any, now: Any) -> bool:
    """Whether two objects of one class know no other equality than that of their identity, so that nothing is known."""
    return type(before) is type(now) and type(before).__eq__ is object.__eq__


def _told(state: State, describe: Describe) -> Side:
    parts: dict[str, str] = {}
    if isinstance(state, Completed | Cached) and state.data is not None:
        parts["result"] = describe(state.data)
    elif isinstance(state, Looped):
        parts["payload"] = "nothing" if state.payload is None else describe(state.payload)
        parts["iteration"] = str(state.count)
    elif isinstance(state, Failed | TimedOut | Retrying) and state.error is not None:
        parts["error"] = f"{state.error.type}: {state.error.message}"
    return Side(sentence(state), "", parts)

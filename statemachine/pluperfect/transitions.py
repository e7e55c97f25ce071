"""
What may follow what, the entries of a log, and the fold that makes a Run of them.

Three ground rules:

1. A move that has no row in TABLE cannot be recorded, whoever asks for it.
2. Deciding and evolving are two things. ``rules.settle`` may say no and changes nothing; ``apply`` takes
   whatever was recorded and never says no.
3. Nothing here reads a clock, draws a number or touches a disk. Time and chance arrive as data, so that
   the same history always folds to the same Run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Final, final

from msgspec import Struct
from msgspec.structs import replace

from .states import (
    Cached,
    Completed,
    Failed,
    Looped,
    Pending,
    Retrying,
    Running,
    Spec,
    State,
    TimedOut,
)

__all__ = [
    "NO_FACTS",
    "SPENDING",
    "TABLE",
    "Entry",
    "Facts",
    "Materialization",
    "Ruling",
    "Run",
    "Transition",
    "apply",
    "fold",
    "legal",
    "sentence",
    "stamp",
]

TABLE: Final[Mapping[type[State] | None, frozenset[type[State]]]] = {
    None: frozenset({Pending}),  # birth
    Pending: frozenset({Running, Cached, Failed}),
    Running: frozenset({Completed, Failed, TimedOut, Retrying, Looped}),
    Retrying: frozenset({Running, Failed}),
    Looped: frozenset({Running, Failed}),
    Cached: frozenset(),  # final, as are the other three
    Completed: frozenset(),
    Failed: frozenset(),
    TimedOut: frozenset(),
}
"""Which kind may follow which; None stands for a run that is not born. Nothing else can be recorded."""

SPENDING: Final = frozenset({"error", "timeout", "returned"})
"""The causes of Retrying that spend the retry budget."""

_FRESH: Final = frozenset({"error", "timeout", "returned", "requested"})
"""The causes of Retrying after which the body's calls are made anew: a new generation of children."""


def legal(state: State | None, to: State) -> bool:
    """Whether the table has the row from ``state`` (None: not born) to ``to``."""
    return type(to) in TABLE[None if state is None else type(state)]


class Materialization(Struct, frozen=True, array_like=True):
    """
    An asset that a run made; where the run failed, one that it was to make.

    Attributes:
        key: The asset's URI.
        by: The tool that made it.
        upstream: The keys of the assets that it was made from.
        metadata: What the task noted about it.
        properties: What its declaration says of it: name, url, description, owners.
    """

    key: str
    by: str = ""
    upstream: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    properties: dict[str, Any] = {}


class Facts(Struct, frozen=True, array_like=True):
    """
    What the rules were told and the fold does not know; recorded, so that the past can be judged again.

    Attributes:
        key: The cache key that was looked up.
        parts: What the key was made of: name of the part to its digest.
        uncached: Why no key could be made, where a policy asked for one.
        hit: The run and sequence number whose result answers this call; None after a miss.
        expires: When a result stored under the key stops answering, UTC seconds since the epoch; None: never.
        answers: What callables of the user answered, by option: ``retry_condition_fn``, ``on_interrupt``.
        run_name: The run's own name, where it could be made only from the results of other runs.
        assets: What a materializing task made, at its end.
    """

    key: str | None = None
    parts: dict[str, str] | None = None
    uncached: str | None = None
    hit: tuple[bytes, int] | None = None
    expires: float | None = None
    answers: dict[str, Any] | None = None
    run_name: str | None = None
    assets: tuple[Materialization, ...] | None = None


NO_FACTS: Final = Facts()
"""The rules were told nothing besides the run and the time."""


@final
class Transition(Struct, frozen=True):
    """
    One move of a run.

    Attributes:
        seq: Its place in the run's log, from 1, without gaps; shared with rulings.
        at: When it was proposed, UTC seconds since the epoch, to the microsecond.
        to: The state that was recorded.
        asked: The state that was proposed, where a rule recorded another one.
        by: The rule that changed it; empty where none did.
        why: The rule's reason.
        facts: What the rules were told.
        epoch: The term of the writer that recorded it.
    """

    seq: int
    at: float
    to: State
    asked: State | None = None
    by: str = ""
    why: str = ""
    facts: Facts = NO_FACTS
    epoch: int = 0

    def __str__(self) -> str:
        line = f"{self.seq:>4} {stamp(self.at)}  {sentence(self.to)}"
        if self.asked is not None:
            line += f"   asked {sentence(self.asked)}"
        if self.by:
            line += f"   by {self.by}"
        return f"{line}: {self.why}" if self.why else line


@final
class Ruling(Struct, frozen=True):
    """
    A proposal that moved nothing, since a rule refused it or put it off. It stands in the log all the same.

    Attributes:
        seq: Its place in the run's log, shared with transitions.
        at: When the proposal was made, UTC seconds since the epoch.
        asked: The state that was proposed.
        by: The rule that spoke.
        why: Its reason.
        until: Not before this time; None where the proposal was refused.
        facts: What the rules were told.
        epoch: The term of the writer that recorded it.
    """

    seq: int
    at: float
    asked: State
    by: str
    why: str = ""
    until: float | None = None
    facts: Facts = NO_FACTS
    epoch: int = 0

    @property
    def to(self) -> None:
        """No state: the run stayed where it was."""
        return None

    def __str__(self) -> str:
        verb = "refused" if self.until is None else f"delayed until {stamp(self.until)}"
        line = f"{self.seq:>4} {stamp(self.at)}  {verb} {sentence(self.asked)}   by {self.by}"
        return f"{line}: {self.why}" if self.why else line


Entry = Transition | Ruling
"""What a log holds of a run: a move, or a proposal that moved nothing."""


@final
class Run(Struct, frozen=True):
    """
    One run, folded from its log.

    Attributes:
        id: 16 bytes.
        seq: The number of entries folded; the version that an append expects.
        state: None before birth.
        spec: What it was born with.
        attempt: How often the body was begun in this iteration.
        spent: How many retries of the budget this iteration has spent.
        loop_count: The current iteration, from 1.
        payload: What the last Looped carried, packed.
        generation: How often the body was begun anew; its children are numbered within it.
        since: The generation that began the current iteration; a retry may answer its calls from there on.
        born: When the first entry was made, UTC seconds since the epoch.
        updated: When the last entry was made.
        epoch: The highest term that wrote.
        ruling: The last entry, where it was a ruling.
    """

    id: bytes
    seq: int = 0
    state: State | None = None
    spec: Spec | None = None
    attempt: int = 0
    spent: int = 0
    loop_count: int = 1
    payload: Any = None
    generation: int = 0
    since: int = 0
    born: float = 0.0
    updated: float = 0.0
    epoch: int = 0
    ruling: Ruling | None = None

    @property
    def name(self) -> str:
        """The run's own name."""
        return self.birth.run_name

    @property
    def run_count(self) -> int:
        """How often the body was begun in this iteration."""
        return self.attempt

    @property
    def final(self) -> bool:
        """Whether nothing can follow."""
        return self.state is not None and self.state.final

    @property
    def birth(self) -> Spec:
        """
        The Spec of a run that is born.

        Raises:
            LookupError: It is not; whoever judges its birth finds the Spec in ``proposal.to.spec``.
        """
        if self.spec is None:
            raise LookupError("this run is not born yet; at its birth the Spec is in proposal.to.spec")
        return self.spec


def apply(run: Run, entry: Entry) -> Run:
    """Evolve: the run after one more entry of its log. It takes whatever was recorded."""
    state, at = entry.to, entry.at
    epoch = entry.epoch if entry.epoch > run.epoch else run.epoch
    if type(state) is Running:
        moved = replace(
            run,
            seq=entry.seq,
            state=state,
            attempt=state.attempt,
            loop_count=state.loop_count,
            updated=at,
            epoch=epoch,
            ruling=None,
        )
        named = entry.facts.run_name
        return moved if named is None or run.spec is None else replace(moved, spec=replace(run.spec, run_name=named))
    if type(entry) is Ruling:
        return replace(run, seq=entry.seq, born=run.born or at, updated=at, epoch=epoch, ruling=entry)
    if type(state) is Pending:
        return replace(run, seq=entry.seq, state=state, spec=state.spec, born=at, updated=at, epoch=epoch, ruling=None)
    moved = replace(run, seq=entry.seq, state=state, updated=at, epoch=epoch, ruling=None)
    if type(state) is Retrying:
        spent, generation = run.spent + (state.cause in SPENDING), run.generation + (state.cause in _FRESH)
        return replace(moved, spent=spent, generation=generation)
    if type(state) is Looped:
        new = run.generation + 1
        return replace(
            moved,
            attempt=0,
            spent=0,
            loop_count=state.count + 1,
            payload=state.payload,
            generation=new,
            since=new,
        )
    return moved


def fold(run_id: bytes, history: Iterable[Entry]) -> Run:
    """The run that this history makes."""
    return reduce(apply, history, Run(run_id))


# --- words for people -----------------------------------------------------------------------------------


def stamp(at: float) -> str:
    """UTC, ISO 8601 to the millisecond; by arithmetic, since this room has no clock to import."""
    days, seconds = divmod(at, 86400.0)
    year, month, day = _civil(int(days))
    millis = round(seconds * 1000)
    return (
        f"{year:04}-{month:02}-{day:02}T{millis // 3600000:02}:{millis // 60000 % 60:02}"
        f":{millis // 1000 % 60:02}.{millis % 1000:03}Z"
    )


def _civil(days: int) -> tuple[int, int, int]:
    """Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar (eras of 400 years)."""
    days += 719468  # days from 0000-03-01
    era, doe = divmod(days, 146097)
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (month <= 2), month, doy - (153 * mp + 2) // 5 + 1


def sentence(state: State) -> str:
    """A state in one line: its label, what is particular to it, its message."""
    name = str(getattr(state, "name", state.kind))
    words = [name if name == state.kind else f"{name} ({state.kind})"]
    if isinstance(state, Pending) and state.due is not None:
        words.append(f"due {stamp(state.due)}")
    elif isinstance(state, Running):
        words.append(f"attempt {state.attempt}")
        if state.loop_count > 1:
            words.append(f"iteration {state.loop_count}")
    elif isinstance(state, Retrying):
        words.append(f"{state.cause}, due {stamp(state.due)}")
    elif isinstance(state, Looped):
        words.append(f"iteration {state.count}")
    elif isinstance(state, Cached) and state.source is not None:
        words.append(f"from {state.source[0].hex()[-8:]}:{state.source[1]}")
    elif isinstance(state, TimedOut):
        words.append(f"after {state.elapsed:.3g} s of {state.limit:g} s")
    elif isinstance(state, Failed) and state.cause != "error":
        words.append(state.cause)
    error: Any = getattr(state, "error", None)
    if error is not None and not (state.message and error.message in state.message):
        words.append(f"{error.type}({error.message!r})")
    if state.message:
        words.append(repr(state.message))
    return " ".join(words)

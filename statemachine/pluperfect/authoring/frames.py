"""
One run while its body is under way: what the engine knows of it, and all that it can do without waiting.

A Frame is the place where data meets decisions: it makes proposals, has them judged, records what was
settled, and turns the end of a body into a state. The interpreters in ``engine.py`` do the waiting.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec.structs import replace

from ..course import Propose
from ..errors import Conflict, PluginError, Refused, UpstreamFailed
from ..hooks import CacheKey, Definition, Part, Runner, Ticket
from ..manager import Attending
from ..rules import Proposal, Question, Verdict, settle
from ..states import PLAIN, Cached, Completed, Failed, Packed, Pending, Retrying, Running, State, TimedOut
from ..transitions import Entry, Facts, Ruling, Run, Transition, apply
from ..values import size_of
from . import outcomes, reuse
from .ahead import Ahead
from .announce import announce
from .children import Children
from .cues import Cues
from .sessions import HOLDS, Session
from .signals import NO_PAYLOAD, FlowStopped

if TYPE_CHECKING:
    import asyncio

    from ..settings import Settings
    from .logs import OpenLog, Terms
    from .sharing import Shared

__all__ = ["Frame", "Session", "send_together"]

_log: Final = logging.getLogger("pluperfect.engine")


_ENDS: Final = frozenset({Completed, Failed, TimedOut})
_NOBODY: Final[set[int]] = set()  # nobody is put into this one: a run with a limit has its own
_making = threading.RLock()  # held while a lock is made; a handler of a signal may come in between and want one too


class Frame:
    """One run that this process carries out. Sync and async interpreters share it."""

    # As slots: most of these are read in each call, and an attribute that may also be the class's is looked for ten times as long.
    __slots__ = (
        "_ahead",
        "_asked",
        "_cues",
        "_lock",
        "_stopped",
        "abandoned",
        "args",
        "arguments",
        "assets",
        "attending",
        "cache_key",
        "called",
        "closed",
        "cut_off",
        "deadline",
        "definition",
        "fresh",
        "generator",
        "held",
        "hit",
        "hold",
        "kwargs",
        "level",
        "limit",
        "limiter",
        "live_payload",
        "log",
        "looked",
        "name",
        "outcome",
        "parent",
        "remote",
        "replay",
        "run",
        "runner",
        "salt",
        "session",
        "shared",
        "terms",
        "thread",
        "ticket",
        "turn",
        "unsure",
        "untold",
        "wait_for",
        "waits",
    )

    def __init__(
        self,
        session: Session,
        terms: Terms,
        run: Run,
        parent: Frame | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        arguments: dict[str, Any],
        fresh: bool,
        wait_for: Any = (),
        waits: bool = False,
    ) -> None:
        self.session: Session = session
        self.log: OpenLog = session.log
        self.terms: Terms = terms
        self.definition: Definition = terms.definition
        self.attending: Attending = terms.attending
        self.run: Run = run
        self.parent: Frame | None = parent
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.arguments: dict[str, Any] = arguments
        self.fresh: bool = fresh  # no child of this run can be in the log yet
        self.wait_for: Any = wait_for
        self.waits: bool = waits
        self.level: str = run.spec.durability if run.spec is not None else "effect"
        self.hold: float = HOLDS[self.level]
        self.turn: threading.Lock = threading.Lock()  # held while a proposal is judged and recorded
        self.held: tuple[Entry, ...] = ()
        self.untold: Sequence[tuple[Run, Transition]] = ()
        self.ticket: Ticket | None = None
        self.unsure: bool = False  # whether the log may hold more than was noted here
        self.looked: Facts | None = None  # what the look-up gave, while questions are being answered
        self.name: str | None = None  # one that could be made only when the arguments had been resolved
        self.cache_key: CacheKey | None = None
        self.hit: tuple[Any, Any] | None = None
        self.live_payload: Any = NO_PAYLOAD
        self.outcome: State | None = None
        self.assets: Any = None
        self.salt: int = 0
        self.thread: int = 0
        self.deadline: float | None = None
        self.limiter: asyncio.Timeout | None = None  # of a body that is awaited
        self.cut_off: bool = False
        self.runner: Runner | None = None
        self.remote: Any = None  # the runner that calls the body elsewhere
        self.generator: Any = None  # refers weakly to what its consumer iterates over
        self.closed: bool = False  # a generator whose consumer wants no more
        self.replay: dict[tuple[Any, ...], deque[tuple[bytes, int]]] | None = None  # successes of earlier attempts
        self.shared: Shared | None = None  # what answers the calls of this body besides its own record
        self._lock: threading.Lock | None = None
        self._stopped: bool = False
        self._cues: Cues | None = None
        self._ahead: Ahead | None = None
        self.called: Children | None = None  # what the body at hand has called, if anything
        self._asked: dict[str, Any] | None = None
        self.limit: float = terms.limit
        self.abandoned: set[int] = _NOBODY  # threads whose bodies were given up
        if terms.limit:
            self.abandoned = set()
            session.watched = True

    def __enter__(self) -> None:
        """It is under way, and whoever called it knows, to end it should his own time be up."""
        parent = self.parent
        if parent is not None:
            (parent.called or parent.children).active.add(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        parent = self.parent
        if parent is None:
            if kind is not None:
                self.session.release()
        else:
            children = parent.called or parent.children
            try:
                if kind is not None:
                    with suppress(*outcomes.OURS):  # what came in between is what is heard
                        self.learn()
            finally:
                children.active.discard(self)
                if kind is not None:
                    children.count(self)  # interrupted on its way: it ends with its caller

    @property
    def lock(self) -> threading.Lock:
        """Held while something is made that is made once."""
        made = self._lock
        if made is None:  # most runs never ask for it
            with _making:
                made = self._lock = self._lock or threading.Lock()
        return made

    @property
    def children(self) -> Children:
        """The calls of the body at hand."""
        made = self.called
        if made is None:
            with self.lock:
                made = self.called = self.called or Children(self.session)
        return made

    def inherited(self, option: str) -> Any:
        """What the run says by this option, or what those that called it say."""
        value = self.definition.options.get(option)
        above = self.parent
        if value is not None or above is None:
            return value
        known = above._asked
        if known is None:
            known = above._asked = {}
        elif option in known:
            return known[option]
        value = known[option] = above.inherited(option)
        return value

    @property
    def settings(self) -> Settings:
        """The settings that hold around this code: as the tree found them, and what `temporary_settings` sets."""
        return self.session.settings.here()

    @property
    def flow(self) -> Frame | None:
        """The nearest flow: this run or one above it."""
        frame: Frame | None = self
        while frame is not None and frame.definition.kind != "flow":
            frame = frame.parent
        return frame

    @property
    def cues(self) -> Cues | None:
        """The recorded calls of this body in their order; None where there can be none."""
        if self._cues is None and not self.fresh:
            self._cues = Cues(self.log, self.run.id, self.salt)
        return self._cues

    @property
    def ahead(self) -> Ahead:
        """The recorded calls of this body that come next."""
        made = self._ahead
        if made is None:
            made = self._ahead = Ahead(self.log, self.run.id, self.salt)
        return made

    @property
    def turns(self) -> Cues | None:
        """The same where coroutines go on side by side: their answers come in turn."""
        return None if self.fresh or not self.definition.owner.is_async else self.cues

    async def await_turn(self) -> None:
        """Wait until the answer of this run comes in its turn among those of its caller."""
        turns = None if self.parent is None else self.parent.turns
        if turns is not None:
            await turns.answer(self.run.id)

    # --- proposing and recording

    def propose(self, effect: Propose) -> Run | Question:
        """
        Have a proposal judged, and record what was settled.

        Raises:
            FlowStopped: The run was ended from outside while its body, or what waits for it, went on.
        """
        with self.turn:
            if self.cut_off:
                raise FlowStopped(self)
            return self._settled(effect)

    def _settled(self, effect: Propose) -> Run | Question:
        run, to, facts, kind = self.run, effect.to, effect.facts, type(effect.to)
        at = self.log.clock.now()
        if kind is Running:
            if type(run.state) is Pending:
                looked = self.looked
                if looked is None or not facts.answers:
                    looked = self.looked = reuse.look_up(self, facts, at)
                facts = looked if facts.answers is None else replace(looked, answers=facts.answers)
                if self.name is not None:
                    facts = replace(facts, run_name=self.name)
        elif type(to) is Completed and self.cache_key is not None:
            facts = replace(reuse.stored_under_key(self, to, at), answers=facts.answers)
        if kind in _ENDS and self.definition.options.get("assets") and type(run.state) is Running:
            from .assets import materializations

            facts = replace(facts, assets=materializations(self))
        proposal = Proposal(to, at, facts)
        verdict, by = self.attending.review(run, proposal, self.definition)
        if verdict is None:
            decision = settle(run, proposal, None, "", self.session.epoch)
        else:
            decision = self._judged(proposal, verdict, by)
        if type(decision) is Question:
            return decision
        entry: Entry = decision
        if effect.by and type(entry) is Transition and not entry.by:
            entry = replace(entry, by=effect.by, why=effect.why)
        state = entry.to
        if type(state) is Cached and self.hit is not None:
            entry = replace(entry, to=reuse.cached(self, state))
        self.record((entry,))
        if type(state) is not Running and state is not None:
            announce(self, state)
        return self.run

    def judge_birth(self, proposal: Proposal) -> tuple[Entry, Ruling | None]:
        """The birth, and what a rule says against it. A request is always on record, also where it is refused."""
        verdict, by = self.attending.review(self.run, proposal, self.definition)
        if verdict is None or (verdict.to is not None and verdict.refuse is None and verdict.delay is None):
            born = settle(self.run, proposal, verdict, by, self.session.epoch)
            assert type(born) is not Question
            return born, None
        spoken = settle(self.run, proposal, verdict, by, self.session.epoch)
        if not isinstance(spoken, Ruling):
            raise PluginError(
                f"Rule {by!r} asks a question about a birth; there is nothing to ask before a run is born."
            )
        return cast(Entry, settle(self.run, proposal, epoch=self.session.epoch)), replace(spoken, seq=spoken.seq + 1)

    def rename(self, name: str) -> None:
        """Give the run, which is not recorded yet, its own name."""
        self.run = replace(self.run, spec=replace(self.run.birth, run_name=name))

    def _judged(self, proposal: Proposal, verdict: Verdict, by: str) -> Entry | Question:
        """What comes of a proposal to which a rule has spoken."""
        if verdict.to is not None:
            given = verdict.to
            if isinstance(given, Completed) and given.data is None and given is not proposal.to:
                given = replace(given, data=Packed(PLAIN, b"\xc0"))  # the rule gave no result: it is None
            verdict = replace(verdict, to=outcomes.packed(self, given))
            live = proposal.to.live if proposal.to.is_failed() else None
            given = verdict.to
            if live is not None and given is not None and given.live is None and not given.is_completed():
                given.carry(live)
        decision = settle(self.run, proposal, verdict, by, self.session.epoch)
        if isinstance(decision, Question) and decision.option not in self.definition.options:
            raise PluginError(
                f"Rule {by!r} asks about the option {decision.option!r}, which {self.definition.name} does not have."
            )
        return decision

    def record(self, entries: tuple[Entry, ...]) -> None:
        """Append entries to the run's log, ahead of durability."""
        run, held, session = self.run, self.held, self.session
        part = Part(run.id, session.root, run.seq - len(held), held + entries if held else entries)
        for entry in entries:
            run = self._evolve(run, entry)
        try:
            self.ticket = session.append(part, self.hold)
            self.run, self.held = run, ()
        except BaseException as error:
            if not isinstance(error, outcomes.OURS):  # a refusal says that nothing was recorded
                self.unsure = True
            raise

    def learn(self) -> None:
        """Take over from the log what was recorded where somebody was interrupted while he recorded it."""
        if self.unsure:
            with self.turn:
                self._learn()

    def _learn(self) -> None:
        if not self.unsure:
            return
        self.log.log.flush()
        recorded, self.unsure = self.log.load(self.run.id), False
        if recorded.seq > self.run.seq - len(self.held):
            self.run, self.held = recorded, ()
        self.untold = [told for told in self.untold if told[0].seq <= self.run.seq]

    def await_commit(self) -> None:
        """
        Wait until all that was recorded of this run is durable.

        Raises:
            StoreError: It was refused. Where it only builds on an earlier append that was refused, that one's error.
        """
        if self.ticket is None:
            return
        try:
            self.ticket.wait()
        except Conflict:
            self.session.check()
            raise

    def hold_back(self, entry: Entry) -> None:
        """Take an entry into the run that travels with the next one: a birth, with its start."""
        self.run: Run = self._evolve(self.run, entry)
        self.held = (*self.held, entry)

    def _evolve(self, run: Run, entry: Entry) -> Run:
        run = apply(run, entry)
        if self.attending.recorders and type(entry) is Transition:
            self.untold = [*self.untold, (run, entry)]
        return run

    def send(self) -> None:
        """Append what was held back."""
        if self.held:
            self.record(())

    def weight(self) -> int:
        """About how many bytes of arguments its birth brings, where that is held back."""
        size = 0
        spec = self.run.spec
        if self.held and spec is not None:
            for given in spec.inputs:
                value: Packed | None = given.value
                if value is not None:
                    size += size_of(value)
        return size

    # --- the body

    def begin_body(self) -> float:
        """
        Make ready for one call of the body: a new generation of children, a payload decoded anew.

        Returns:
            When the body begins, in seconds of the monotonic clock.
        """
        run, began = self.run, time.monotonic()
        if run.attempt > 1 or run.loop_count > 1 or self.called is not None or self._cues is not None:
            self.called = self.replay = self.assets = self.deadline = self._cues = self._ahead = None
            self._stopped = False
            payload = run.payload
            self.live_payload = NO_PAYLOAD if payload is None else self.log.unpack(payload)
        self.salt = run.generation
        self.thread = threading.get_ident()
        if self.limit and self.definition.kind == "flow":
            self.deadline = began + self.limit
        return began

    def cut(self, why: str = "the run that called it ran into its timeout") -> None:
        """
        End this run and what it has called, although a thread may still be in its body: its time is up.

        What comes of the body after this is dropped.
        """
        self.session.watched = True
        self.children.cut(why)
        with self.turn:
            self._learn()
            if not self.run.final and not self.cut_off:
                state = Failed(why, "cancelled")
                state.carry(UpstreamFailed(state.message))
                self._settled(Propose(state))
            self.cut_off = True

    def checkpoint(self) -> None:
        """Called at each call into the engine: stop a body whose run has ended."""
        if not self.session.watched:
            return
        frame: Frame | None = self
        while frame is not None:
            if frame._stopped or frame.cut_off or (frame.abandoned and threading.get_ident() in frame.abandoned):
                raise FlowStopped(frame)
            if frame.deadline is not None and time.monotonic() > frame.deadline:
                frame._stopped = True
                raise FlowStopped(frame)
            frame = frame.parent

    def time_left(self) -> float | None:
        """Seconds until the earliest deadline of the flows around this code; None where there is none."""
        frame: Frame | None = self
        earliest: float | None = None
        while frame is not None:
            if frame.deadline is not None and (earliest is None or frame.deadline < earliest):
                earliest = frame.deadline
            frame = frame.parent
        return None if earliest is None else earliest - time.monotonic()

    def out_of_time(self) -> bool:
        """Whether an awaited body above this one is being cancelled since its limit has passed."""
        frame = self.parent
        while frame is not None:
            if frame.limiter is not None and frame.limiter.expired():
                return True
            frame = frame.parent
        return False

    def works_for(self, other: Frame) -> bool:
        """Whether this code is itself a submitted call of the runner that the other one waits in."""
        flow = other.flow
        return self is not flow and flow is not None and self.flow is flow and threading.get_ident() != flow.thread

    def occupies_worker(self, other: Frame) -> bool:
        """Whether this code, which awaits, does so in a worker of that runner and not in the runner's own event loop."""
        in_loop = getattr(None if other.flow is None else other.flow.runner, "in_loop", None)
        return self.works_for(other) and not (in_loop is not None and in_loop())

    # --- the answers to questions

    def question(self, option: str, about: State) -> Any:
        """Call the user's callable behind an option. What it returns may have to be awaited."""
        asked = self.definition.options.get(option)
        if not callable(asked):
            return asked
        from ..client.schemas.objects import FlowRun, TaskRun

        for state in (self.run.state, about):
            if state is not None:
                self.log.show(state, self.run)
        shown = FlowRun if self.definition.kind == "flow" else TaskRun
        return asked(self.definition.owner, shown(self.run), about)

    def answered(self, option: str, answer: Any) -> Any:
        """The answer as it is recorded."""
        if option == "on_interrupt":
            return self._interruption(answer)
        if isinstance(answer, State):
            return outcomes.packed(self, answer)
        return answer if isinstance(answer, str | None) else bool(answer)

    def unanswered(self, option: str, error: Exception) -> Any:
        """The callable raised: that is logged and recorded, and counts as no."""
        if option == "on_interrupt":
            raise error
        _log.error("%s of %s raised %s", option, self.definition.name, outcomes.brief(error), exc_info=error)
        return {"raised": outcomes.brief(error)}

    def _interruption(self, answer: Any) -> Any:
        if answer is None or answer == "retry":
            # Due now, by this process's clock: the course has none.
            return Retrying("the process died during this attempt", "interrupted", self.log.clock.now())
        if answer == "fail":
            return answer
        if isinstance(answer, State):
            return outcomes.packed(self, answer)
        raise TypeError(f"on_interrupt of {self.definition.name} must give 'retry', 'fail' or a State, not {answer!r}.")

    def take_back(self, *, ended: bool) -> None:
        """The body is over: its deadline is off, and what it submitted and nobody has begun is taken back."""
        self.deadline = None
        if self.called is not None:
            self.called.take_back(ended=ended)

    def give_up(self, cause: str, message: str) -> None:
        """End a run that goes no further. A rule may object; then it stays as it is."""
        self.learn()
        if self.run.final:
            return
        state = Failed(message, cause)
        state.carry(Refused(message) if cause == "refused" else UpstreamFailed(message))
        self.propose(Propose(state))


def send_together(frames: Collection[Frame]) -> None:
    """
    Append the births that were held back of calls of one body, as one append: all of them or none.

    Raises:
        TypeError, ValueError, OverflowError: One cannot be recorded.
    """
    first = next(iter(frames))
    session, hold = first.session, first.hold
    parts = [Part(frame.run.id, session.root, frame.run.seq - len(frame.held), frame.held) for frame in frames]
    try:
        ticket = session.append_all(parts, hold)
        for frame in frames:
            frame.ticket, frame.held = ticket, ()
    except BaseException as error:
        if not isinstance(error, outcomes.OURS):
            for frame in frames:
                frame.unsure = True
        raise


def _forked() -> None:
    """In the child: the thread that may have been making one is not here."""
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

"""
One run while its body is under way: what the engine knows of it, and all that it can do without waiting.

A Frame is the place where data meets decisions: it makes proposals, has them judged, records what was
settled, and turns the end of a body into a state. The interpreters in ``engine.py`` do the waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec.structs import replace

from ..course import Propose
from ..errors import ParameterTypeError, PluginError, Refused, UpstreamFailed
from ..hooks import CacheKey, Definition, Part, Runner, Ticket
from ..manager import Attending
from ..rules import Proposal, Question, settle
from ..states import Cached, Completed, Failed, Pending, Retrying, Running, Spec, State, TimedOut, usable
from ..transitions import NO_FACTS, Entry, Facts, Ruling, Run, Transition, apply
from . import outcomes
from .announce import announce
from .arguments import Found, each_run, resolved
from .futures import Future
from .naming import name_run
from .signals import NO_PAYLOAD, FlowStopped
from .sources import Sources

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["Frame", "Session"]

_log: Final = logging.getLogger("pluperfect.engine")

INLINE_LIMIT: Final = 2_048
"""A cached result that takes more bytes than this is not written again, but found at its source."""

HOLDS: Final = {"effect": 0.005, "result": 0.005, "lazy": 0.05}
"""How long a commit that nobody waits for may be held back, in seconds, by durability level."""


_ENDS: Final = frozenset({Completed, Failed, TimedOut})


class Session:
    """One tree of runs that this process carries out: its log, its term, and whether it may still write."""

    __slots__ = ("broken", "epoch", "log", "root", "sources", "tickets", "unpause")

    def __init__(self, log: OpenLog, root: bytes, epoch: int, *, unpause: bool = False) -> None:
        self.log, self.root, self.epoch, self.unpause = log, root, epoch, unpause
        self.tickets: deque[Ticket] = deque()
        self.broken: Exception | None = None
        self.sources = Sources()

    def spec_of(self, run: bytes) -> Spec | None:
        """What a run was born with; None where it is not in this log."""
        self.log.log.flush()
        return self.log.load(run).spec

    def append(self, part: Part, hold: float) -> Ticket:
        """Append ahead of durability. A refusal of an earlier append surfaces here, at the latest at the end."""
        self.check()
        ticket = self.log.log.append((part,), epoch=self.epoch, hold=hold)
        self.tickets.append(ticket)
        return ticket

    def check(self) -> None:
        """Raise what stopped this session, if anything did."""
        if self.broken is not None:
            raise self.broken
        tickets = self.tickets
        try:
            while tickets and tickets[0].done:
                tickets.popleft().wait()
        except IndexError:  # another thread of the session took it
            pass
        except Exception as error:
            self.broken = error
            raise

    def finish(self) -> None:
        """Wait until everything that was recorded is durable."""
        try:
            while True:
                self.tickets.popleft().wait()
        except IndexError:
            pass
        except Exception as error:
            self.broken = error
            raise
        if self.broken is not None:
            raise self.broken


class Frame:
    """One run that this process carries out. Sync and async interpreters share it."""

    __slots__ = (
        "_counts",
        "_names",
        "_replay",
        "_stopped",
        "abandoned",
        "active",
        "args",
        "arguments",
        "assets",
        "attending",
        "cache_key",
        "closed",
        "completed",
        "cut_off",
        "deadline",
        "definition",
        "failures",
        "fresh",
        "generator",
        "held",
        "hit",
        "hold",
        "kwargs",
        "level",
        "limit",
        "live_payload",
        "lock",
        "name",
        "open",
        "outcome",
        "parent",
        "remote",
        "resting",
        "run",
        "runner",
        "salt",
        "session",
        "thread",
        "ticket",
        "total",
        "turn",
        "untold",
        "wait_for",
        "waits",
    )  # fmt: skip

    def __init__(
        self,
        session: Session,
        definition: Definition,
        run: Run,
        *,
        parent: Frame | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        arguments: dict[str, Any],
        fresh: bool,
        wait_for: Any = (),
        waits: bool = False,
    ) -> None:
        self.session, self.definition, self.run, self.parent = session, definition, run, parent
        self.attending: Attending = session.log.attending(definition)
        self.args, self.kwargs, self.arguments = args, kwargs, arguments
        self.fresh = fresh  # no child of this run can be in the log yet
        self.wait_for, self.waits = (
            wait_for,
            waits,
        )  # whether there is anything to wait for, here or among the arguments
        self.level = run.birth.durability if run.spec is not None else "effect"
        self.hold = HOLDS[self.level]
        self.held: tuple[Entry, ...] = ()
        self.ticket: Ticket | None = None
        self.cache_key: CacheKey | None = None
        self.hit: tuple[Any, Any] | None = None
        self.limit: float = definition.options.get("timeout_seconds") or 0.0
        self.live_payload: Any = NO_PAYLOAD
        self.runner: Runner | None = None
        self.remote: Any = None  # the runner that calls the body elsewhere
        self.name: str | None = None  # a name that could be made only when the arguments had been resolved
        self.closed = False  # a generator whose consumer wants no more
        self.generator: Any = None  # refers weakly to what its consumer iterates over
        self.outcome: State | None = None
        self.assets: Any = None
        self.thread = 0
        self.untold: list[tuple[Run, Transition]] = []
        self.abandoned: set[int] = set()  # threads whose bodies were given up
        self.lock = threading.Lock()
        self.turn = threading.Lock()  # held while a proposal is judged and recorded
        self.cut_off = False
        self._begin_counts()
        self.salt = 0

    def _begin_counts(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._replay: dict[tuple[Any, ...], deque[tuple[bytes, int]]] | None = None
        self.open: set[Future[Any]] = set()
        self.failures: list[Future[Any]] = []
        self.resting: list[Frame] = []
        self.active: set[Frame] = set()  # direct calls under way
        self.total = self.completed = 0
        self.deadline: float | None = None
        self._stopped = False

    @property
    def log(self) -> OpenLog:
        """The log that this run is recorded in."""
        return self.session.log

    @property
    def flow(self) -> Frame | None:
        """The nearest flow: this run or one above it."""
        frame: Frame | None = self
        while frame is not None and frame.definition.kind != "flow":
            frame = frame.parent
        return frame

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
        run, to, facts = self.run, effect.to, effect.facts
        at = self.log.clock.now()
        if type(to) is Running:
            if type(run.state) is Pending:
                facts = self._look_up(facts, at)
                if self.name is not None:
                    facts = replace(facts, run_name=self.name)
        elif type(to) is Completed and self.cache_key is not None:
            facts = self._store_under_key(to, at)
        if self.definition.options.get("assets") and type(to) in _ENDS and type(run.state) is Running:
            from .assets import materializations

            facts = replace(facts, assets=materializations(self))
        decision = self._judge(Proposal(to, at, facts))
        if type(decision) is Question:
            return decision
        entry = cast("Entry", decision)
        state = entry.to
        if type(state) is Cached and self.hit is not None:
            entry = replace(entry, to=self._cached(state))
        self.record(entry)
        if type(state) is not Running and state is not None:
            announce(self, state)
        return self.run

    def judge_birth(self, proposal: Proposal) -> tuple[Entry, Ruling | None]:
        """The birth, and what a rule says against it. A request is always on record, also where it is refused."""
        verdict, by = self.attending.review(self.run, proposal, self.definition)
        if verdict is None or (verdict.to is not None and verdict.refuse is None and verdict.delay is None):
            return cast(Entry, settle(self.run, proposal, verdict, by, self.session.epoch)), None
        spoken = settle(self.run, proposal, verdict, by, self.session.epoch)
        if not isinstance(spoken, Ruling):
            raise PluginError(
                f"Rule {by!r} asks a question about a birth; there is nothing to ask before a run is born."
            )
        return cast(Entry, settle(self.run, proposal, epoch=self.session.epoch)), replace(spoken, seq=spoken.seq + 1)

    def rename(self, name: str) -> None:
        """Give the run, which is not recorded yet, its own name."""
        self.run = replace(self.run, spec=replace(self.run.birth, run_name=name))

    def _judge(self, proposal: Proposal) -> Entry | Question:
        run = self.run
        if self.attending.reviewers:
            verdict, by = self.attending.review(run, proposal, self.definition)
            if verdict is not None and verdict.to is not None:
                verdict = replace(verdict, to=outcomes.packed(self, verdict.to))
                live = proposal.to.live
                if live is not None and verdict.to is not None and isinstance(proposal.to, Failed | TimedOut):
                    verdict.to.carry(live)
        else:
            verdict, by = None, ""
        decision = settle(run, proposal, verdict, by, self.session.epoch)
        if isinstance(decision, Question) and decision.option not in self.definition.options:
            raise PluginError(
                f"Rule {by!r} asks about the option {decision.option!r}, which {self.definition.name} does not have."
            )
        return decision

    def record(self, *entries: Entry) -> None:
        """Append entries to the run's log, ahead of durability."""
        run = self.run
        part = Part(run.id, self.session.root, run.seq - len(self.held), (*self.held, *entries))
        for entry in entries:
            run = self._evolve(run, entry)
        self.ticket = self.session.append(part, self.hold)
        self.run, self.held = run, ()

    def hold_back(self, entry: Entry) -> None:
        """Take an entry into the run that travels with the next one: a birth, with its start."""
        self.run, self.held = self._evolve(self.run, entry), (*self.held, entry)

    def _evolve(self, run: Run, entry: Entry) -> Run:
        run = apply(run, entry)
        if self.attending.recorders and isinstance(entry, Transition):
            self.untold.append((run, entry))
        return run

    def send(self) -> None:
        """Append what was held back."""
        if self.held:
            self.record()

    def show_outside(self) -> None:
        """Wait until this run's last entry is durable, where somebody outside of its flow is about to see it."""
        from .context import current_frame

        here = current_frame.get()
        if self.level == "lazy" or self.ticket is None or (here is not None and here.session is self.session):
            return
        self.ticket.wait()

    # --- caches and earlier attempts

    def _look_up(self, facts: Facts, at: float) -> Facts:
        if self.definition.owner.generates:
            return facts  # its items are not on record: it can only be led again
        parent = self.parent
        if parent is not None and parent.run.generation > parent.run.since and self._may_replay():
            source = parent.earlier(self)
            if source is not None and self._take(source):
                return replace(facts, hit=source)
        ask = self.attending.cache_key
        if ask is None:
            return facts
        if self.run.state is not None:
            self.log.show(self.run.state, self.run)
        flow = self.flow
        key = ask(self.run, self.definition, self.arguments, {} if flow is None else flow.arguments)
        if key is None:
            return facts
        if not isinstance(key, CacheKey):
            raise PluginError(f"A plugin's cache_key() returned {key!r}; it must return a CacheKey or None.")
        if key.key is None:
            return replace(facts, parts=key.parts, uncached=key.why)
        self.cache_key = key
        facts = replace(facts, key=key.key, parts=key.parts)
        if not key.refresh:
            self.log.log.settle_key(key.key)
            cell = self.log.log.cached(key.key, at)
            if cell is not None and self._take((cell.run, cell.seq)):
                return replace(facts, hit=(cell.run, cell.seq))
        return facts

    def _may_replay(self) -> bool:
        options = self.definition.options
        policy = options.get("cache_policy")
        return options.get("persist_result") is not False and getattr(policy, "replays", True)

    def _take(self, source: tuple[bytes, int]) -> bool:
        """Decode the result that a hit names; False where it cannot be decoded, so that the body runs."""
        data = self.log.recorded_data(*source)
        if not usable(data):
            return False
        try:
            self.hit = (data, self.log.unpack(data))
        except Exception:
            _log.exception("the cached result of %s cannot be decoded; the call is made", self.run.birth.run_name)
            return False
        return True

    def _cached(self, state: Cached) -> Cached:
        assert self.hit is not None
        data, value = self.hit
        small = len(data.data) <= INLINE_LIMIT
        state = replace(state, data=data if small else None)
        state.carry(value)
        return state

    def _store_under_key(self, to: Completed, at: float) -> Facts:
        assert self.cache_key is not None
        if not usable(to.data):
            return NO_FACTS
        after = self.cache_key.expiration
        return Facts(key=self.cache_key.key, expires=None if after is None else at + after)

    def earlier(self, child: Frame) -> tuple[bytes, int] | None:
        """The k-th recorded success, in the attempts before this one, of the k-th call like this child's."""
        with self.lock:
            if self._replay is None:
                self._replay = self._successes()
            waiting = self._replay.get(_likeness(child.run))
            return waiting.popleft() if waiting else None

    def _successes(self) -> dict[tuple[Any, ...], deque[tuple[bytes, int]]]:
        self.log.log.flush()
        newest: dict[tuple[Any, ...], tuple[int, deque[tuple[bytes, int]]]] = {}
        for run_id in self.log.log.children(self.run.id):
            run = self.log.load(run_id)
            spec, state = run.birth, run.state
            if not self.run.since <= spec.generation < self.run.generation or not isinstance(state, Completed | Cached):
                continue
            source = (run_id, run.seq) if isinstance(state, Completed) or state.source is None else state.source
            likeness = _likeness(run)
            generation, found = newest.get(likeness, (-1, deque[tuple[bytes, int]]()))
            if spec.generation > generation:
                newest[likeness] = (spec.generation, deque([source]))
            elif spec.generation == generation:
                found.append(source)
        return {likeness: found for likeness, (_, found) in newest.items()}

    # --- the body

    def begin_body(self) -> float:
        """
        Make ready for one call of the body: a new generation of children, a payload decoded anew.

        Returns:
            When the body begins, in seconds of the monotonic clock.
        """
        self._begin_counts()
        self.assets = None
        self.salt = self.run.generation
        self.thread = threading.get_ident()
        if self.definition.kind == "flow" and self.limit:
            self.deadline = time.monotonic() + self.limit
        payload = self.run.payload
        self.live_payload = NO_PAYLOAD if payload is None else self.log.unpack(payload)
        return time.monotonic()

    def place(self, key: str, name: str, count: int = 1) -> tuple[int, int]:
        """Number a call: which occurrence of its key it is, and the number of the first of its run names."""
        with self.lock:
            index = self._counts.get(key, 0)
            self._counts[key] = index + 1
            number = self._names.get(name, 0)
            self._names[name] = number + count
            return index, number

    def cut(self, why: str = "the run that called it ran into its timeout") -> None:
        """
        End this run and what it has called, although a thread may still be in its body: its time is up.

        What comes of the body after this is dropped.
        """
        for child in list(self.active):
            child.cut(why)
        with self.turn:
            if not self.run.final and not self.cut_off:
                state = Failed(why, "cancelled")
                state.carry(UpstreamFailed(state.message))
                self._settled(Propose(state))
            self.cut_off = True

    def checkpoint(self) -> None:
        """Called at each call into the engine: stop a body whose run has ended."""
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

    def works_for(self, other: Frame) -> bool:
        """Whether this code is itself a submitted call of the runner that the other one waits in."""
        flow = other.flow
        return self is not flow and flow is not None and self.flow is flow and threading.get_ident() != flow.thread

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

    # --- arguments that are runs

    def waits_for(self) -> list[Future[Any]]:
        """The futures among the arguments, and those that the call only waits for."""
        if not self.waits:
            return []
        runs = each_run((self.args, self.kwargs, self.wait_for))
        return [found.run for found in runs if isinstance(found.run, Future) and found.run.frame is not self]

    def resolve(self) -> Failed | None:
        """
        Put results in the place of futures and states, now that all have ended.

        Returns:
            What stands in the way of the call, if anything does.
        """
        if not self.waits:
            return None
        for found in each_run((self.args, self.kwargs, self.wait_for)):
            if isinstance(found.run, Future):
                if found.run.frame is self:
                    return outcomes.failed(self, ValueError(self._depends_on_itself()))
                found.run.look()
            if not found.tolerated():
                return outcomes.failed(self, self._upstream_failed(found), "upstream")
        authored = self.definition.owner
        try:
            args, kwargs = resolved(self.args, self._result_of), resolved(self.kwargs, self._result_of)
            self.args, self.kwargs = self.log.validated(authored, args, kwargs)
        except ParameterTypeError as error:
            return outcomes.failed(self, error, "validation")
        self.arguments = authored.binder(self.args, self.kwargs)
        name = name_run(self)
        if isinstance(name, Failed):
            return name
        self.name = name
        return None

    def _depends_on_itself(self) -> str:
        return (
            f"{self.run.birth.run_name} depends on itself: its own future was put into its arguments after it was"
            " submitted, and waiting for it would be a deadlock. Hand over a copy of what you go on to change."
        )

    def _upstream_failed(self, found: Found) -> UpstreamFailed:
        state = found.state
        cause = state.result(raise_on_failure=False) if state.is_failed() else None
        name = found.run.frame.run.name if isinstance(found.run, Future) else getattr(state, "name", state.kind)
        error = UpstreamFailed(f"{self.run.birth.run_name} was not called: {name} ended as {state}.")
        error.__cause__ = cause if isinstance(cause, BaseException) else None
        return error

    def _result_of(self, found: Found) -> Any:
        return found.state.result(raise_on_failure=not found.lenient)

    # --- children

    def took(self, future: Future[Any]) -> None:
        """A child was submitted: the flow ends only after it."""
        with self.lock:
            self.open.add(future)
        future.add_done_callback(self._child_done)

    def _child_done(self, future: Future[Any]) -> None:
        with self.lock:
            self.open.discard(future)
            state = future.frame.run.state
            if state is None or not state.is_completed():
                self.failures.append(future)

    def count(self, child: Frame) -> None:
        """A child has come to rest: it counts in the flow's message, and is ended with the flow if it has not."""
        state = child.run.state
        with self.lock:
            self.total += 1
            if state is not None and state.is_completed():
                self.completed += 1
            if state is None or not state.final:
                self.resting.append(child)

    def suspended(self) -> list[Any]:
        """The generators that this body has called and nobody has led to their end."""
        found = [None if child.generator is None else child.generator() for child in list(self.active)]
        return [generator for generator in found if generator is not None]

    def take_back(self, *, ended: bool) -> None:
        """
        Take back the submitted calls that have not begun.

        Args:
            ended: The run ends with its body: they end with it, Failed and cancelled. Otherwise an error of the
                engine leaves the run open, and them too, for whoever goes on with it.
        """
        self.deadline = None
        with self.lock:
            waiting = list(self.open)
        for future in waiting:
            if future.withdraw():
                child = future.frame
                if not ended:
                    future.settle(
                        UpstreamFailed("the run that submitted this call was left open before the call had begun")
                    )
                    continue
                child.give_up("cancelled", "the flow ended before this call had begun")
                state = child.run.state
                assert state is not None
                future.settle(state)
                self.count(child)

    def end_resting(self) -> None:
        """End the children that a rule has stopped on their way."""
        for child in self.resting:
            ruling = child.run.ruling
            try:
                if ruling is None:
                    child.give_up("cancelled", "its caller ended before it")
                else:
                    child.give_up("refused", f"refused by {ruling.by}: {ruling.why}; its caller ended")
            except outcomes.OURS:
                _log.exception("run %s could not be ended with its caller and stays open", child.run.birth.run_name)

    def give_up(self, cause: str, message: str) -> None:
        """End a run that goes no further. A rule may object; then it stays as it is."""
        if self.run.final:
            return
        state = Failed(message, cause)
        state.carry(Refused(message) if cause == "refused" else UpstreamFailed(message))
        self.propose(Propose(state))


def _likeness(run: Run) -> tuple[Any, ...]:
    """What makes two calls the same work: the task, its code, its inputs."""
    spec = run.birth
    return (spec.key, spec.code, *((i.name, i.digest) for i in spec.inputs))

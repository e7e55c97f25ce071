"""
Code replay: the code of today is led through a run that is on record, by the engine itself, and compared with the record.

Births, courses, interpreters and futures are those of every run. Two things differ. Every call is answered from the record
instead of being made; and what a body comes to is not judged by rules but held against what is recorded, which then counts,
so that a difference is found and the rest is still compared. Nothing is appended: the log is one that cannot be written to.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec.structs import replace

from ..digests import place_of
from ..divergences import Replay, Upgrade
from ..errors import ParameterBindError, PluperfectError, SideEffect
from ..histories import RecordedRun
from ..hooks import Log, Runner
from ..manager import Attending
from ..states import Completed, Failed, Running, State
from ..strict import Watch, strict
from ..transitions import Run
from .accounts import Account, Call, Child
from .bodies import finish_awaitable
from .context import current_frame, current_tags
from .engine import begin, drive_async
from .frames import Frame
from .logs import OpenLog
from .names import call_key
from .resuming import flow_of, load_flow, parameters_of
from .sessions import Session
from .signals import RecordEnds
from .virtual import RecordedTime, VirtualLoop

if TYPE_CHECKING:
    from ..course import Propose
    from ..rules import Question
    from ..values import Spec
    from .definitions import Authored
    from .flows import Flow
    from .logs import Terms

__all__ = ["Script", "check", "replay", "replays"]

_WRITING: Final = frozenset({"append", "claim", "release", "admit", "redact", "rebuild", "close"})


class _Reading:
    """A log of which only the reading half can be reached."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        if name in _WRITING:
            raise PluperfectError(f"A replay reads a log and writes nothing into it; something wanted to {name}.")
        return getattr(self._log, name)


class ReplayLog(OpenLog):
    """The log that the code finds around it while it is replayed: it can be read, and answers for every call."""

    def __init__(self, source: OpenLog, clock: RecordedTime) -> None:
        super().__init__(
            source.hooks, source.uri, clock, trust_imported=source.trust_imported, log=cast("Log", _Reading(source.log))
        )
        self.source = source

    def terms(self, authored: Authored) -> Terms:
        """What the log itself makes of it. Rules are not asked and recorders not told: the record says what came of it."""
        terms = self.source.terms(authored)
        return replace(terms, attending=Attending((), terms.attending.entering, (), None))

    def close(self) -> None:
        """The log itself stays open: it is another's."""
        self.closed: bool = True


class Led(Frame):
    """A run whose body is called again; what it proposes is held against the record, and what is on record comes of it."""

    account: Account

    def begin_body(self) -> float:
        """Make ready for one call of the body, which has all the time it wants."""
        began = super().begin_body()
        self.limit: float = 0.0
        self.deadline: float | None = None
        self.runner: Runner | None = Here()
        self.account.begin(self.run.generation)
        return began

    @property
    def cues(self) -> Any:
        """The recorded calls of this body in their order."""
        return self.account

    @property
    def turns(self) -> Any:
        """The same: here a body's answers always come in turn."""
        return self.account

    def _settled(self, effect: Propose) -> Run | Question:
        to = effect.to
        run = self.account.begun() if type(to) is Running else self.account.concluded(to)
        state = run.state
        assert state is not None
        self.log.show(state, run)
        if (
            isinstance(state, Completed)
            and isinstance(to, Completed)
            and to.live is not None
            and not usable_data(state)
        ):
            state.carry(to.live)
        self.run = run
        return run

    def cut(self, why: str = "") -> None:
        """Its caller has ended."""
        for child in list(self.children.active):
            child.cut(why)
        self.session.watched = True
        self.cut_off = True


def usable_data(state: Completed) -> bool:
    """Whether a result stands in the state."""
    from ..states import usable

    return usable(state.data)


class Here:
    """A runner that makes every call at once: all are answered from the record."""

    remote = False

    def submit(self, call: Callable[[], None]) -> None:
        """Make it."""
        call()

    def close(self) -> None:
        """Nothing is left."""


Make = Callable[..., Any]


class Script:
    """
    The record of a tree, asked for an answer to every call that the code makes.

    Attributes:
        log: What the code finds around it.
        clock: The time of the record.
        bodies: Whether the bodies of tasks are called too.
        patches: What was asked for by `pluperfect.patched`, and the answers.
        ended: The runs that were led, in the order in which they ended.
        put_off: Async tasks that were answered from the record, and whose bodies are called after all else.
    """

    def __init__(self, source: OpenLog, root: bytes, *, bodies: bool) -> None:
        self._source = source
        self._root = root
        self.bodies = bodies
        born = source.load(root).born
        self.clock: RecordedTime = RecordedTime(born)
        self.log: ReplayLog = ReplayLog(source, self.clock)
        self.log.script = self
        self.watch: Watch | None = None
        self.patches: dict[str, bool] = {}
        self.ended: list[Account] = []
        self.put_off: list[Led] = []
        self._accounts: dict[bytes, Account] = {}
        self._blamed = 0
        self._moved: tuple[str, str] | None = None  # a module, and the place where it was recorded
        self._begun = False  # whether the root was called

    def rest(self) -> None:
        """
        Let go of what was read.

        Its states lead to the log, the log leads here, and a state of few fields is none that the garbage collector looks into:
        it would find no end of this.
        """
        self._accounts.clear()
        self.ended.clear()
        self.put_off.clear()

    def account(self, run: bytes) -> Account:
        """The record of one run of the tree, and what its code has done so far."""
        found = self._accounts.get(run)
        if found is None:
            found = self._accounts[run] = Account(self, self._source, run)
        return found

    def called(
        self,
        parent: Frame | None,
        run_id: bytes,
        authored: Authored,
        spec_of: Callable[[Session, bytes], Spec],
        make: Make,
    ) -> Frame:
        """The frame of a call: answered from the record, led again beside it, or one at which the record ends."""
        if parent is None:
            return self._called_root(run_id, authored, spec_of, make)
        if not isinstance(parent, Led):
            raise RecordEnds("unrecorded", "a body was called that is none of this replay")
        account = parent.account
        spec = self._as_recorded(spec_of(parent.session, run_id), authored)
        found = account.find(spec, alike=parent.definition.owner.is_async)
        call = Call(spec, found, _lane(), len(account.answered))
        if found is None:
            account.note(call)
            return self._ending(make, parent, run_id, spec, "unrecorded", "the code makes a call that is not on record")
        self.clock.move_to(found.run.born)
        if found.begun and not found.differs(spec) and (spec.kind == "flow" or self.bodies):
            frame: Frame = make(parent.session, found.newborn(), fresh=False, kind=Led)
            assert isinstance(frame, Led)
            self._give_account(frame, found.run.id)
            if spec.kind == "flow" or not authored.is_async or self._unanswerable(found, generates=authored.generates):
                account.note(call, frame)
                return frame
            self.put_off.append(frame)  # its body would take time, and come in between what is recorded
        why = self._unanswerable(found, generates=authored.generates)
        if why is not None:
            frame = self._ending(make, parent, found.run.id, spec, *why)
        else:
            frame = make(parent.session, found.run, fresh=False)
        account.note(call, frame)
        return frame

    def takes_for(self, flow: Authored, entry: str) -> None:
        """
        Note where the flow is now and where it was when it was recorded.

        A script is another module to Python when it is imported, or when a module is run. It is the same code: what it defines
        counts as defined where it was then.
        """
        now, then = place_of(flow.fn.__module__), entry.rpartition(":")[0]
        then = place_of("__main__" if then.endswith(".py") else then)
        if now != then and "script" in (now, then):
            self._moved = (flow.fn.__module__, then)

    def _as_recorded(self, spec: Spec, authored: Authored) -> Spec:
        if self._moved is None or getattr(authored.fn, "__module__", None) != self._moved[0]:
            return spec
        function = f"{self._moved[1]}.{getattr(authored.fn, '__qualname__', '')}"
        return replace(spec, key=call_key(authored.name, function, tuple(sorted(authored.tags))))

    def _give_account(self, frame: Led, run: bytes) -> None:
        frame.account = self.account(run)
        if frame.shared is not None:
            frame.account.share(frame.shared.earlier())

    def _called_root(
        self, run_id: bytes, authored: Authored, spec_of: Callable[[Session, bytes], Spec], make: Make
    ) -> Frame:
        session = Session(self.log, self._root, 0)
        if run_id != self._root or self._begun:
            # Code that runs outside of the body, in a thread of its own: its calls belong to no run here.
            spec = spec_of(session, run_id)
            return self._ending(make, None, run_id, spec, "unrecorded", "a call outside of the flow's body", session)
        self._begun = True
        account = self.account(run_id)
        frame: Frame = make(session, account.newborn, fresh=False, kind=Led)
        assert isinstance(frame, Led)
        self._give_account(frame, run_id)
        account.compare_root(self._as_recorded(spec_of(session, run_id), authored), frame.definition.owner)
        return frame

    def _unanswerable(self, found: Child, *, generates: bool) -> tuple[str, str] | None:
        """Why a recorded call cannot be answered; None where it can."""
        run = found.run
        state = run.state
        name = run.birth.run_name
        if state is None or not state.final:
            return "open", f"{name} has no end on record"
        self.log.show(state, run)
        if not state.is_completed():
            return None
        if generates:
            return (
                "unanswered",
                f"{name} is a generator, and what it has yielded is not on record; --bodies leads it again",
            )
        try:
            state.carry(state.result())
        except Exception as error:
            return "unanswered", f"the result of {name} cannot be had: {error}"
        return None

    def _ending(
        self,
        make: Make,
        parent: Frame | None,
        run_id: bytes,
        spec: Spec,
        kind: str,
        why: str,
        session: Session | None = None,
    ) -> Frame:
        """A call whose caller goes no further once it looks at what came of it."""
        if session is None:
            assert parent is not None
            session = parent.session
        state = Failed(why, "crashed")
        state.carry(RecordEnds(kind, why))
        return make(session, Run(run_id, 1, state, spec, born=self.clock.now(), updated=self.clock.now()), fresh=False)

    def describe(self, packed: Any) -> str:
        """A recorded value as people read it."""
        try:
            text = repr(self.log.unpack(packed))
        except Exception:
            text = self.log.describe(packed)
        return text if len(text) <= 300 else f"{text[:297]}..."

    def offences(self) -> list[SideEffect]:
        """What strict mode has stopped since this was last asked."""
        if self.watch is None:
            return []
        found = self.watch.offences[self._blamed :]
        self._blamed += len(found)
        return found


def _lane() -> int:
    """What tells the strands of code apart that go on side by side: the task of an event loop, or the thread."""
    if "asyncio" in sys.modules:
        import asyncio

        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is not None:
            return id(task)
    return threading.get_ident()


# --- whole replays ----------------------------------------------------------------------------------------


def replay(
    log: OpenLog, recorded: RecordedRun, flow: Any = None, *, bodies: bool = False, strict_mode: bool = True
) -> Replay:
    """Lead the code of a root flow run again beside its record; see `OpenLog.replay`."""
    log.flush()
    run = recorded.folded
    spec = run.birth
    if spec.kind != "flow" or spec.parent is not None:
        above = f" It belongs to {_root(recorded)!r}: replay that one." if spec.parent is not None else ""
        raise PluperfectError(
            f"{recorded!r} is no flow that was called from outside, so it cannot be replayed by itself.{above}"
        )
    flow = flow_of(
        log,
        recorded,
        flow,
        "its history names the module to load. Name the flow yourself (--flow module:flow), or, if you trust whoever made the"
        " file, open the log with trust_imported=True (--trust-imported).",
    )
    script = Script(log, run.id, bodies=bodies)
    script.takes_for(flow, spec.entry)
    parameters = parameters_of(log, recorded, "replayed")
    guard = strict("a replay") if strict_mode else nullcontext()
    try:
        with guard as watch, script.log:
            script.watch = watch
            copy_context().run(_lead, script, flow, run.id, parameters)
        return _told(script, recorded, run)
    finally:
        script.rest()


def replays(
    log: OpenLog,
    *,
    state: Any = None,
    name: str | None = None,
    since: float | datetime | None = None,
    flow: Any = None,
    bodies: bool = False,
    strict_mode: bool = True,
) -> Iterator[Replay]:
    """Replay many runs; see `OpenLog.replays`."""
    flow = load_flow(flow) if isinstance(flow, str) else getattr(flow, "__pluperfect_flow__", flow)
    wanted = name if flow is None else flow.name
    found = log.runs(state=state, name=wanted, roots=True)
    return _each(log, found, _moment(since), flow, bodies=bodies, strict_mode=strict_mode)


def _each(
    log: OpenLog, found: list[RecordedRun], since: float, flow: Any, *, bodies: bool, strict_mode: bool
) -> Iterator[Replay]:
    for recorded in found:
        run = recorded.folded
        if run.birth.kind != "flow" or run.born < since:
            continue
        try:
            yield replay(log, recorded, flow, bodies=bodies, strict_mode=strict_mode)
        except PluperfectError as error:
            yield _unloadable(recorded, str(error))


def _moment(since: float | datetime | None) -> float:
    if since is None:
        return 0.0
    if isinstance(since, datetime):
        return (since if since.tzinfo is not None else since.replace(tzinfo=UTC)).timestamp()
    return float(since)


def check(log: OpenLog, flow: Any, *, since: float | datetime | None = None) -> Upgrade:
    """Replay the runs of a flow under its code of today; see `OpenLog.check`."""
    flow = load_flow(flow) if isinstance(flow, str) else getattr(flow, "__pluperfect_flow__", flow)
    if getattr(flow, "kind", None) != "flow":
        raise PluperfectError(f"A check needs a flow, not {flow!r}.")
    found = log.runs(name=flow.name, roots=True)
    under_way = frozenset(run.id for run in found if not run.folded.final)
    moment = _moment(since)
    wanted = [run for run in found if run.id in under_way or run.folded.born >= moment]
    made = tuple(_each(log, wanted, 0.0, flow, bodies=False, strict_mode=True))
    return Upgrade(flow.name, made, under_way)


def _root(recorded: RecordedRun) -> RecordedRun:
    while recorded.parent is not None:
        recorded = recorded.parent
    return recorded


def _unloadable(recorded: RecordedRun, why: str) -> Replay:
    """The replay of a run whose code could not be had."""
    run = recorded.folded
    assert run.state is not None
    return Replay(recorded.id, run.birth.name, run.birth.run_name, _label(run.state), why=why)


def _label(state: State) -> str:
    return str(getattr(state, "name", state.kind))


def _told(script: Script, recorded: RecordedRun, run: Run) -> Replay:
    assert run.state is not None
    sections = tuple(account.section() for account in script.ended)
    return Replay(recorded.id, run.birth.name, run.birth.run_name, _label(run.state), sections, dict(script.patches))


def _lead(script: Script, flow: Flow[..., Any], run: bytes, parameters: dict[str, Any]) -> None:
    """Call the flow; what comes of it stands in the accounts."""
    current_frame.set(None)
    current_tags.set(())
    try:
        made = flow.resume(run, parameters)
        if flow.is_async:
            finish_awaitable(made, lambda: VirtualLoop(script.clock))
    except ParameterBindError as error:
        script.account(run).cannot_bind(error)
    except RecordEnds as end:
        script.account(run).stopped(end)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # how the run ended is on record
        if not script.ended:
            script.account(run).failed(error)
    finally:
        account = script.account(run)
        if account not in script.ended:
            account.close()
    for frame in script.put_off:  # which may put off others
        finish_awaitable(_called_late(frame), lambda: VirtualLoop(script.clock))


async def _called_late(frame: Led) -> None:
    token = current_frame.set(frame.parent)
    try:
        with suppress(RecordEnds):
            await drive_async(begin(frame), frame)
    finally:
        current_frame.reset(token)

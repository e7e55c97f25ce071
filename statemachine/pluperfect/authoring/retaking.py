"""
Task replay: the body of one recorded task run is called again, with what it was given then.

It runs as every body does, under its context, with its attempt, iteration and payload, in a log in memory that holds copies of
the records around it and is thrown away: what the body calls is answered from there, and nothing reaches the log it came from.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from msgspec import Struct

from ..errors import PluperfectError, UntrustedValue
from ..histories import RecordedRun, id_text
from ..hooks import Part
from ..states import ABSENT, RESULT, Cached, Completed, Failed, Looped, Running, State, TimedOut, usable
from ..strict import strict
from ..transitions import Run, Transition, fold
from .bodies import await_body, call_body, finish_awaitable, iterate_body, iterate_body_async
from .context import current_frame, current_log
from .definitions import Authored
from .frames import Frame
from .logs import OpenLog
from .resuming import find_flow, load_flow
from .sessions import Session
from .tasks import Task

if TYPE_CHECKING:
    from ..values import Input

__all__ = ["Retaken", "Wanted", "retake"]


class Wanted(NamedTuple):
    """What is to be called again, and how."""

    attempt: int | None
    iteration: int | None
    inputs: Mapping[str, Any]
    task: Any
    flow: Any
    strict: bool
    debug: bool


class Retaken(Struct, frozen=True):
    """
    One attempt of a task, called again.

    Attributes:
        run: The recorded run.
        attempt: The attempt, from 1 within its iteration.
        iteration: The iteration, from 1.
        inputs: What the body was given, by parameter.
        recorded: What the attempt came to then: before a rule made a retry of it. None where it has no end on record.
        now: What it came to now.
    """

    run: RecordedRun
    attempt: int
    iteration: int
    inputs: dict[str, Any]
    recorded: State | None
    now: State

    @property
    def same(self) -> bool:
        """Whether it came to the same, as far as that is on record: the same result, payload, or exception."""
        then, now = self.recorded, self.now
        if then is None or type(then) is not type(now):
            return False
        if isinstance(then, Completed) and isinstance(now, Completed):
            return then.data == now.data
        if isinstance(then, Looped) and isinstance(now, Looped):
            return (then.count, then.payload) == (now.count, now.payload)
        if isinstance(then, Failed | TimedOut) and isinstance(now, Failed | TimedOut):
            one, other = then.error, now.error
            if one is None or other is None:
                return one is other and then.message == now.message
            return (one.type, one.message) == (other.type, other.message)
        return True


def retake(log: OpenLog, recorded: RecordedRun, wanted: Wanted) -> Retaken:
    """Call the body of a task run again; see `OpenLog.replay_task`."""
    log.flush()
    run = recorded.folded
    if run.birth.kind != "task":
        raise PluperfectError(
            f"{recorded!r} is a flow's: replay it with run.replay(), or name a call of it, such as fetch:2, whose body is to be"
            " called again."
        )
    entries = list(log.entries(run.id))
    began = _start(recorded, entries, wanted)
    then = fold(run.id, entries[: began + 1])
    end = next((entry for entry in entries[began + 1 :] if isinstance(entry, Transition)), None)
    ended = None if end is None else end.asked or end.to
    if ended is not None:
        log.show(ended, fold(run.id, entries))
    root = RecordedRun(log, run.birth.root)
    flow = _flow(log, root, wanted)
    task = _task(wanted.task, run, flow)
    given = _inputs(log, recorded, wanted.inputs)
    authored = _debugged(task) if wanted.debug else task
    now = _called(log, then, authored, given, flow, wanted)
    return Retaken(recorded, then.attempt, then.loop_count, given, ended, now)


def _start(recorded: RecordedRun, entries: list[Any], wanted: Wanted) -> int:
    """Where among the entries the attempt begins."""
    starts = [
        (number, entry.to) for number, entry in enumerate(entries) if isinstance(getattr(entry, "to", None), Running)
    ]
    fitting = [
        number
        for number, state in starts
        if wanted.attempt in (None, state.attempt) and wanted.iteration in (None, state.loop_count)
    ]
    if fitting:
        return fitting[-1]
    if not starts:
        state = recorded.state
        source = (
            f", from run {id_text(state.source[0])}: replay that one"
            if isinstance(state, Cached) and state.source
            else ""
        )
        raise LookupError(f"The body of {recorded!r} was never called{source}.")
    had = ", ".join(
        f"attempt {state.attempt}" + (f" of iteration {state.loop_count}" if starts[-1][1].loop_count > 1 else "")
        for _, state in starts
    )
    asked = " of ".join(
        f"{word} {number}"
        for word, number in (("attempt", wanted.attempt), ("iteration", wanted.iteration))
        if number is not None
    )
    raise LookupError(f"{recorded!r} has no {asked}; it had {had}.")


# --- the code -------------------------------------------------------------------------------------------


def _flow(log: OpenLog, root: RecordedRun, wanted: Wanted) -> Any:
    """The flow at the top; None where it is not needed to find the task, and cannot be had."""
    if wanted.flow is not None:
        given = load_flow(wanted.flow) if isinstance(wanted.flow, str) else wanted.flow
        return getattr(given, "__pluperfect_flow__", given)
    if wanted.task is not None:
        return None
    spec = root.folded.birth
    if not log.trusts(root.folded.id):
        raise UntrustedValue(
            f"{root!r} was imported, and its history names the module to load. Hand the task in as task=..., or, if you trust"
            " whoever made the file, open the log with trust_imported=True."
        )
    return find_flow(spec.entry, spec.name) if spec.kind == "flow" else None


def _task(given: Any, run: Run, flow: Any) -> Task[..., Any]:
    spec = run.birth
    if given is not None:
        found = getattr(given, "authored", given)  # one that was taken from an object
        if not isinstance(found, Task):
            raise TypeError(f"task is the task whose run is called again, not {given!r}.")
        return found  # type: ignore[reportUnknownVariableType]
    home = sys.modules.get(str(getattr(flow, "__module__", "")))
    for module in [home, *list(sys.modules.values())]:
        for value in list(vars(module).values()) if module is not None else ():
            if isinstance(value, Task):
                task = cast("Task[..., Any]", value)
                if task.key == spec.key or (
                    task.name != spec.name and task.with_options(name=spec.name).key == spec.key
                ):
                    return task
    raise PluperfectError(
        f"The task {spec.name!r} is not among the names of the flow's module, nor of those that are imported. Hand it in as"
        " task=..., or its flow as flow=... (--flow module:flow)."
    )


def _inputs(log: OpenLog, recorded: RecordedRun, instead: Mapping[str, Any]) -> dict[str, Any]:
    listed = recorded.folded.birth.inputs
    unknown = sorted(set(instead) - {given.name for given in listed})
    if unknown:
        names = ", ".join(given.name for given in listed) or "none"
        raise PluperfectError(f"{recorded!r} has no input {', '.join(unknown)}; it has {names}.")
    return {
        given.name: instead[given.name] if given.name in instead else _input(log, recorded, given) for given in listed
    }


def _input(log: OpenLog, recorded: RecordedRun, given: Input) -> Any:
    packed = given.value
    if not usable(packed):
        why = packed.data.decode() if getattr(packed, "code", None) == ABSENT else "too large, or made of other calls"
        raise PluperfectError(
            f"{recorded!r} cannot be called again from its record: its input {given.name!r} is not there ({why}). Hand it in:"
            f" inputs={{{given.name!r}: ...}} (--input {given.name}=JSON)."
        )
    value = log.unpack(packed)
    if packed.code == RESULT and isinstance(value, State):
        return value.result(raise_on_failure=False)
    return value


# --- the call -------------------------------------------------------------------------------------------


def _called(log: OpenLog, run: Run, task: Task[..., Any], given: dict[str, Any], flow: Any, wanted: Wanted) -> State:
    """What the body comes to."""
    with OpenLog(log.hooks, "memory:", log.clock, trust_imported=log.trust_imported) as scratch:
        _copy(log, scratch, run)
        above = _above(scratch, run, flow)
        args, kwargs = scratch.terms(task).validated(*task.binder.arguments(given))
        frame = Frame(
            Session(scratch, run.birth.root, 1),
            scratch.terms(task),
            run,
            parent=above,
            args=args,
            kwargs=kwargs,
            arguments=given,
            fresh=False,
        )
        if wanted.debug:
            frame.limit = 0.0  # whoever looks takes the time it takes
        guard = (
            strict("a replay of a task", "With --no-strict (strict=False) it may act again.")
            if wanted.strict
            else nullcontext()
        )

        def call() -> State:
            current_log.set(scratch)
            current_frame.set(above)
            return _outcome(frame)

        with guard as watch:
            outcome = copy_context().run(call)
        if watch is not None and watch.offences:
            raise watch.offences[0]
        scratch.show(outcome, run)
        return outcome


def _outcome(frame: Frame) -> State:
    owner = frame.definition.owner
    if owner.is_async:
        return finish_awaitable(_awaited(frame))
    if not owner.generates:
        return call_body(frame)
    for _ in iterate_body(frame):
        pass
    assert frame.outcome is not None
    return frame.outcome


async def _awaited(frame: Frame) -> State:
    if not frame.definition.owner.generates:
        return await await_body(frame)
    async for _ in iterate_body_async(frame):
        pass
    assert frame.outcome is not None
    return frame.outcome


def _above(scratch: OpenLog, run: Run, flow: Any) -> Frame | None:
    """The flow around the task, so that the body finds it there; its own body is not called."""
    if flow is None:
        return None
    root = run.birth.root
    above = scratch.load(root)
    given = {one.name: scratch.unpack(one.value) for one in above.birth.inputs if usable(one.value)}
    return Frame(
        Session(scratch, root, 1),
        scratch.terms(cast("Authored", flow)),
        above,
        parent=None,
        args=(),
        kwargs=given,
        arguments=given,
        fresh=False,
    )


def _copy(log: OpenLog, scratch: OpenLog, run: Run) -> None:
    """What the body may ask for: the runs above it, and those that it called."""
    root = run.birth.root
    wanted: list[bytes] = []
    above = run.birth.parent
    while above is not None:
        wanted.insert(0, above)
        above = log.load(above).birth.parent
    waiting = [run.id]
    while waiting:
        one = waiting.pop()
        wanted.append(one)
        waiting += log.log.children(one)
    for one in wanted:
        entries = tuple(log.entries(one))
        scratch.log.append((Part(one, root, 0, entries),), epoch=max(entry.epoch for entry in entries))
    scratch.log.flush()


# --- under the debugger ---------------------------------------------------------------------------------


def _debugged(task: Task[..., Any]) -> Task[..., Any]:
    """The same task, whose body is called under pdb."""
    import bdb
    import pdb  # noqa: T100 - that is what is asked for

    fn = task.fn
    code = getattr(fn, "__code__", None)

    class Debugger(pdb.Pdb):
        """It stops at the first line of the body, not before."""

        begun = False

        def user_line(self, frame: Any) -> None:
            if not self.begun and frame.f_code is not code:
                return
            self.begun = True
            super().user_line(frame)

        def user_call(self, frame: Any, argument_list: None) -> None:
            if self.begun:
                super().user_call(frame, argument_list)

        def user_return(self, frame: Any, return_value: Any) -> None:
            if self.begun:
                super().user_return(frame, return_value)

        def user_exception(self, frame: Any, exc_info: Any) -> None:
            if self.begun:
                super().user_exception(frame, exc_info)

    def look(error: Exception) -> None:
        """Where the body has raised."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code is not code and trace.tb_next is not None:
            trace = trace.tb_next
        if isinstance(error, bdb.BdbQuit):
            return
        print(f"{type(error).__name__}: {error}")
        debugger = pdb.Pdb()
        debugger.reset()
        debugger.interaction(None, trace)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        debugger = Debugger()
        debugger.reset()
        sys.settrace(debugger.trace_dispatch)
        try:
            return await fn(*args, **kwargs)
        except Exception as error:
            sys.settrace(None)
            look(error)
            raise
        finally:
            sys.settrace(None)

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return Debugger().runcall(fn, *args, **kwargs)
        except Exception as error:
            look(error)
            raise

    copy = task.with_options()
    object.__setattr__(copy, "fn", awaited if task.is_async else called)
    return copy

"""
Runs from birth to end: the two interpreters of a run's course, and the calls that begin them.

The sync and the async interpreter perform the same effects and decide nothing; they differ in how they
wait. Whatever a run needs to know or record is the Frame's.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from contextvars import Token, copy_context
from typing import TYPE_CHECKING, Any

from ..course import Ask, Call, Course, Durable, Propose, Resolve, course
from ..errors import MissingContextError
from ..manager import grumble
from ..states import State
from ..transitions import Run, Transition
from . import outcomes
from .births import born, refusal
from .context import current_frame
from .deadlines import call_within
from .frames import Frame
from .futures import Future
from .names import keyed_id

if TYPE_CHECKING:
    from .definitions import Authored

__all__ = ["call", "call_async", "submit"]

# --- the two interpreters -------------------------------------------------------------------------------


def drive(steps: Course, frame: Frame) -> Run:
    """Lead a run through its course, blocking where it has to wait."""
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(effect, Propose):
            answer = frame.propose(effect)
            for waiting in tell(frame, answer):
                finish_awaitable(waiting)
        elif isinstance(effect, Call):
            answer = _call_body(frame)
        elif isinstance(effect, Durable):
            answer = None if frame.ticket is None else frame.ticket.wait()
        elif isinstance(effect, Resolve):
            for future in frame.waits_for():
                future.wait()
            answer = frame.resolve(frame.definition.owner.binder)
        elif isinstance(effect, Ask):
            answer = _ask(frame, effect)
        else:
            frame.send()
            answer = frame.log.clock.sleep_until(effect.until)


async def drive_async(steps: Course, frame: Frame) -> Run:
    """Lead a run through its course, awaiting where it has to wait."""
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(effect, Propose):
            answer = frame.propose(effect)
            if frame.untold and frame.ticket is not None and not frame.ticket.done:
                await _committed(frame.ticket)
            for waiting in tell(frame, answer):
                await waiting
        elif isinstance(effect, Call):
            answer = await _await_body(frame)
        elif isinstance(effect, Durable):
            answer = None if frame.ticket is None or frame.ticket.done else await _committed(frame.ticket)
        elif isinstance(effect, Resolve):
            for future in frame.waits_for():
                await _ended(future)
            answer = frame.resolve(frame.definition.owner.binder)
        elif isinstance(effect, Ask):
            answer = await _ask_async(frame, effect)
        else:
            frame.send()
            answer = await frame.log.clock.wait_until(effect.until)


def tell(frame: Frame, answer: Any) -> list[Any]:
    """Tell the recorders what was recorded, once it is durable. What they want awaited is given back."""
    if not frame.untold or not isinstance(answer, Run):
        return []
    if frame.ticket is not None:
        frame.ticket.wait()
    told, frame.untold = frame.untold, []
    waiting: list[Any] = []
    for run, transition in told:
        transition.to.read_with(frame.log.unpack)
        answers = frame.attending.notify(run, transition, frame.definition)
        waiting.extend(_guarded(awaitable, transition) for awaitable in answers)
    return waiting


async def _guarded(waiting: Any, transition: Transition) -> None:
    try:
        await waiting
    except Exception:
        grumble("recorded", transition)


def finish_awaitable(waiting: Any) -> Any:
    """Await this to its end from code that is not async, whether or not a loop runs in this thread."""
    import asyncio

    async def whole() -> Any:
        return await waiting

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:  # a sync task called inline by an async flow
        return pool.submit(copy_context().run, asyncio.run, whole()).result()


def _ask(frame: Frame, effect: Ask) -> Any:
    try:
        answer = frame.question(effect.option, effect.about)
        if hasattr(answer, "__await__"):
            answer = finish_awaitable(answer)
    except Exception as error:
        return frame.unanswered(effect.option, error)
    return frame.answered(effect.option, answer)


async def _ask_async(frame: Frame, effect: Ask) -> Any:
    try:
        answer = frame.question(effect.option, effect.about)
        if hasattr(answer, "__await__"):
            answer = await answer
    except Exception as error:
        return frame.unanswered(effect.option, error)
    return frame.answered(effect.option, answer)


async def _committed(ticket: Any) -> None:
    """Await a commit without blocking the event loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell_loop() -> None:
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    ticket.notify(tell_loop)
    await done
    ticket.wait()


async def _ended(future: Future[Any]) -> None:
    """Await the end of a call, whatever it is."""
    if not future.done():
        try:
            await future
        except Exception:
            if not future.done():
                raise


def _call_body(frame: Frame) -> State:
    began = frame.begin_body()
    authored = frame.definition.owner
    token = current_frame.set(frame)
    ended = False
    try:
        with ExitStack() as stack:
            for manager in frame.attending.contexts(frame.run, frame.definition):
                stack.enter_context(manager)
            if frame.limit and authored.kind == "task":
                value = call_within(frame.limit, lambda: authored.fn(*frame.args, **frame.kwargs), frame.abandoned)
            else:
                value = authored.fn(*frame.args, **frame.kwargs)
            for future in _left_open(frame):
                future.wait()
            frame.checkpoint()
        outcome = outcomes.returned(frame, value)
        ended = True
    except BaseException as error:
        outcome = outcomes.raised(frame, error, time.monotonic() - began)
        ended = True
    finally:
        frame.take_back(ended=ended)
        for future in _left_open(frame):
            future.wait()
        _leave(frame, token, ended=ended)
    return outcome


async def _await_body(frame: Frame) -> State:
    import asyncio

    began = frame.begin_body()
    authored = frame.definition.owner
    token = current_frame.set(frame)
    limiter = asyncio.timeout(frame.limit or None)
    ended = False
    try:
        with ExitStack() as stack:
            for manager in frame.attending.contexts(frame.run, frame.definition):
                stack.enter_context(manager)
            async with limiter:
                value = await authored.fn(*frame.args, **frame.kwargs)
            for future in _left_open(frame):
                await _ended(future)
            frame.checkpoint()
        outcome = outcomes.returned(frame, value)
        ended = True
    except BaseException as error:
        elapsed = time.monotonic() - began
        passed = isinstance(error, TimeoutError) and limiter.expired()
        outcome = outcomes.timed_out(frame, elapsed) if passed else outcomes.raised(frame, error, elapsed)
        ended = True
    finally:
        frame.take_back(ended=ended)
        for future in _left_open(frame):
            await _ended(future)
        _leave(frame, token, ended=ended)
    return outcome


def _leave(frame: Frame, token: Token[Frame | None], *, ended: bool) -> None:
    """The body is done, and so is all that it has called, unless an error of the engine leaves the run open."""
    if ended:
        frame.end_resting()
    current_frame.reset(token)
    runner, frame.runner = frame.runner, None
    if runner is not None:
        runner.close()


def _left_open(frame: Frame) -> list[Future[Any]]:
    with frame.lock:
        return list(frame.open)


# --- calls ----------------------------------------------------------------------------------------------


class under_way:  # noqa: N801 - reads as what it says
    """While a direct call is under way its caller knows of it, to end it should its own time be up."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __enter__(self) -> None:
        if self._frame.parent is not None:
            self._frame.parent.active.add(self._frame)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        parent = self._frame.parent
        if parent is not None:
            parent.active.discard(self._frame)
            if kind is not None:
                parent.count(self._frame)  # interrupted on its way: it ends with its caller


def begin(frame: Frame) -> Course:
    """The course of a run that is born. A root that was found in the log waits for its new term first."""
    resumed = frame.parent is None and not frame.fresh
    return course(frame.run, intent=frame.level == "effect" or resumed)


def conclude(frame: Frame, *, return_state: bool) -> Any:
    """The answer of a call whose run came to rest: its value, its exception, or its state."""
    run, parent = frame.run, frame.parent
    if parent is None:
        frame.session.finish()
    else:
        parent.count(frame)
    state = run.state
    assert state is not None
    if not state.final:
        raise refusal(frame)
    state.read_with(frame.log.unpack)
    state.belongs_to(run.id)
    if return_state:
        live = state.live
        if isinstance(live, BaseException) and not isinstance(live, Exception):
            raise live
        return state
    return state.result()


def call(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    return_state: bool,
    root_id: bytes | None = None,
) -> Any:
    """Call a flow or task whose function is not async; with ``root_id``, go on with that root run."""
    turn = _turn(authored, root_id)
    if turn is not None:
        turn.acquire()
    try:
        frame = born(authored, args, kwargs, root_id=root_id)
        if not frame.run.final:
            with under_way(frame):
                drive(begin(frame), frame)
        return conclude(frame, return_state=return_state)
    finally:
        if turn is not None:
            turn.release()


async def call_async(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    return_state: bool,
    root_id: bytes | None = None,
) -> Any:
    """Call a flow or task whose function is async."""
    turn = _turn(authored, root_id)
    if turn is not None:
        import asyncio

        while not turn.acquire(blocking=False):  # the holder may be another coroutine of this very loop
            await asyncio.sleep(0.005)
    try:
        frame = born(authored, args, kwargs, root_id=root_id)
        if not frame.run.final:
            with under_way(frame):
                await drive_async(begin(frame), frame)
        if frame.parent is None and frame.ticket is not None and not frame.ticket.done:
            await _committed(frame.ticket)
        return conclude(frame, return_state=return_state)
    finally:
        if turn is not None:
            turn.release()


def _turn(authored: Authored, root_id: bytes | None) -> threading.Lock | None:
    """The lock of a root run that others of this process may be carrying out under the same id; mostly None."""
    if current_frame.get() is not None:
        return None
    key: str | None = authored.given.get("idempotency_key")
    if root_id is None:
        if key is None:
            return None
        root_id = keyed_id(authored.name, key)
    from .logs import nearest_log

    return nearest_log().turn(root_id)


def submit(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    place: tuple[int, int] | None = None,
    map_index: int | None = None,
) -> Future[Any]:
    """
    Begin a call in the runner of the flow around it.

    Raises:
        MissingContextError: No flow runs here.
    """
    parent = current_frame.get()
    if parent is None or parent.flow is None:
        raise MissingContextError(
            f"{authored.name}.submit() needs a flow around it, whose runner makes the call. Call {authored.name}(...) directly,"
            " or submit it inside of a function decorated with @flow."
        )
    frame = born(authored, args, kwargs, place=place, map_index=map_index)
    for found in frame.waits_for():
        if found.frame is frame:
            raise ValueError(f"{authored.name} would wait for itself.")
    frame.send()
    context = copy_context()
    future: Future[Any] = Future(frame, lambda future: context.run(_carry_out, future))
    parent.took(future)
    if frame.run.final:
        _carry_out(future)
    else:
        runner_of(parent.flow).submit(future.run)
    return future


def runner_of(flow: Frame) -> Any:
    """The runner of a flow run, made when it is first needed."""
    with flow.lock:
        if flow.runner is None:
            wanted = flow.definition.options["task_runner"]
            if isinstance(wanted, str):
                flow.runner = flow.log.hooks.make_runner(wanted)
            else:
                made = wanted() if isinstance(wanted, type) else wanted
                flow.runner = made.duplicate() if hasattr(made, "duplicate") else made
        return flow.runner


def _carry_out(future: Future[Any]) -> None:
    frame = future.frame
    token = current_frame.set(frame.parent)
    try:
        if not frame.run.final:
            if frame.definition.owner.is_async:
                import asyncio

                asyncio.run(drive_async(begin(frame), frame))
            else:
                drive(begin(frame), frame)
        state = frame.run.state
        assert state is not None
        assert frame.parent is not None
        frame.parent.count(frame)
        state.read_with(frame.log.unpack)
        state.belongs_to(frame.run.id)
        future.settle(state if state.final else refusal(frame))
    except BaseException as error:
        future.settle(error)
    finally:
        current_frame.reset(token)

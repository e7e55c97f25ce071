"""
Runs from birth to end: the interpreters of a run's course, and the calls that begin them.

An interpreter performs effects and decides nothing. There is one for code that blocks and one for code that
awaits, and each also in the shape of a generator, for bodies that yield; all share `perform` and
`perform_async`. Whatever a run needs to know or record is the Frame's.

The interpreters of plain calls, coroutines and generators stand together, so that they can be held against each other.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..course import Ask, Call, Course, Durable, Propose, Resolve, course
from ..errors import MissingContextError, PausedRun
from ..manager import grumble
from ..sites import call_site
from ..states import Cached, Completed, Retrying, State, usable
from ..transitions import Run, Transition
from . import outcomes, upstream
from .announce import announce_call, announce_submission
from .births import Request, born, born_async, refusal
from .bodies import await_body, await_end, call_body, finish_awaitable, iterate_body, iterate_body_async
from .context import calling_frame, current_frame, telling
from .frames import Frame, send_together
from .futures import Future
from .names import keyed_id
from .signals import FlowStopped

if TYPE_CHECKING:
    from ..hooks import Ticket
    from .definitions import Authored
    from .pools import Step

__all__ = ["call", "call_async", "enter", "needs_flow", "submit", "submit_each"]

# --- the interpreters -------------------------------------------------------------------------------------


def drive_in_steps(steps: Course, frame: Frame) -> Generator[Ticket, None, None]:
    """
    Lead a run through its course, left wherever it waits for a commit: it yields the ticket.

    Gone on with before that is done, it blocks until then.
    """
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration:
            return
        if type(effect) is Durable and frame.ticket is not None and not frame.ticket.done:
            yield frame.ticket
        answer = call_body(frame) if type(effect) is Call else perform(effect, frame)


async def drive_async(steps: Course, frame: Frame) -> Run:
    """Lead a run through its course, awaiting where it has to wait."""
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration as end:
            return end.value
        answer = await (await_body(frame) if type(effect) is Call else perform_async(effect, frame))


def drive_generator(steps: Course, frame: Frame) -> Generator[Any, Any, Run]:
    """Lead a run through its course, yielding what its body yields."""
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration as end:
            return end.value
        if type(effect) is Call:
            try:
                yield from iterate_body(frame)
            except GeneratorExit:  # it was closed, and has seen to its end
                if frame.cut_off:
                    raise
            answer = frame.outcome
        else:
            answer = perform(effect, frame)


def perform(effect: Any, frame: Frame) -> Any:
    """Carry out any effect but a call of the body, blocking."""
    if type(effect) is Propose:
        answer = frame.propose(effect)
        if frame.untold:
            for waiting in tell(frame, answer):
                finish_awaitable(waiting)
        return answer
    if type(effect) is Durable:
        return frame.await_commit()
    if type(effect) is Resolve:
        for future in upstream.waits_for(frame):
            future.wait()
        return upstream.resolve(frame)
    if type(effect) is Ask:
        return _ask(frame, effect)
    frame.send()
    return frame.log.clock.sleep_until(effect.until)


async def perform_async(effect: Any, frame: Frame) -> Any:
    """Carry out any effect but a call of the body, without blocking the event loop."""
    if type(effect) is Propose:
        answer = frame.propose(effect)
        if frame.untold and frame.ticket is not None and not frame.ticket.done:
            await _committed(frame.ticket)
        for waiting in tell(frame, answer):
            await waiting
        return answer
    if type(effect) is Durable:
        if frame.ticket is not None and not frame.ticket.done:
            await _committed(frame.ticket)
        return frame.await_commit()
    if type(effect) is Resolve:
        for future in upstream.waits_for(frame):
            await await_end(future)
        return upstream.resolve(frame)
    if type(effect) is Ask:
        return await _ask_async(frame, effect)
    frame.send()
    return await frame.log.clock.wait_until(effect.until)


def tell(frame: Frame, answer: Any) -> list[Any]:
    """Tell the recorders what was recorded, once it is durable. What they want awaited is given back."""
    if not frame.untold or type(answer) is not Run:
        return []
    frame.await_commit()
    told, frame.untold = frame.untold, []
    waiting: list[Any] = []
    for run, transition in told:
        frame.log.show(transition.to, run)
        with telling(frame):
            answers = frame.attending.notify(run, transition, frame.definition)
        waiting.extend(_guarded(awaitable, transition, frame) for awaitable in answers)
    return waiting


def announce_obstacle(frame: Frame) -> None:
    """A run that is final before it has a course: its recorders are told, and what its call looks at is noted."""
    upstream.look_again(frame)
    for waiting in tell(frame, frame.run):
        finish_awaitable(waiting)


async def announce_obstacle_async(frame: Frame) -> None:
    """The same without blocking the event loop."""
    upstream.look_again(frame)
    for waiting in tell(frame, frame.run):
        await waiting


async def _guarded(waiting: Any, transition: Transition, frame: Frame) -> None:
    try:
        with telling(frame):
            await waiting
    except Exception:
        grumble("recorded", transition)


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
    """Await a commit without blocking the event loop; what became of it, the ticket says."""
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell_loop() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody awaits it any more
            loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    ticket.notify(tell_loop)
    await done


# --- direct calls -----------------------------------------------------------------------------------------


def begin(frame: Frame) -> Course:
    """
    The course of a run that is born.

    A root waits until its lease is durable at every level: a term that a power loss takes back could be given twice.
    """
    intent = frame.level == "effect" or frame.parent is None
    return course(frame.run, intent=intent, waits=frame.waits, unpause=frame.session.unpause)


def conclude(frame: Frame, *, return_state: bool) -> Any:
    """The answer of a call whose run came to rest: its value, its exception, or its state."""
    run, parent = frame.run, frame.parent
    if parent is None:
        frame.session.release()
        frame.session.finish()
    else:
        (parent.called or parent.children).count(frame)
    state = run.state
    assert state is not None
    if not state.final:
        raise stopped(frame)
    if return_state:
        frame.log.show(state, run)
        live = state.live
        if isinstance(live, BaseException) and not isinstance(live, Exception) and state.is_crashed():
            raise live
        return state
    value = _given(frame, state)
    if parent is not None:
        frame.session.sources.remember(value, run.id)
    return value


def _given(frame: Frame, state: State) -> Any:
    """What a caller is given who does not ask for the state: that need not know then how to decode what it holds."""
    if type(state) is Completed or type(state) is Cached:
        held = vars(state)
        if "live" in held:
            return held["live"]
        if usable(state.data) and "unpack" not in held:
            return frame.log.unpack(state.data)
    frame.log.show(state, frame.run)
    return state.result()


def stopped(frame: Frame) -> Exception:
    """Why a run came to rest before its end."""
    state = frame.run.state
    if frame.run.ruling is None and isinstance(state, Retrying):
        return PausedRun(
            f"Run {frame.run.name!r} is paused{': ' if state.message else ''}{state.message}. It goes on by"
            f" `pluperfect resume {frame.session.root.hex()}`."
        )
    return refusal(frame)


def turn_of(request: Request) -> AbstractContextManager[Any]:
    """
    Held while a root run is carried out that others of this process may carry out under the same id; mostly there are none.

    It is the lock itself: who is interrupted on his way out of a block of Python's own would leave it locked.
    """
    if calling_frame() is not None:
        return _NO_TURN
    root_id = request.root_id
    if root_id is None:
        key: str | None = request.authored.given.get("idempotency_key")
        if key is None:
            return _NO_TURN
        root_id = keyed_id(request.authored.name, key)
    from .logs import nearest_log

    return nearest_log().turn(root_id)


_NO_TURN: Final[AbstractContextManager[Any]] = nullcontext()


class in_turn:  # noqa: N801 - reads as what it says
    """The same where it is awaited."""

    __slots__ = ("_lock",)

    def __init__(self, request: Request) -> None:
        turn = turn_of(request)
        self._lock: Any = None if turn is _NO_TURN else turn

    async def __aenter__(self) -> None:
        if self._lock is not None:
            import asyncio

            while not self._lock.acquire(blocking=False):  # the holder may be another coroutine of this very loop
                await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()


_USER: Final = 3
"""How far from `call_site` the code stands that calls a flow or task: in between are `enter` and the `__call__` of that."""


def enter(authored: Authored, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call as people write it: the value, an awaitable or a generator of it, or with ``return_state`` its state."""
    return_state = wait_for = None
    if kwargs:
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
    request = Request(authored, args, kwargs, wait_for or (), site=call_site(_USER))
    if authored.generates:
        if return_state:
            raise TypeError(f"{authored.name} is a generator: it has no one result, and so no return_state.")
        own: list[Any] = []
        made = (call_generator_async if authored.is_async else call_generator)(request, own)
        own.append(weakref.ref(made))  # so that the run can close it, and does not keep it
        return made
    return (call_async if authored.is_async else call)(request, return_state=bool(return_state))


def call(request: Request, *, return_state: bool = False) -> Any:
    """Call a flow or task whose function is not async."""
    if calling_frame() is not None:  # no root: nobody else carries it out
        return _called(request, return_state=return_state)
    with turn_of(request):
        return _called(request, return_state=return_state)


def _called(request: Request, *, return_state: bool) -> Any:
    frame = born(request)
    announce_call(frame)
    state = frame.run.state
    if state is not None and state.final:
        announce_obstacle(frame)
    else:
        with frame:
            for _ in drive_in_steps(begin(frame), frame):
                pass  # gone on with, it waits
    return conclude(frame, return_state=return_state)


def _is_being_cancelled() -> bool:
    import asyncio

    running = asyncio.current_task()
    return running is not None and running.cancelling() > 0


async def call_async(request: Request, *, return_state: bool = False) -> Any:
    """Call a flow or task whose function is async."""
    async with in_turn(request):
        frame = await born_async(request)
        announce_call(frame)
        if frame.run.final:
            await frame.await_turn()
            await announce_obstacle_async(frame)
        else:
            with frame:
                try:
                    await drive_async(begin(frame), frame)
                except FlowStopped:
                    if frame.cut_off and _is_being_cancelled():
                        from asyncio import CancelledError

                        raise CancelledError from None  # the loop asked for that, and knows what it means
                    raise
            await frame.await_turn()  # what was led again answers in its turn too
        if frame.parent is None and frame.ticket is not None and not frame.ticket.done:
            await _committed(frame.ticket)
        return conclude(frame, return_state=return_state)


def call_generator(request: Request, own: list[Any]) -> Generator[Any, Any, Any]:
    """Call a flow or task whose function is a generator: its run lasts until the generator ends or is closed."""
    with turn_of(request):
        frame = born(request)
        frame.generator = own[0]
        announce_call(frame)
        if frame.run.final:
            announce_obstacle(frame)
        else:
            with frame:
                try:
                    yield from drive_generator(begin(frame), frame)
                except (GeneratorExit, FlowStopped):
                    if not frame.cut_off and frame.run.final:
                        return conclude(frame, return_state=False)
                    if not frame.cut_off:
                        raise
                    return None  # its caller has ended it already
        return conclude(frame, return_state=False)


async def call_generator_async(request: Request, own: list[Any]) -> AsyncGenerator[Any, Any]:
    """Call a flow or task whose function is an asynchronous generator."""
    async with in_turn(request):
        frame = await born_async(request)
        frame.generator = own[0]
        announce_call(frame)
        if frame.run.final:
            await announce_obstacle_async(frame)
        else:
            with frame:
                try:
                    steps, answer = begin(frame), None
                    while (effect := _next(steps, answer)) is not None:
                        if not isinstance(effect, Call):
                            answer = await perform_async(effect, frame)
                            continue
                        items = iterate_body_async(frame)
                        step = items.__anext__
                        while True:  # what `yield from` is for other generators
                            try:
                                item = await step()
                            except StopAsyncIteration:
                                break
                            try:
                                sent = yield item
                            except GeneratorExit:
                                await items.aclose()
                                break
                            except BaseException as error:
                                step = partial(items.athrow, error)
                            else:
                                step = partial(items.asend, sent)
                        answer = frame.outcome
                except FlowStopped:
                    if not frame.cut_off:
                        raise
                    if _is_being_cancelled():
                        from asyncio import CancelledError

                        raise CancelledError from None  # its consumer is to end too
                    return  # its caller has ended it already
        if frame.parent is None and frame.ticket is not None and not frame.ticket.done:
            await _committed(frame.ticket)
        conclude(frame, return_state=False)


def _next(steps: Course, answer: Any) -> Any:
    """The next effect of a course; None at its end."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None


# --- submitted calls --------------------------------------------------------------------------------------


def submit(request: Request) -> Future[Any]:
    """
    Begin a call in the runner of the flow around it.

    Raises:
        MissingContextError: No flow runs here.
    """
    runner = runner_here(request.authored)  # before the birth: where none can be made, there is no call to carry out
    frame = born(request)
    future = _made(frame, request, runner)
    _begin(future, frame, runner)
    return future


_TOGETHER: Final = 64
_LARGE: Final = 1 << 16  # bytes of arguments; what is one append is one transaction too
_LONG: Final = 0.002  # seconds


def submit_each(requests: Iterable[Request]) -> list[Future[Any]]:
    """
    Begin calls in the runner of the flow around them, one after the other.

    Some are born in a row, recorded by one append, and then begun: that takes a third less than to do all three for each. The
    first begins at once, and so does each where somebody's own code gives it its name. Where one cannot be made, those before it
    are begun, and none after it.
    """
    futures: list[Future[Any]] = []
    waiting: list[tuple[Future[Any], Frame]] = []  # born, and not on record
    some, size, since = 1, 0, 0.0
    runner: Any = None

    def begin() -> None:
        nonlocal waiting, size
        made, waiting, size = waiting, [], 0
        ahead = dict.fromkeys(frame for _, frame in made if frame.held) if len(made) > 1 else {}
        if ahead:
            made[0][0].caller.expect(ahead)
            send_together(ahead)
        for future, frame in made:
            _begin(future, frame, runner, ahead=frame in ahead)
            futures.append(future)

    try:
        for request in requests:
            if runner is None:
                runner = runner_here(request.authored)
            frame = born(request, first=begin)
            waiting.append((_made(frame, request, runner), frame))
            size += frame.weight()
            now = time.monotonic()
            since = now if len(waiting) == 1 else since
            if len(waiting) >= some or size > _LARGE or now - since > _LONG:
                begin()
                some = min(2 * some, _TOGETHER) if frame.terms.template is None else 1
        begin()
    except FlowStopped:
        raise  # nothing is begun any more
    except BaseException:
        begin()
        raise
    return futures


def _made(frame: Frame, request: Request, runner: Any) -> Future[Any]:
    """The handle of a call that is born, and that this runner is to make."""
    announce_submission(frame)
    if not request.here and getattr(runner, "remote", False):
        frame.remote = runner
    parent = frame.parent
    assert parent is not None
    begin_async = _begin_in_loop if request.authored.is_async else None
    return Future(frame, parent.called or parent.children, copy_context(), _begin_here, begin_async)


def _begin(future: Future[Any], frame: Frame, runner: Any, *, ahead: bool = False) -> None:
    """Let the runner make a call that is born; its birth goes on record first, unless it went ahead."""
    calls = future.caller
    try:
        calls.took(future)  # before it is recorded: who is interrupted there leaves no call behind that nobody ends
        if ahead and not calls.begins(frame):  # the body that submitted it has ended meanwhile
            frame.give_up("cancelled", "the flow ended before this call had begun")
        frame.send()
        state = frame.run.state
        if state is not None and state.final:
            future.run()
        elif frame.definition.owner.is_async and hasattr(runner, "submit_async"):
            future.go_into_loop(runner, _carry_out_async)
        elif (submit_steps := getattr(runner, "submit_steps", None)) is not None:
            submit_steps(future.step)
        else:
            runner.submit(future.run)
    except BaseException as error:
        _not_taken(future, frame, error)
        raise


def _not_taken(future: Future[Any], frame: Frame, error: BaseException) -> None:
    """The call could not be recorded, or the runner did not take it: it ends here, and its caller is told by the exception."""
    future.look()
    if not future.withdraw():
        return
    try:
        frame.learn()
        if not frame.held:  # else nothing is on record, and there was no call
            frame.propose(Propose(outcomes.failed(frame, error, "crashed")))
            _settle(future, frame)
    except BaseException:
        future.caller.count(frame)  # its caller tries again as it ends
        raise
    finally:
        future.caller.open.discard(future)  # nobody else will begin it
        future.caller.begins(frame)  # nor end it


def needs_flow(authored: Authored, method: str) -> MissingContextError:
    """The error for a call that only a flow's runner can make."""
    return MissingContextError(
        f"{authored.name}.{method}() needs a flow around it, whose runner makes the call. Call {authored.name}(...) directly,"
        f" or {method} it inside of a function decorated with @flow."
    )


def runner_here(authored: Authored) -> Any:
    """
    The runner of the flow around this code, made when it is first needed.

    Raises:
        MissingContextError: No flow runs here.
    """
    parent = calling_frame()
    flow = None if parent is None else parent.flow
    if flow is None:
        raise needs_flow(authored, "submit")
    runner = flow.runner
    if runner is not None:
        return runner
    with flow.lock:
        if flow.runner is None:
            from .runners import runner_from

            flow.runner = runner_from(flow.definition.options["task_runner"], flow.log.hooks.make_runner)
        return flow.runner


def _begin_here(future: Future[Any], context: Context) -> Step:
    """Make ready to carry out a call."""
    steps = _carry_out(future)

    def step() -> Ticket | None:
        return context.run(next, steps, None)

    return step


def _carry_out(future: Future[Any]) -> Generator[Ticket, None, None]:
    frame = future.frame
    token, state = current_frame.set(frame.parent), frame.run.state
    try:
        if state is not None and state.final:
            announce_obstacle(frame)
        elif frame.definition.owner.is_async and frame.remote is None:
            finish_awaitable(_lead_async(future))
        else:
            yield from drive_in_steps(begin(frame), frame)
        _settle(future, frame)
    except BaseException as error:
        _broken(future, error)
    finally:
        current_frame.reset(token)


async def _carry_out_async(future: Future[Any]) -> None:
    frame = future.frame
    token = current_frame.set(frame.parent)
    try:
        await _lead_async(future)
        _settle(future, frame)
    except BaseException as error:
        _broken(future, error)
    finally:
        current_frame.reset(token)


async def _lead_async(future: Future[Any]) -> None:
    future.led()
    await drive_async(begin(future.frame), future.frame)


def _broken(future: Future[Any], error: BaseException) -> None:
    """A submitted call that did not come to rest: it was ended from outside, or an error of the engine stopped it."""
    if future.done():  # the error came after its end, from whoever was told of it, or amid the telling
        future.tell()
        return
    frame = future.frame
    if frame.cut_off:
        _settle(future, frame)
    else:
        future.settle(error)


def _begin_in_loop(future: Future[Any], context: Context) -> Any:
    """Begin a call in the event loop at hand, beside what else awaits there."""
    import asyncio

    return asyncio.get_running_loop().create_task(future.run_async(_carry_out_async), context=context)


def _settle(future: Future[Any], frame: Frame) -> None:
    """The run of a submitted call has come to rest."""
    state, parent = frame.run.state, frame.parent
    assert state is not None
    assert parent is not None
    (parent.called or parent.children).count(frame)
    live = vars(state).get("live")
    if live is not None and state.is_completed():
        frame.session.sources.remember(live, frame.run.id)
    future.settle(state if state.final else stopped(frame))

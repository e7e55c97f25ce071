"""
One call of a user's function: what is set up around it, and the state that its end amounts to.

A body is called here, awaited, or led item by item where it is a generator; or it is handed to a runner that
calls it in another process. The same things surround it each time: the run as the context, what plugins
enter, the deadline, and at the end the children, which are all brought to their end before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import Context, copy_context
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, cast

from ..states import Failed, State
from . import outcomes
from .context import calling_frame, current_frame
from .deadlines import DeadlinePassed, call_within
from .frames import Frame
from .futures import Future

if TYPE_CHECKING:
    import asyncio

_log: Final = logging.getLogger("pluperfect.engine")

__all__ = ["await_body", "await_end", "call_body", "finish_awaitable", "iterate_body", "iterate_body_async"]


def call_body(frame: Frame) -> State:
    """Call a function to its end."""
    began, caller = frame.begin_body(), calling_frame()
    ended = False
    try:
        current_frame.set(frame)  # inside: who is interrupted right after it is outside again all the same
        managers = _contexts(frame) if frame.remote is None else ()
        value = _within_all(managers, frame) if managers else _led(frame)
        outcome = outcomes.returned(frame, value)
        ended = True
    except BaseException as error:
        outcome = outcomes.raised(frame, error, time.monotonic() - began)
        ended = True
    finally:
        try:
            if frame.called is not None:
                _close_generators(frame)
                frame.take_back(ended=ended)
                for future in _left_open(frame):
                    future.wait()
            frame.deadline = None
        finally:  # what was called may not be ended where nothing can be recorded; this thread goes on all the same
            try:
                if frame.called is not None or frame.runner is not None:
                    _leave(frame, ended=ended)
            finally:
                current_frame.set(caller)
    try:
        return outcome
    finally:
        del outcome  # an exception that it carries holds this very frame: both would be kept until garbage is collected


def _led(frame: Frame) -> Any:
    """What the function returns once all that it has called is ended."""
    frame.checkpoint()  # its time may have come to an end while it waited to begin
    value = _value_of(frame)
    if frame.called is not None:
        for future in _left_open(frame):
            future.wait()
    frame.checkpoint()
    return value


def _within_all(managers: Sequence[AbstractContextManager[Any]], frame: Frame) -> Any:
    with ExitStack() as stack:
        _enter(stack, managers)
        return _led(frame)


async def await_body(frame: Frame) -> State:
    """Await a coroutine function to its end."""
    began, caller = frame.begin_body(), calling_frame()
    limiter: asyncio.Timeout | None = None
    if frame.limit:
        import asyncio

        limiter = asyncio.timeout(frame.limit)
    frame.limiter = limiter
    ended = False
    try:
        current_frame.set(frame)
        managers = _contexts(frame)
        if managers:
            with ExitStack() as stack:
                _enter(stack, managers)
                value = await _awaited(frame, limiter)
        else:
            value = await _awaited(frame, limiter)
        outcome = outcomes.returned(frame, value)
        ended = True
    except BaseException as error:
        elapsed = time.monotonic() - began
        passed = limiter is not None and isinstance(error, Exception) and limiter.expired()
        outcome = outcomes.timed_out(frame, elapsed) if passed else outcomes.raised(frame, error, elapsed)
        ended = True
    finally:
        try:
            if frame.called is not None:
                await _close_all_generators(frame)
                frame.take_back(ended=ended)
                for future in _left_open(frame):
                    await await_end(future)
            frame.deadline = None
        finally:
            try:
                if frame.called is not None or frame.runner is not None:
                    _leave(frame, ended=ended)
            finally:
                if calling_frame() is frame:  # else its loop is gone, and it is collected amid somebody else's work
                    current_frame.set(caller)
    try:
        return outcome
    finally:
        del outcome  # as in `call_body`


async def _awaited(frame: Frame, limiter: asyncio.Timeout | None) -> Any:
    """What the coroutine function returns once all that it has called is ended."""
    frame.checkpoint()
    if limiter is None:
        value = await _returned(frame)
    else:
        async with limiter:
            value = await _returned(frame)
        if limiter.expired():
            raise TimeoutError  # the body has swallowed its cancellation; its end comes too late
    if frame.called is not None:
        for future in _left_open(frame):
            await await_end(future)
    frame.checkpoint()
    return value


async def _returned(frame: Frame) -> Any:
    """What the coroutine function returns; a generator that it returns is consumed."""
    authored = frame.definition.owner
    value: Any = authored.fn(*frame.args, **frame.kwargs)
    if authored.generates:
        return [item async for item in value]
    value = _listed(await value)
    if isinstance(value, CoroutineType) and authored.kind == "flow":  # `return work()`, without its await
        value = await cast("Awaitable[Any]", value)
    if isinstance(value, AsyncGeneratorType):
        return [item async for item in cast("AsyncGenerator[Any, None]", value)]
    return cast(Any, value)


def iterate_body(frame: Frame) -> Generator[Any, Any, None]:
    """
    Lead a generator: yield its items; ``frame.outcome`` is the state that its end amounts to.

    It runs in a context of its own, so that the consumer, between two items, stays where it is.
    """
    began, context, stack, body = _begin_iteration(frame)
    step: Callable[[], Any] = body.__next__
    ended = False
    try:
        while True:
            item = _within(frame, began, lambda step=step: context.run(step))
            with _offered(frame, item):
                try:
                    sent = yield item
                except GeneratorExit:
                    frame.closed = True
                    context.run(body.close)
                    raise StopIteration from None  # noqa: PLR1708 - it is caught below, as the end that it is
                except BaseException as error:
                    step = _thrower(body, error)
                else:
                    step = body.__next__ if sent is None else _sender(body, sent)
    except StopIteration as end:
        ended = True
        try:
            context.run(_finish_iteration, frame)
            outcome = outcomes.returned(frame, end.value)
        except BaseException as error:
            outcome = outcomes.raised(frame, error, time.monotonic() - began)
    except BaseException as error:
        outcome = _broken_off(frame, error, began)
        ended = True
    finally:
        context.run(_end_iteration, frame, stack, ended)
    frame.outcome = outcome


async def iterate_body_async(frame: Frame) -> AsyncGenerator[Any, Any]:
    """Lead an asynchronous generator: yield its items; ``frame.outcome`` is the state that its end amounts to."""
    began, context, stack, body = _begin_iteration(frame)
    step: Callable[[], Awaitable[Any]] = body.__anext__
    ended = False
    try:
        while True:
            item = await _await_within(frame, began, _InContext(context, step()))
            with _offered(frame, item):
                try:
                    sent = yield item
                except GeneratorExit:
                    frame.closed = True
                    await _InContext(context, body.aclose())
                    raise StopAsyncIteration from None
                except BaseException as error:
                    step = _athrower(body, error)
                else:
                    step = body.__anext__ if sent is None else _asender(body, sent)
    except StopAsyncIteration:
        ended = True
        try:
            for future in _left_open(frame):
                await await_end(future)
            context.run(_finish_iteration, frame)
            outcome = outcomes.returned(frame, None)
        except BaseException as error:
            outcome = outcomes.raised(frame, error, time.monotonic() - began)
    except BaseException as error:
        outcome = _broken_off(frame, error, began)
        ended = True
    finally:
        await _close_all_generators(frame)
        context.run(frame.take_back, ended=ended)
        for future in _left_open(frame):
            await await_end(future)
        context.run(_end_iteration, frame, stack, ended)
    frame.outcome = outcome


# --- around the body --------------------------------------------------------------------------------------


def _value_of(frame: Frame) -> Any:
    """What the function returns; a generator that it returns is consumed, here, where its prints and calls belong."""
    if frame.remote is not None:
        from .abroad import call_abroad

        return call_abroad(frame)
    if frame.limit and frame.definition.kind == "task":
        return call_within(frame.limit, partial(_plainly, frame), frame.abandoned)
    return _plainly(frame)


def _plainly(frame: Frame) -> Any:
    return _listed(frame.definition.fn(*frame.args, **frame.kwargs))


def _listed(value: Any) -> Any:
    return list(cast("Iterator[Any]", value)) if type(value) is GeneratorType else value


def _contexts(frame: Frame) -> Sequence[AbstractContextManager[Any]]:
    """What plugins enter around the body, outermost first."""
    return frame.attending.contexts(frame.run, frame.definition)


def _enter(stack: ExitStack, managers: Sequence[AbstractContextManager[Any]]) -> None:
    for manager in managers:
        stack.enter_context(manager)


def _leave(frame: Frame, *, ended: bool) -> None:
    """The body is done, and so is all that it has called, unless an error of the engine leaves the run open."""
    try:
        if ended and (frame.children.active or frame.children.resting):
            for child in list(frame.children.active):
                child.cut("the run that called it ended before it")
            frame.children.end_resting()
    finally:
        runner, frame.runner = frame.runner, None
        if runner is not None:
            runner.close()


def _close_generators(frame: Frame) -> None:
    """Close what the body has begun to iterate over and left: its run ends before this one does."""
    if not frame.children.active:
        return
    for generator in frame.children.suspended():
        if isinstance(generator, GeneratorType):
            _close(cast("GeneratorType[Any, Any, Any]", generator))


def _close(generator: GeneratorType[Any, Any, Any]) -> None:
    try:
        generator.close()
    except Exception:
        _log.exception("a generator raised when it was closed at the end of its caller")


async def _close_all_generators(frame: Frame) -> None:
    import asyncio

    for _ in range(10):  # one that is out of reach is being closed by a task of the loop, if that is let run
        if not any(child.generator is not None and child.generator() is None for child in list(frame.children.active)):
            break
        await asyncio.sleep(0)
    for generator in frame.children.suspended():
        if isinstance(generator, GeneratorType):
            _close(cast("GeneratorType[Any, Any, Any]", generator))
            continue
        if generator.ag_running:  # somebody else awaits its next item, and sees its end there
            continue
        try:
            await generator.aclose()
        except Exception:
            _log.exception("a generator raised when it was closed at the end of its caller")


def _left_open(frame: Frame) -> list[Future[Any]]:
    return frame.children.waiting()


# --- around a generator -----------------------------------------------------------------------------------


def _begin_iteration(frame: Frame) -> tuple[float, Context, ExitStack, Any]:
    began = frame.begin_body()
    frame.closed = False
    context, stack = copy_context(), ExitStack()
    authored = frame.definition.owner

    def enter() -> Any:
        current_frame.set(frame)
        _enter(stack, _contexts(frame))
        return authored.fn(*frame.args, **frame.kwargs)

    return began, context, stack, context.run(enter)


def _finish_iteration(frame: Frame) -> None:
    for future in _left_open(frame):
        future.wait()
    if not frame.closed:
        frame.checkpoint()


def _end_iteration(frame: Frame, stack: ExitStack, ended: bool) -> None:
    _close_generators(frame)
    frame.take_back(ended=ended)
    for future in _left_open(frame):
        future.wait()
    stack.close()
    _leave(frame, ended=ended)


def _broken_off(frame: Frame, error: BaseException, began: float) -> State:
    """The state of a generator that raised. One that is closed cannot yield again, and so is not retried."""
    outcome = outcomes.raised(frame, error, time.monotonic() - began)
    if frame.closed and isinstance(outcome, Failed) and outcome.cause == "error":
        return outcomes.failed(frame, error, "crashed")
    return outcome


@contextmanager
def _offered(frame: Frame, item: Any) -> Iterator[None]:
    """While the consumer has the item, calls that take it find where it comes from."""
    items = frame.log.items
    items.remember(item, frame.run.id, surely=True)
    frame.session.sources.remember(item, frame.run.id)
    try:
        yield
    finally:
        items.forget(item)


def _within(frame: Frame, began: float, call: Callable[[], Any]) -> Any:
    if not frame.limit or frame.definition.kind == "flow":
        return call()
    left = began + frame.limit - time.monotonic()
    if left <= 0:
        raise DeadlinePassed
    return _unwrapped(call_within(left, lambda: _wrapped(call), frame.abandoned))


def _wrapped(call: Callable[[], Any]) -> tuple[bool, Any]:
    try:
        return True, call()
    except StopIteration as end:  # it must not pass through a thread's or a generator's own end
        return False, end.value


def _unwrapped(answer: tuple[bool, Any]) -> Any:
    if answer[0]:
        return answer[1]
    raise StopIteration(answer[1])


async def _await_within(frame: Frame, began: float, step: Awaitable[Any]) -> Any:
    if not frame.limit:
        return await step
    import asyncio

    limiter = frame.limiter = asyncio.timeout(max(began + frame.limit - time.monotonic(), 0.0))
    try:
        async with limiter:
            return await step
    except TimeoutError:
        if limiter.expired():
            raise DeadlinePassed from None
        raise


def _sender(body: Any, sent: Any) -> Callable[[], Any]:
    return lambda: body.send(sent)


def _thrower(body: Any, error: BaseException) -> Callable[[], Any]:
    return lambda: body.throw(error)


def _asender(body: Any, sent: Any) -> Callable[[], Any]:
    return lambda: body.asend(sent)


def _athrower(body: Any, error: BaseException) -> Callable[[], Any]:
    return lambda: body.athrow(error)


class _InContext:
    """An awaitable each of whose steps is made in a context of its own, in the task that awaits it."""

    __slots__ = ("_awaited", "_context")

    def __init__(self, context: Context, awaited: Awaitable[Any]) -> None:
        self._context, self._awaited = context, awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaited.__await__()
        step: Callable[[], Any] = steps.__next__
        while True:
            try:
                waiting = self._context.run(step)
            except StopIteration as end:
                return end.value
            try:
                sent = yield waiting
            except BaseException as error:
                step = _thrower(steps, error)
            else:
                step = _sender(steps, sent)


# --- awaiting ---------------------------------------------------------------------------------------------


async def await_end(future: Future[Any]) -> None:
    """Await the end of a call, whatever it is."""
    await future.ended()


def finish_awaitable(waiting: Any, make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> Any:
    """Await this to its end from code that is not async, whether or not a loop runs in this thread."""
    import asyncio

    async def whole() -> Any:
        return await waiting

    def run() -> Any:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            return runner.run(whole())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:  # asked for in a coroutine, whose own loop cannot do this meanwhile
        return pool.submit(copy_context().run, run).result()

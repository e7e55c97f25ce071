"""Handles of submitted calls, and how to wait for them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, cast, final

from msgspec import Struct

from ..histories import id_text
from ..states import Completed, Packed, State
from ..values import INLINE
from .context import current_frame

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    from ..hooks import Ticket
    from ..transitions import Run
    from .children import Children
    from .frames import Frame
    from .pools import Step

__all__ = ["Future", "FutureList", "Waited", "as_completed", "wait"]

R = TypeVar("R", covariant=True)
T = TypeVar("T")


@final
class _Well(Struct, frozen=True, gc=False):
    """
    How a call has ended that ended well: what its state is made of, once somebody asks for that.

    Whoever keeps many futures keeps as many of these. It refers to nothing that could refer to it, and so the garbage collector
    need not walk over it, as it would over a state, its data and what is attached to it.
    """

    message: str
    name: str
    code: int
    data: bytes
    kind: str
    above: bytes | None
    at: float
    attempt: int

    def state(self, run: bytes, log: Any) -> Completed:
        """The state again."""
        made = Completed(self.message, Packed(self.code, self.data), name=self.name)
        made.belongs_to(run, self.kind, self.above, self.at, self.attempt, log)
        return made


_DECODED: Final[Any] = object()
"""In the place of a result that is not kept, and decoded each time."""


def _well(state: Any, run: Run) -> _Well | None:
    """The same of this state; None where there is more to it, or it may refer to anything."""
    if type(state) is not Completed:
        return None
    data, message, name = state.data, state.message, state.name
    if type(data) is not Packed or type(message) is not str or type(name) is not str or "unpack" in vars(state):
        return None
    held, spec = data.held, run.spec
    # Else it is found by its digest, or may be decoded by who trusts its run.
    if held is None or len(held) > INLINE or data.run or spec is None:
        return None
    return _Well(message, name, data.code, held, spec.kind, spec.parent, run.updated, run.attempt)


class Future(Generic[R]):
    """
    A call that was submitted: its run, and in the end its state.

    A flow awaits all its futures before it ends, and remembers which failures somebody looked at.
    """

    __slots__ = (
        "_begin",
        "_begin_async",
        "_callbacks",
        "_cancelled",
        "_context",
        "_frame",
        "_going",
        "_latch",
        "_live",
        "_looked",
        "_name",
        "_state",
        "_task",
        "_ticket",
        "caller",
        "loop_thread",
        "run_id",
    )

    def __init__(
        self,
        frame: Frame,
        caller: Children,
        context: Context,
        begin: Callable[[Future[Any], Context], Step],
        begin_async: Callable[[Future[Any], Context], asyncio.Task[None]] | None = None,
    ) -> None:
        # There may be very many of these, and each object that one keeps is walked over by the garbage collector again and
        # again: so there is no partial, no list and no lock before somebody needs it, and nothing of the call once it has ended.
        self._frame: Frame | None = frame  # the run, while it may still move
        self._name = ""  # of the run that has ended
        self._ticket: Ticket | None = None  # of its last entry, where people outside of the flow wait for that
        self._context: Context | None = context  # what the call is made in, until it has ended
        self._going: Step | None = None  # what goes on with a call that is made step by step
        self._begin_async = begin_async  # begins an async call in the event loop at hand
        self._state: State | _Well | BaseException | None = None
        self._live: Any = _DECODED  # the result, where it is kept beside that
        self._looked = False
        self._latch: threading.Lock | None = None  # held until the end, once somebody has to wait for it
        self._callbacks: list[Callable[[Future[Any]], None]] | None = None
        self._begin: Callable[[Future[Any], Context], Step] | None = begin
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None  # that leads an async call
        self._cancelled: str = ""  # why the call is to end before its time
        # What the body that submitted it has called; its lock is held for a few steps, and never while other code is called.
        self.caller: Children = caller
        self.run_id: bytes = frame.run.id
        self.loop_thread: int = 0  # the thread of the event loop that makes the call, where it is made in one

    # --- for the engine

    def run(self) -> None:
        """Make the call, here and now, unless somebody has begun it already."""
        step = self._begun()
        while step is not None and step() is not None:
            pass  # gone on with at once, it waits there

    def step(self) -> Ticket | None:
        """
        Make the call up to where it waits for an append, or to its end, unless somebody else has begun it; or go on with it.

        Returns:
            The ticket to wait for before this is called again; None: there is nothing left to do here.
        """
        if self._going is None:
            self._going = self._begun()
        return None if self._going is None else self._going()

    def _begun(self) -> Step | None:
        """Begin the call; None where somebody has begun it already."""
        with self.caller.lock:
            begin, self._begin = self._begin, None
        if begin is None:
            return None
        assert self._context is not None
        return begin(self, self._context)

    async def run_async(self, begin: Callable[[Future[Any]], Awaitable[None]]) -> None:
        """Make the call in the event loop at hand, unless somebody has begun it already."""
        with self.caller.lock:
            begun, self._begin = self._begin is None, None
        if not begun:
            await begin(self)

    def go_into_loop(self, runner: Any, begin: Callable[[Future[Any]], Awaitable[None]]) -> None:
        """Have an async call made in the event loop of this runner."""
        assert self._context is not None
        self.loop_thread = runner.submit_async(partial(self.run_async, begin), self._context)

    def withdraw(self) -> bool:
        """Take the call back if it has not begun."""
        with self.caller.lock:
            begun, self._begin = self._begin is None, None
        return not begun

    def led(self) -> None:
        """An async call is led by the task at hand of the event loop at hand."""
        import asyncio

        current = asyncio.current_task()
        assert current is not None
        with self.caller.lock:
            self._task = (asyncio.get_running_loop(), current)
            why = self._cancelled
        if why:
            self.frame.cut(why)

    def cancel(self, why: str) -> None:
        """End an async call that is under way, at its next await. Any other body cannot be stopped from outside."""
        with self.caller.lock:
            frame = self._frame
            if self._begin is not None or frame is None or self._state is not None or frame.remote is not None:
                return
            if not frame.definition.owner.is_async:
                return
            self._cancelled, led = why, self._task
        frame.cut(why)
        if led is not None:
            with suppress(RuntimeError):  # its loop was closed meanwhile: it has ended
                led[0].call_soon_threadsafe(led[1].cancel)

    def settle(self, state: State | BaseException) -> None:
        """The call has ended: with a state, or with an error of the engine."""
        frame = self._frame
        if frame is None:
            return
        self.caller.ended(self, frame.run.state)  # before anybody can see it: whoever waited may end the flow next
        run, broken, name, live = frame.run, True, "", _DECODED
        kept: State | _Well | BaseException = state
        if not isinstance(state, BaseException):
            broken = False
            spec, well = run.spec, _well(state, run)
            name = "" if spec is None else spec.run_name
            if well is None:
                frame.log.show(state, run)
            else:
                kept, live = well, vars(state).get("live", _DECODED)
        with self.caller.lock:
            if self._state is not None:
                return
            if broken:
                self._state = kept
            else:
                self._name = name
                if frame.level != "lazy":
                    self._ticket = frame.ticket
                self._live = live
                self._state, self._frame = kept, None  # in this order, for whoever looks without the lock
        self.tell()

    def tell(self) -> None:
        """Wake those who wait for the end, and call those who asked to be called; again, if an interruption came in between."""
        self._begin = self._begin_async = self._going = self._context = self._task = None  # what they hold is not kept
        latch = self._latch
        if latch is not None:
            with suppress(RuntimeError):  # it was let go of, and the interruption came then
                latch.release()
            self._latch = None
        if self._callbacks is None:  # and none comes any more: the call has ended
            return
        with self.caller.lock:
            callbacks, self._callbacks = self._callbacks or (), None
        for callback in callbacks:
            callback(self)

    @property
    def looked_at(self) -> bool:
        """Whether somebody has seen how the call ended."""
        return self._looked

    def look(self) -> None:
        """Note that somebody has seen how the call ended."""
        self._looked = True

    @property
    def frame(self) -> Frame:
        """The run behind the future, for as long as it has not ended; nobody asks for it later."""
        frame = self._frame
        assert frame is not None
        return frame

    @property
    def run_name(self) -> str:
        """The name of the run."""
        frame = self._frame
        return self._name if frame is None else frame.run.birth.run_name

    def called_by(self, frame: Frame) -> bool:
        """Whether the body of this run, as it is called now, has submitted the call."""
        return frame.called is self.caller

    # --- for people

    @property
    def task_run_id(self) -> str:
        """The id of the run."""
        return id_text(self.run_id)

    @property
    def state(self) -> State:
        """The state of the run; a final one once the call has ended."""
        frame = self._frame
        state = self._state
        if type(state) is _Well:
            state = self._made_again(state)
        if isinstance(state, State):
            self._looked = True
            return state
        assert frame is not None  # it goes when there is a state, and was asked for first
        current = frame.run.state
        assert current is not None
        return current

    def _made_again(self, well: _Well) -> State:
        """The state of a call that ended well; from now on it is kept, so that whoever asks again is given the same."""
        made = well.state(self.run_id, self.caller.session.log)
        if self._live is not _DECODED:
            made.carry(self._live)
        with self.caller.lock:
            if self._state is well:
                self._state = made
            return cast("State", self._state)  # somebody else has made it

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._state is not None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, at most so many seconds; never raises for a failed call or a passed time."""
        if self._state is not None:
            return
        if self.loop_thread == threading.get_ident():
            raise RuntimeError(
                f"Waiting for {self!r} here would block the event loop that makes the call. Write `await future`, or"
                " `await asyncio.gather(*futures)`."
            )
        here, frame = current_frame.get(), self._frame
        if timeout is None and here is not None and frame is not None and here.works_for(frame):
            # A worker that waits for a call of its own pool makes it, if nobody has begun it: no deadlock.
            self.run()
        limit = None if here is None else here.time_left()
        until = min((t for t in (timeout, limit) if t is not None), default=None)
        with self.caller.lock:
            if self._state is not None:
                return
            latch = self._latch
            if latch is None:
                latch = threading.Lock()
                latch.acquire()
                self._latch = latch  # held already: who is interrupted here leaves none that is open
        if latch.acquire(timeout=-1 if until is None else max(until, 0.0)):
            with suppress(RuntimeError):
                latch.release()  # for the next who waits
        elif here is not None and limit is not None and until == limit:
            here.checkpoint()

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """
        The result of the call, waiting for it.

        Args:
            timeout: At most so many seconds.
            raise_on_failure: With False an exception is returned.

        Raises:
            TimeoutError: The call has not ended in time.
        """
        self.wait(timeout)
        state = self._state
        if state is None:
            raise TimeoutError(f"{self!r} has not ended after {timeout} seconds; it goes on.")
        self._looked = True
        if isinstance(state, BaseException):
            raise state
        if self._ticket is not None:
            here = current_frame.get()
            # Outside of its flow only what is durable is seen.
            if here is None or here.session is not self.caller.session:
                self._ticket.wait()
        if type(state) is _Well:
            if self._live is not _DECODED:
                return cast(R, self._live)
            state = state.state(self.run_id, self.caller.session.log)
        return cast(R, state.result(raise_on_failure))

    def add_done_callback(self, callback: Callable[[Future[Any]], None]) -> None:
        """Call this with the future once the call has ended; at once if it has."""
        with self.caller.lock:
            if self._state is None:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback(self)

    async def ended(self) -> None:
        """Wait for the end without blocking the event loop; nobody has looked at it by this."""
        here = current_frame.get()
        if self._state is None:
            await self._end(here)
        turns = None if here is None or not self.called_by(here) else here.turns
        if turns is not None:
            await turns.answer(self.run_id)

    async def _end(self, here: Frame | None) -> None:
        """Wait until the call has ended, and make it here if nobody else may."""
        import asyncio

        making: asyncio.Task[None] | None = None
        frame, begin, context = self._frame, self._begin_async, self._context
        if self._begin is None or self.loop_thread or here is None or frame is None or not here.occupies_worker(frame):
            pass
        # As in `wait`: a worker that awaits a call of its own pool makes it, if nobody has begun it.
        elif begin is None or context is None or frame.remote is not None:
            self.run()
        else:
            making = begin(self, context)  # held here, since the loop holds tasks weakly
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def tell(_: Any) -> None:
            loop.call_soon_threadsafe(lambda: None if ended.done() else ended.set_result(None))

        self.add_done_callback(tell)
        await ended
        del making

    def __await__(self) -> Generator[Any, None, R]:
        """In a coroutine: wait without blocking the event loop, then give the result."""
        yield from self.ended().__await__()
        return self.result()

    def __repr__(self) -> str:
        state = self._state
        if type(state) is _Well:
            word = Completed.kind
        else:
            word = "open" if state is None else state.kind if isinstance(state, State) else "broken"
        return f"<Future {self.run_name} {word}>"


class FutureList(list[Future[T]]):
    """The futures of one ``map``, in the order of its inputs."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all, at most so many seconds in all."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[T]:
        """
        All results in order; the first failure raises.

        Raises:
            TimeoutError: Not all have ended in time.
        """
        until = None if timeout is None else time.monotonic() + timeout
        return [
            future.result(None if until is None else max(until - time.monotonic(), 0.0), raise_on_failure)
            for future in self
        ]


class Waited(NamedTuple):
    """What `wait` gives back."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> Waited:
    """
    Wait until all have ended.

    Args:
        futures: Futures of submitted or mapped calls.
        timeout: At most so many seconds in all; None waits for as long as it takes.

    Returns:
        The futures that have ended, and those that have not.
    """
    _not_negative(timeout)
    waiting = list(futures)
    until = None if timeout is None else time.monotonic() + timeout
    for future in waiting:
        future.wait(None if until is None else max(until - time.monotonic(), 0.0))
    done = {future for future in waiting if future.done()}
    return Waited(done, set(waiting) - done)


def as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
    """
    Yield each future once, in the order in which they end.

    Raises:
        TimeoutError: Some have not ended after ``timeout`` seconds in all; the message counts them.
    """
    _not_negative(timeout)
    from queue import Empty, SimpleQueue

    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    waiting = set(futures)
    total = len(waiting)
    until = None if timeout is None else time.monotonic() + timeout
    for future in sorted(waiting, key=_recorded_end):
        future.add_done_callback(ended.put)
    while waiting:
        try:
            future = ended.get(timeout=None if until is None else max(until - time.monotonic(), 0.0))
        except Empty:
            raise TimeoutError(f"{len(waiting)} of {total} futures have not ended after {timeout} seconds.") from None
        waiting.discard(future)
        yield future


def _recorded_end(future: Future[Any]) -> float:
    """Where the end stands that a call had when its flow was led before; those without one come last."""
    here = current_frame.get()
    cues = None if here is None or not future.done() or not future.called_by(here) else here.cues
    at = None if cues is None else cues.ended(future.run_id)
    return math.inf if at is None else at


def _not_negative(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError(f"A timeout is 0 or more seconds, not {timeout!r}.")

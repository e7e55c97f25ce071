"""
Time that is not waited for: the clock of a replay, and an event loop whose timers and recorded answers come in turn.

The loop does what is ready; when nothing is, it goes on to whatever comes next by the clock of the record: a timer of the
code, or an answer that was given then. So coroutines interleave as they did, and nobody sleeps.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from heapq import heappop, heappush
from itertools import count
from typing import Any

from .signals import RecordEnds

__all__ = ["RecordedTime", "VirtualLoop"]


class RecordedTime:
    """
    A clock that follows a record: it stands at the time of what is being told again, and jumps over every sleep.

    Args:
        start: UTC seconds since the epoch.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self.passed: float = 0.0
        """Seconds since the start."""
        self.stuck: bool = False
        """Whether the code waits for something that never comes."""

    def now(self) -> float:
        """UTC seconds since the epoch."""
        return round(self._start + self.passed, 6)

    def move_to(self, at: float) -> None:
        """It is at least so late, UTC seconds."""
        self.passed: float = max(self.passed, at - self._start)

    def sleep_until(self, due: float) -> None:
        """Be there at once."""
        self.move_to(due)

    async def wait_until(self, due: float) -> None:
        """The same for coroutines."""
        self.move_to(due)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that keeps the time of a record."""

    def __init__(self, clock: RecordedTime) -> None:
        self._recorded = clock
        self._cues: list[tuple[float, float, int, asyncio.Future[None]]] = []
        self._number = count()
        self._abroad = 0  # calls in threads, for which it has to wait in earnest
        super().__init__(_Idling(self))
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the record began."""
        return self._recorded.passed

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """As any loop does; while a thread is at work, time does not jump."""
        future = super().run_in_executor(executor, func, *args)
        self._abroad += 1

        def back(_: Any) -> None:
            self._abroad -= 1

        future.add_done_callback(back)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As any loop does."""
        self._abroad += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._abroad -= 1

    async def cue(self, at: float, position: float) -> None:
        """
        Wait for the turn of a recorded answer.

        Args:
            at: When it was given, UTC seconds; infinite for one that is not on record: when nothing else goes on.
            position: Which comes first of two that were given at the same time.
        """
        turn: asyncio.Future[None] = self.create_future()
        heappush(self._cues, (at, position, next(self._number), turn))
        await turn

    def idle(self, selector: _Idling, timeout: float | None) -> list[Any]:
        """Nothing is ready: go on to what comes next."""
        if self._abroad or len(selector.get_map()) > 1:  # more than the pair of sockets that wakes this loop
            began = time.monotonic()
            events = selector.wait(timeout)
            self._recorded.passed += time.monotonic() - began
            return events
        while self._cues and self._cues[0][3].done():  # nobody waits for it any more
            heappop(self._cues)
        clock = self._recorded
        timer = math.inf if timeout is None else clock.now() + timeout
        if self._cues and self._cues[0][0] <= timer and self._cues[0][0] < math.inf:
            at, _, _, turn = heappop(self._cues)
            clock.move_to(at)
            turn.set_result(None)
        elif timeout is not None:
            clock.passed += timeout
        elif self._cues:
            for _, _, _, turn in self._cues:
                if not turn.done():
                    turn.set_result(None)
            self._cues.clear()
        else:
            clock.stuck = True
            raise RecordEnds("idle", "the code waits for something that does not come from the record")
        return []


class _Idling(selectors.DefaultSelector):  # type: ignore[reportUntypedBaseClass]
    """A selector that tells its loop when there is nothing to do."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready now; where nothing is, what the loop makes of that."""
        events = self.wait(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        return self._loop.idle(self, timeout)

    def wait(self, timeout: float | None) -> list[Any]:
        """What is ready, waiting for it in earnest."""
        return super().select(timeout)

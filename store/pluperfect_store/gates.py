"""What transactions of one process have to agree on: reads share, and a resize of the map has to be alone for a moment."""

from __future__ import annotations

import sys
import threading
import time
from types import CodeType
from typing import Final

__all__ = ["Gate", "MapFull", "MapResized", "Visit"]

_SOON: Final = 0.2
"""After so many seconds who waits to be alone looks whether those inside are there at all."""


class MapFull(Exception):
    """The transaction is void; make the map larger and do it again."""


class MapResized(Exception):
    """Another process made the map larger; take its size over and do it again."""


class Visit:
    """
    Somebody inside of a gate, in a ``with`` block of this code in this thread.

    A signal may interrupt him as he is about to leave. Nobody leaves in his place then; but his block is no more, and whoever
    waits for it can see that.
    """

    __slots__ = ("code", "thread")

    code: CodeType
    thread: int

    def is_over(self) -> bool:
        """Whether the thread is in that code no more."""
        from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR

        left = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
        frame, last = sys._current_frames().get(self.thread), None
        while frame is not None and frame.f_code is not self.code:
            frame, last = frame.f_back, frame
        # A generator that was left while this looked has nothing behind it, and there the way ends before its time.
        return frame is None and not (last is not None and last.f_code.co_flags & left)


class Gate:
    """
    Many may be inside at once; a resize of the map, a fork or a close waits until nobody is, and keeps
    others out meanwhile. Whoever is inside must not enter again.
    """

    __slots__ = ("_alone", "_cond", "_lock", "inside")

    def __init__(self) -> None:
        # Entered by itself, not as the condition: who is interrupted between the two would leave it locked.
        self._lock = threading.Lock()
        self._cond = threading.Condition(self._lock)
        self._alone = False
        self.inside: set[Visit] = set()

    def enter(self, visit: Visit) -> None:
        """Go in, once nobody has to be alone any more. Who is interrupted here has to leave: he may be inside."""
        with self._lock:
            while self._alone:
                self._cond.wait()
            self.inside.add(visit)

    def leave(self, visit: Visit) -> None:
        """Go out, if inside."""
        self.inside.discard(visit)
        with self._lock:
            if self._alone and not self.inside:  # else nobody waits for that
                self._cond.notify_all()

    def shut(self, timeout: float | None = None) -> bool:
        """
        Keep everybody out, and wait until nobody is inside.

        Returns:
            False where somebody still was after ``timeout`` seconds; the gate is shut all the same.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while self._alone:
                self._cond.wait()
            self._alone = True
            before: set[Visit] = set()
            while self.inside:
                left = _SOON if until is None else until - time.monotonic()
                if left <= 0:
                    return False
                if not self._cond.wait(min(left, _SOON)):
                    over = {visit for visit in self.inside.copy() if visit.is_over()}
                    self.inside -= over & before  # found so twice
                    before = over
        return True

    def open(self) -> None:
        """Let everybody in again."""
        with self._lock:
            self._alone = False
            self._cond.notify_all()

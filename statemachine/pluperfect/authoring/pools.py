"""
Threads that make the calls which are submitted to a flow's runner.

Short calls are made by one thread, one after the other: with a thread woken for each, as the executors of the standard
library do it, the wake-ups cost more than the call, and the threads take the interpreter from each other. One thread more,
the spare, looks now and then whether calls wait and none was begun since it last looked. Then those that are under way
block, and it takes the next one, and sends for another spare.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["Pool"]

_log: Final = logging.getLogger("pluperfect.engine")

_LOOK: Final = 0.0002
"""Seconds between two looks of the spare thread, while calls wait."""

_open: Final[weakref.WeakSet[Pool]] = weakref.WeakSet()


class Pool:
    """
    Threads, begun as they are needed.

    Args:
        most: How many there may be.
        name: What their names begin with.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._calls: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle: list[threading.Lock] = []  # each is let go of to wake the thread that waits for it
        self._begun = 0  # calls
        self._busy = 0  # threads that make a call
        self._spare = False  # there is one, or it is on its way
        self._closed = False
        _open.add(self)

    def submit(self, call: Callable[[], None]) -> None:
        """
        Have this called in one of the threads.

        Raises:
            RuntimeError: The pool is closed, or its first thread cannot be begun.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the runner is closed: it takes no more calls")
            self._calls.append(call)
            if not self._spare:
                self._send_for_spare()

    def close(self) -> None:
        """Wait for every call that was submitted, and end the threads."""
        with self._lock:
            self._closed = True
            for waiting in self._idle:
                waiting.release()
            self._idle.clear()
        for thread in self._threads:
            thread.join()
        _open.discard(self)

    def _send_for_spare(self) -> None:
        """Wake a thread, or begin one, where there may be more; the lock is held."""
        if self._idle:
            self._spare = True
            self._idle.pop().release()
        elif len(self._threads) < self._most:
            # A daemon, and waited for at the end of the process all the same: see `_close_all`.
            thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._spare = True
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:
                self._spare = False
                self._threads.pop()
                if not self._threads:
                    self._calls.pop()
                    raise

    def _work(self) -> None:
        awake = threading.Lock()
        awake.acquire()
        spare, seen = True, -1
        while True:
            call: Callable[[], None] | None = None  # what the last one held is not kept while the thread waits
            with self._lock:
                calls = self._calls
                if not calls:
                    if spare:
                        spare = self._spare = False
                    if self._closed:
                        return
                    self._idle.append(awake)
                elif not spare or not self._busy or self._begun == seen:
                    call = calls.popleft()
                    self._begun += 1
                    self._busy += 1
                    if spare:
                        spare = self._spare = False
                    if calls and not self._spare:
                        self._send_for_spare()
                else:
                    seen = self._begun
            if call is not None:
                try:
                    call()
                except BaseException:
                    _log.exception("a call raised in a thread of the runner")
                with self._lock:
                    self._busy -= 1
            elif spare:
                awake.acquire(timeout=_LOOK)
            else:
                awake.acquire()
                spare, seen = True, -1


def _close_all() -> None:
    for pool in list(_open):
        pool.close()


atexit.register(_close_all)

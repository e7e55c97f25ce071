"""
Threads that make the calls which are submitted to a flow's runner.

A thread is woken for many calls, not for each: whoever takes a call while more are waiting wakes the next thread, and
while one is on its way nobody wakes another. So short calls are made by few threads, one after the other, and calls that
block leave the others to those that come. With one wake-up for each call, as the executors of the standard library make
it, the wake-ups cost more than a short call itself.
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
        self._coming = False  # a thread was woken, or begun, and has not looked yet
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
            if not self._coming:
                self._send_for_one()

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

    def _send_for_one(self) -> None:
        """Wake a thread, or begin one, where there may be more; the lock is held."""
        if self._idle:
            self._coming = True
            self._idle.pop().release()
        elif len(self._threads) < self._most:
            # A daemon, and waited for at the end of the process all the same: see `_close_all`.
            thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._coming = True
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:
                self._coming = False
                self._threads.pop()
                if not self._threads:
                    self._calls.pop()
                    raise

    def _work(self) -> None:
        awake = threading.Lock()
        awake.acquire()
        while True:
            call: Callable[[], None] | None = None  # what the last one held is not kept while the thread waits
            with self._lock:
                self._coming = False
                if self._calls:
                    call = self._calls.popleft()
                    if self._calls:
                        self._send_for_one()
                elif self._closed:
                    return
                else:
                    self._idle.append(awake)
            if call is None:
                awake.acquire()
                continue
            try:
                call()
            except BaseException:
                _log.exception("a call raised in a thread of the runner")


def _close_all() -> None:
    for pool in list(_open):
        pool.close()


atexit.register(_close_all)

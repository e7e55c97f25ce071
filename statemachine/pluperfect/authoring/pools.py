"""
Threads that make the calls which are submitted to a flow's runner.

Short calls are made by one thread, one after the other: with a thread woken for each, as the executors of the standard
library do it, the wake-ups cost more than the call, and the threads take the interpreter from each other. One thread more,
the spare, looks now and then whether calls wait and none was begun since it last looked. Then those that are under way
block, and it takes the next one, and sends for another spare. Where the interpreter makes the spare wait, others compute and
may just not have had their turn: then it looks some more times before it believes that.

A call that only waits for a commit holds no thread: it gives the ticket that it waits for, and is gone on with when that is
done. So one thread can bring many calls to the same commit, instead of as many threads that are all woken by it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..locks import give_way

if TYPE_CHECKING:
    from ..hooks import Ticket

__all__ = ["Pool", "Step"]

Step = Callable[[], "Ticket | None"]
"""Makes a call up to where it waits for an append, whose ticket it gives; called again, it goes on. None: it is over."""

_log: Final = logging.getLogger("pluperfect.engine")

_LOOK: Final = 0.0002
"""Seconds between two looks of the spare thread, while calls wait. Each look takes the interpreter away from those who make
calls: as long as they begin some, it is twice as long to the next one."""

_LOOK_LATER: Final = 0.005
"""But never longer."""

_LATE: Final = 0.002
"""By how many seconds the spare thread is awake later than it wanted where somebody computes."""

_LATE_LOOKS: Final = 8
"""How often it looks where somebody does, each time at least for as long as a thread may keep the interpreter (5 ms)."""

_open: Final[weakref.WeakSet[Pool]] = weakref.WeakSet()


class Pool:
    """
    Threads, begun as they are needed.

    Args:
        most: How many there may be, and how many calls under way.
        name: What their names begin with.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._calls: deque[Step] = deque()
        self._ready: deque[Step] = deque()  # those that have been begun, and can go on
        self._threads: list[threading.Thread] = []
        self._idle: list[threading.Lock] = []  # each is let go of to wake the thread that waits for it
        self._begun = 0  # steps of calls
        self._busy = 0  # threads that make a call
        self._away = 0  # calls that wait for a commit, or can go on
        self._spare = False  # there is one, or it is on its way
        self._closed = False
        _open.add(self)

    def submit(self, call: Step) -> None:
        """
        Have this called in one of the threads, again and again until it is over.

        Raises:
            RuntimeError: The pool is closed, or its first thread cannot be begun.
        """
        self._calls.append(call)
        try:
            if self._closed:  # asked when the call is there: who ends the threads looks whether there is one
                raise RuntimeError("the runner is closed: it takes no more calls")
            self._added()
        except RuntimeError:
            try:
                self._calls.remove(call)
            except ValueError:
                return  # a thread has taken it all the same
            raise

    def close(self) -> None:
        """Wait for every call that was submitted, and end the threads."""
        with self._lock:
            self._closed = True
            self._wake_all()
        for thread in self._threads:
            if thread.is_alive():  # one that was interrupted as it began may never have
                thread.join()
        _open.discard(self)

    def _wake_all(self) -> None:
        for waiting in self._idle:
            if waiting.locked():
                waiting.release()
        self._idle.clear()

    def _next(self) -> deque[Step] | None:
        """Where the next step to make is taken from; None where there is none, or no more calls may be begun."""
        if self._ready:
            return self._ready
        return self._calls if self._calls and self._busy + self._away < self._most else None

    def _go_on(self, call: Step) -> None:
        """What this call waited for is done."""
        self._ready.append(call)
        self._added()

    def _added(self) -> None:
        """
        See to it that somebody looks at what was added.

        Mostly a spare thread does, and no lock is taken: it says that it looks no more before it looks for the last time.
        """
        if not self._spare:
            give_way(self._lock.locked)
            with self._lock:
                if not self._spare and self._next() is not None:
                    self._send_for_spare()

    def _send_for_spare(self) -> None:
        """
        Wake a thread, or begin one, where there may be more; the lock is held.

        That one is on its way is noted last: who is interrupted before leaves the next one to send again.
        """
        while self._idle:
            waiting = self._idle[-1]
            sleeps = waiting.locked()  # else it was woken by somebody who was interrupted as he did
            if sleeps:
                waiting.release()
            self._idle.pop()
            if sleeps:
                self._spare = True
                return
        if len(self._threads) < self._most:
            # A daemon, and waited for at the end of the process all the same: see `_close_all`.
            thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            try:
                thread.start()
            except BaseException as error:
                if not thread.is_alive():  # one that was interrupted as it began may come yet: then it ends itself
                    self._threads.remove(thread)
                if not isinstance(error, RuntimeError) or not self._threads:
                    raise
            else:
                self._spare = True

    def _straight_on(self) -> Step | None:
        """
        The next call for a thread whose last one is over, where the spare looks after the others; else None.

        One call ends and one begins: nothing changes that the lock guards, and it is not taken.
        """
        if not self._spare or self._ready:
            return None
        try:
            call = self._calls.popleft()
        except IndexError:
            return None
        self._begun += 1  # one may be lost between two threads: it only has to move
        return call

    def _work(self) -> None:
        awake = threading.Lock()
        awake.acquire()
        spare, seen, late, pause = True, -1, 0, _LOOK
        ticket: Ticket | None = None
        made = False
        while True:
            # What the last one held is not kept while the thread waits.
            call = self._straight_on() if made and ticket is None else None
            if call is None:
                give_way(self._lock.locked)
                with self._lock:
                    if made:
                        made = False
                        self._busy -= 1
                        self._away += ticket is not None
                        ticket = None
                    steps = self._next()
                    if steps is None:
                        if spare:
                            spare = self._spare = False
                        if self._closed and not self._calls and not self._away:
                            self._wake_all()
                            return
                        if self._next() is not None:
                            continue  # it came just before this thread said that it looks no more
                        self._idle.append(awake)
                    elif spare and self._busy and self._begun != seen:
                        seen, late, pause = self._begun, 0, min(2 * pause, _LOOK_LATER)
                    elif spare and self._busy and 0 < late < _LATE_LOOKS:
                        pause = _LOOK
                    else:
                        try:
                            call = steps.popleft()
                        except IndexError:
                            continue  # a thread that went straight on has it
                        self._begun += 1
                        self._busy += 1
                        self._away -= steps is self._ready
                        if spare:
                            spare = self._spare = False
                        if not self._spare and self._next() is not None:
                            self._send_for_spare()
            if call is not None:
                made = True
                try:
                    ticket = call()
                except BaseException:
                    _log.exception("a call raised in a thread of the runner")
                if ticket is not None:
                    ticket.notify(partial(self._go_on, call))
            elif spare:
                slept = time.monotonic()
                awake.acquire(timeout=pause)
                if late or time.monotonic() - slept > pause + _LATE:
                    late += 1
            else:
                awake.acquire()
                spare, seen, late, pause = True, -1, 0, _LOOK


def _close_all() -> None:
    for pool in list(_open):
        pool.close()


atexit.register(_close_all)

"""Signals at chosen moments: an exception in this thread, at the nth place where Python would look for a signal; what comes of it."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from contextvars import copy_context
from functools import cache


def interrupted(act, nth, kind=KeyboardInterrupt):
    """
    Do this, interrupted by an exception of this kind, which says where it was, at the nth place where Python looks for a
    signal: as a function begins, and when a call of C has returned. Places inside of Python's own `threading` are left out,
    which is not made for that, and the one at which a `with` has entered something written in C, and is not yet sure to leave
    it: Python 3.14 looks there (python/cpython#148874), earlier and later releases do not.

    Returns:
        What `act` raised, or None; and whether there was an nth place. Both hold where the exception was swallowed, as in a
        generator that is collected.
    """
    places, rung = itertools.count(1), []

    def ring(frame, event, argument):
        if event not in {"call", "c_return"} or frame.f_code.co_filename == threading.__file__:
            return
        if event == "c_return" and argument.__name__ == "__enter__":
            return
        if next(places) == nth:
            sys.setprofile(None)
            rung.append(True)
            raise kind(f"{frame.f_code.co_qualname}, line {frame.f_lineno}, {event}")

    sys.setprofile(ring)
    try:
        act()
    except BaseException as error:
        return error, bool(rung)
    finally:
        sys.setprofile(None)
    return None, bool(rung)


@cache
def a_with_may_be_left_open():
    """Whether this Python looks for signals where a `with` has taken a lock and is not yet sure to let go of it."""

    class RungError(Exception):
        pass

    def ring(*_):
        raise RungError

    lock, rung = threading.Lock(), 0
    before = signal.signal(signal.SIGALRM, ring)
    try:
        while rung < 200 and not lock.locked():
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4)
                while True:
                    with lock:
                        pass
            except RungError:
                rung += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    return lock.locked()


def in_time(act, when=""):
    """What this gives in another thread, in this one's context; where it hangs or raises, the test fails and says when that was."""
    given = []
    thread = threading.Thread(target=copy_context().run, args=(lambda: given.append(act()),), daemon=True)
    thread.start()
    thread.join(30)
    assert given, f"it hangs, or has raised {when}"
    return given[0]

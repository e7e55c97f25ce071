"""Signals at chosen moments: an exception in this thread, at the nth place where Python would look for a signal; what comes of it."""

from __future__ import annotations

import itertools
import sys
import threading
from contextvars import copy_context


def interrupted(act, nth, kind=KeyboardInterrupt):
    """
    Do this, interrupted by an exception of this kind, which says where it was, at the nth place where Python looks for a
    signal: as a function begins, and when a call of C has returned. Places inside of Python's own `threading` are left out,
    which is not made for that.

    Returns:
        What `act` raised, or None; and whether there was an nth place. Both hold where the exception was swallowed, as in a
        generator that is collected.
    """
    places, rung = itertools.count(1), []

    def ring(frame, event, argument):
        if event not in {"call", "c_return"} or frame.f_code.co_filename == threading.__file__:
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


def in_time(act, when=""):
    """What this gives in another thread, in this one's context; where it hangs or raises, the test fails and says when that was."""
    given = []
    thread = threading.Thread(target=copy_context().run, args=(lambda: given.append(act()),), daemon=True)
    thread.start()
    thread.join(30)
    assert given, f"it hangs, or has raised {when}"
    return given[0]

"""Other threads at chosen moments: all that another thread does between two byte codes of this one, or turns at random."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from contextlib import contextmanager

PATIENCE = 0.01  # seconds for the other to end; he may have to wait for what this thread holds
ROOMS = {"pluperfect", "pluperfect_store", "pluperfect_plugins"}


def raced(act, other, nth):
    """
    Do this, and before the nth byte code of this library in it the other thing, in a thread of its own; both to their ends.

    Python by itself changes threads where a function begins, at calls and at the ends of loops only; under a debugger, or a
    tracer that is written in Python, it does so anywhere.

    Returns:
        What this raised, what the other raised (None: nothing), and where the other came; None where there is no nth byte code.
    """
    places, met, raised = itertools.count(1), [], {}

    def attempt(which, work):
        try:
            work()
        except BaseException as error:
            raised[which] = error

    beside = threading.Thread(target=attempt, args=("other", other), daemon=True)

    def look(frame, event, _):
        if met or frame.f_globals.get("__name__", "").partition(".")[0] not in ROOMS:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and next(places) == nth:
            met.append(f"{frame.f_code.co_qualname}, line {frame.f_lineno}, {frame.f_lasti}")
            beside.start()
            beside.join(PATIENCE)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        attempt("act", act)
    finally:
        sys.settrace(before)
    if not met:
        return None
    beside.join(30)
    assert not beside.is_alive(), f"the other hangs, who came at {met[0]}"
    return raised.get("act"), raised.get("other"), met[0]


def look_at_all(act):
    """Do this as `raced` does it, with nobody else: from Python 3.13 on, a function is looked at from its second call on."""
    raced(act, None, 0)


def raced_everywhere(prepare, other):
    """
    Race what is prepared anew each time at one byte code after the other.

    Args:
        prepare: Gives what to do, and what has to be asserted when both are over; it takes where the other came.

    Returns:
        How many byte codes there were.
    """
    look_at_all(lambda: prepare()[0]())
    for nth in itertools.count(1):
        act, then = prepare()
        met = raced(act, other, nth)
        if met is None:
            return nth - 1
        mine, others, where = met
        assert (mine, others) == (None, None), f"with the other at {where}"
        then(where)


@contextmanager
def at_random(seed, share):
    """While many threads go: each gives the interpreter away before this share of the byte codes of this library, chosen by the seed."""
    chance = random.Random(seed)

    def look(frame, event, _):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ROOMS:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and chance.random() < share:
            time.sleep(chance.choice((0, 0, 2e-4, 1e-3)))
        return look

    threading.settrace(look)
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)

"""
Calls that may take only so long.

In the main thread a timer signal interrupts the body, blocking calls included. Elsewhere, and where the
host uses the signal itself, the body runs in a thread of its own: at the deadline the caller goes on, the
thread is asked to stop (an exception is raised in it at its next byte code) and its late end is dropped.
**A thread that is blocked outside Python cannot be killed**; a process runner can.
"""

from __future__ import annotations

import logging
import opcode
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import Any, Final

__all__ = ["DeadlinePassed", "call_within"]

_log: Final = logging.getLogger("pluperfect.engine")

_LOAD_SPECIAL: Final = opcode.opmap.get("LOAD_SPECIAL")
"""The byte code before the call by which a ``with`` enters; there is none before Python 3.14."""

_MOMENT: Final = 1e-4  # seconds


class DeadlinePassed(BaseException):
    """Raised inside a body whose time is up."""


class _Alarm:
    """One armed limit of the main thread; limits nest, and the timer always serves the earliest."""

    __slots__ = ("at", "live")

    def __init__(self, at: float) -> None:
        self.at, self.live = at, True


_alarms: list[_Alarm] = []


def _ring(_number: int, frame: FrameType | None) -> None:
    if _LOAD_SPECIAL is not None and _is_entering(frame):
        import signal

        signal.setitimer(signal.ITIMER_REAL, _MOMENT)
        return
    now = time.monotonic()
    for alarm in _alarms:  # the outermost that is due ends the most
        if alarm.live and alarm.at <= now:
            alarm.live = False
            raise DeadlinePassed(alarm)
    _rearm()


def _is_entering(frame: FrameType | None) -> bool:
    """
    Whether a ``with`` in this frame has entered what it is about, and is not yet sure to leave it.

    Python 3.14 looks for signals there, earlier and later releases do not: what is raised then leaves a lock taken for ever
    (python/cpython#148874).
    """
    while frame is not None and frame.f_code in {_ring.__code__, _is_entering.__code__}:
        frame = frame.f_back  # it has rung again while that was asked
    return frame is not None and frame.f_lasti >= 2 and frame.f_code.co_code[frame.f_lasti - 2] == _LOAD_SPECIAL


def _rearm() -> None:
    import signal

    waiting = [alarm.at for alarm in _alarms if alarm.live]
    signal.setitimer(signal.ITIMER_REAL, max(min(waiting) - time.monotonic(), 1e-6) if waiting else 0.0)


def _may_use_signals() -> bool:
    import signal

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return False
    return signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, _ring)


def call_within(seconds: float, call: Callable[[], Any], abandoned: set[int]) -> Any:
    """
    Call this and give back what it returns or raises.

    Args:
        seconds: The limit.
        call: Takes nothing.
        abandoned: Takes the identifier of a thread whose body was given up, for as long as it still runs.

    Raises:
        DeadlinePassed: The limit passed first.
    """
    return _by_signal(seconds, call) if _may_use_signals() else _by_thread(seconds, call, abandoned)


def _by_signal(seconds: float, call: Callable[[], Any]) -> Any:
    import signal

    alarm = _Alarm(time.monotonic() + seconds)
    before = signal.signal(signal.SIGALRM, _ring)
    try:
        _alarms.append(alarm)  # inside: one that is left in place would ring amid somebody else's work
        _rearm()
        result = call()
        if not alarm.live:
            raise DeadlinePassed(
                alarm
            )  # it has rung, and the body has swallowed it: as in a thread, its end is dropped
        alarm.live = False  # from here on the body has ended in time, whatever rings
        return result
    except DeadlinePassed as passed:
        if passed.args and passed.args[0] is alarm:
            raise DeadlinePassed from None
        raise  # an outer limit
    except BaseException:
        if not alarm.live:
            raise DeadlinePassed from None  # what the body makes of its deadline comes too late
        raise
    finally:
        alarm.live = False
        if alarm in _alarms:
            _alarms.remove(alarm)
        _rearm()
        if not _alarms:
            signal.signal(signal.SIGALRM, before)


def _by_thread(seconds: float, call: Callable[[], Any], abandoned: set[int]) -> Any:
    ended = threading.Event()
    outcome: list[Any] = [None, None]
    given_up = False

    def run() -> None:
        try:
            outcome[0] = call()
        except BaseException as error:
            outcome[1] = error
        ended.set()
        abandoned.discard(threading.get_ident())
        if given_up and not isinstance(outcome[1], DeadlinePassed):
            _log.warning(
                "a call that had run into its timeout of %g s ended after all; its outcome is dropped", seconds
            )

    thread = threading.Thread(target=copy_context().run, args=(run,), name="pluperfect-limited", daemon=True)
    thread.start()
    if not ended.wait(seconds):
        given_up = True
        if thread.ident is not None and not ended.is_set():
            import ctypes

            abandoned.add(thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(DeadlinePassed))
        raise DeadlinePassed
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]

"""
Is a rule a function of what it is given? It is asked twice, with files and network closed, and watched for clocks and chance.

Python's profiler shows each call that a rule makes into C: that is where clocks are read and numbers drawn, whatever name
they were imported under. What a rule says to a logger is no answer, and not looked at.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from types import FrameType
from typing import Any, Final

from .errors import ImpureRule, SideEffect
from .rules import Proposal, Verdict
from .strict import Watch, strict
from .transitions import Run, sentence

__all__ = ["agree", "watched"]

_ADVICE: Final = (
    "A rule answers from what it is given: the time is proposal.at, a number is pluperfect.rules.draw(run); what else it needs"
    ' stands on the run, or is asked of an option by Verdict(ask="...").'
)

_CLOCKS: Final = {
    getattr(time, name): f"time.{name}"
    for name in (
        "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time"
        " thread_time_ns clock_gettime clock_gettime_ns"
    ).split()
    if hasattr(time, name)
}
_CHANCE: Final = {
    getattr(os, name): f"os.{name}" for name in ("urandom", "getrandom") if hasattr(os, name)
}  # fmt: skip
_NOW: Final = frozenset({"now", "utcnow", "today"})
_ENVIRONMENT: Final[Any] = type(os.environ).__getitem__.__code__
_DRAWING: Final[Any] = vars(random)["_inst"]


def _told(event: str, frame: FrameType, arg: Any) -> tuple[str, str] | None:
    """What a call of a rule does that no rule may do, and Python's name of it."""
    if event == "call":
        return ("read the environment", "os.environ") if frame.f_code is _ENVIRONMENT else None
    if event != "c_call":
        return None
    owner: Any = getattr(arg, "__self__", None)
    try:
        if arg in _CLOCKS:
            return "read the clock", _CLOCKS[arg]
        if arg in _CHANCE:
            return "draw random bytes", _CHANCE[arg]
    except TypeError:  # bound to something that has no hash
        return None
    name = getattr(arg, "__name__", "")
    if isinstance(owner, type) and issubclass(owner, date) and name in _NOW:
        return "read the clock", f"{owner.__name__}.{name}"
    if arg is time.sleep:
        return "sleep", "time.sleep"
    if arg is input:
        return "ask the terminal", "input"
    if owner is _DRAWING and name in {"random", "getrandbits"}:
        return "draw a random number", "random"
    return None


def _excused(frame: FrameType | None) -> bool:
    """Whether an import or a logger does it."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in {"logging", "_frozen_importlib", "_frozen_importlib_external"}:
            return True
        if module == __name__:
            return False
        frame = frame.f_back
    return False


@contextmanager
def watched(rule: str, *, closely: bool = True) -> Iterator[None]:
    """
    Ask rules in here: whatever reaches outside is an error, also where the rule swallows it.

    Args:
        rule: The rule's name, for the message.
        closely: Look for clocks, chance and the environment too. It makes calls some times slower.

    Raises:
        ImpureRule: One did; the message names the line.
    """
    collecting = gc.isenabled()
    gc.disable()  # what others left to be tidied away would be tidied in here, and look like the rule's own doing
    previous = sys.getprofile()
    closely = closely and (previous is None or callable(previous))  # a profiler in C could not be given its place back
    with strict(f"rule {rule!r}", _ADVICE, reading=False) as watch:
        if closely:
            sys.setprofile(_spy(watch))
        try:
            yield
        except Exception as error:
            if watch.offences:
                raise _impure(rule, watch.offences[0]) from error
            raise
        finally:
            if closely:
                sys.setprofile(previous)
            if collecting:
                gc.enable()
    if watch.offences:
        raise _impure(rule, watch.offences[0])


def _spy(watch: Watch) -> Callable[[FrameType, str, Any], None]:
    def spy(frame: FrameType, event: str, arg: Any) -> None:
        told = _told(event, frame, arg)
        if told is not None and not _excused(frame):
            raise watch.stop(told[0], told[1], frame)

    return spy


def _impure(rule: str, offence: SideEffect) -> ImpureRule:
    return ImpureRule(
        f"Rule {rule!r} is not pure: {offence.place} tries to {offence.act} ({offence.event}).\n  {_ADVICE}"
    )


def agree(rule: str, run: Run, proposal: Proposal, first: Verdict | None, again: Verdict | None) -> None:
    """
    Hold two answers to one question against each other.

    Raises:
        ImpureRule: They differ.
    """
    if first != again:
        state = "nothing" if run.state is None else sentence(run.state)
        raise ImpureRule(
            f"Rule {rule!r} is not pure: asked twice about {state} -> {sentence(proposal.to)}, it answered\n"
            f"    {_said(first)}\n  and then\n    {_said(again)}\n  {_ADVICE}"
        )


def _said(verdict: Verdict | None) -> str:
    if verdict is None:
        return "None"
    given = {name: getattr(verdict, name) for name in ("to", "refuse", "delay", "ask", "why")}
    return f"Verdict({', '.join(f'{n}={_brief(v)}' for n, v in given.items() if v not in (None, ''))})"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."

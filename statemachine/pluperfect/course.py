"""
The course of one run, as a generator of effects.

It says what comes next and does nothing: an interpreter performs each effect and sends the answer in. The
sync and the async interpreter (``authoring/engine.py``) are small since every decision stands here, and a
test can drive a run without a store, a clock or a thread.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from msgspec import Struct

from .rules import Question
from .states import Error, Failed, Pending, Retrying, Running, State
from .transitions import NO_FACTS, Facts, Run

__all__ = ["Ask", "Call", "Course", "Durable", "Effect", "Propose", "Resolve", "Sleep", "course"]


class Propose(Struct, frozen=True):
    """Ask the rules for this state and record what they say. Answer: the Run after it, or a Question."""

    to: State
    facts: Facts = NO_FACTS
    by: str = ""
    """Whose wish it is, where it is not the engine's; it goes on record if no rule says otherwise."""
    why: str = ""


class Ask(Struct, frozen=True):
    """Ask the user's callable behind an option about a proposed state. Answer: what it returned."""

    option: str
    about: State


class Resolve(Struct, frozen=True):
    """Wait for the runs that the arguments come from. Answer: None, or the Failed to end with."""


class Durable(Struct, frozen=True):
    """Wait until all that was recorded of this run is durable."""


class Call(Struct, frozen=True):
    """Call the body under its deadline. Answer: the state that its end amounts to."""

    run: Run


class Sleep(Struct, frozen=True):
    """Wait until this time, UTC seconds since the epoch."""

    until: float


Effect = Propose | Ask | Resolve | Durable | Call | Sleep

Course = Generator[Effect, Any, Run]


def course(run: Run, *, intent: bool, waits: bool = True, unpause: bool = False) -> Course:
    """
    Lead one run from where its log left it to its end, or to where a rule stops it.

    Args:
        run: The run so far, born. Running here means that its process died: it is in doubt.
        intent: Whether the body may begin only when its Running is durable (level ``effect``).
        waits: Whether there may be runs that the arguments come from.
        unpause: Whether a run that is paused goes on.

    Returns:
        The run where it came to rest: final, paused, or refused (then ``run.ruling`` says by whom).
    """
    unpause = unpause and type(run.state) is Retrying  # what pauses from now on stays paused
    if run.ruling is not None and run.ruling.until is not None:
        yield Sleep(run.ruling.until)
    if type(run.state) is Running:
        answer: Any = yield Ask("on_interrupt", run.state)
        run = yield from propose(after_interruption(answer, run))
        if run.ruling is not None:
            return run  # it stays in doubt: what may not be given up or retried is not called again either
    ready = not waits  # whether the arguments are resolved: each process that carries the run out does it once
    while True:
        state = run.state
        if type(state) is Running:
            if intent:
                yield Durable()
            outcome: State = yield Call(run)
            answer = yield Propose(outcome)
            run = answer if type(answer) is Run and answer.ruling is None else (yield from insist(outcome, answer))
            if run.ruling is not None:
                # The body has ended and cannot be put back: what a rule refuses here is the outcome.
                run = yield from propose(Failed(cause="refused", message=_refusal(run)))
        elif state is None or state.final:
            return run
        else:
            begun: State = Running(loop_count=run.loop_count)
            if type(state) is Retrying:
                if state.cause == "paused" and not unpause:
                    return run
                unpause = False
                if state.cause != "paused":
                    yield Sleep(state.due)
                begun = Running(attempt=run.attempt + 1, loop_count=run.loop_count)
            elif type(state) is Pending and state.due is not None:
                yield Sleep(state.due)
            if not ready:
                begun, ready = (yield Resolve()) or begun, True
            answer = yield Propose(begun)
            run = answer if type(answer) is Run and answer.ruling is None else (yield from insist(begun, answer))
        if run.ruling is not None:
            return run


def propose(to: State) -> Generator[Effect, Any, Run]:
    """Propose until a rule decides."""
    return (yield from insist(to, (yield Propose(to))))


def insist(to: State, answer: Run | Question) -> Generator[Effect, Any, Run]:
    """Go on with a proposal until a rule decides: questions are put to the user's callables, delays are slept through."""
    facts = NO_FACTS
    while True:
        if type(answer) is Question:
            said: Any = yield Ask(answer.option, to if answer.about is None else answer.about)
            facts = Facts(answers={**(facts.answers or {}), answer.option: said})
        elif answer.ruling is not None and answer.ruling.until is not None:
            yield Sleep(answer.ruling.until)
        else:
            return answer
        answer = yield Propose(to, facts)


def after_interruption(answer: Any, run: Run) -> State:
    """What becomes of a call in doubt: ``retry`` (at least once), ``fail`` (at most once), or a given state."""
    if isinstance(answer, State):
        return answer
    if answer == "fail":
        return in_doubt()
    # The attempt that was lost is not charged to the budget.
    return Retrying(cause="interrupted", due=run.updated, message="the process died during this attempt")


def in_doubt(why: str = "") -> Failed:
    """The end of a call of which nobody knows whether it took effect."""
    text = why or "the process died while this call was under way; whether it took effect is not known"
    return Failed(cause="in_doubt", message=text, error=Error("pluperfect.errors.InDoubt", text))


def _refusal(run: Run) -> str:
    assert run.ruling is not None
    return f"{run.ruling.asked.kind} was refused by {run.ruling.by}: {run.ruling.why}"

"""What Prefect 1 asks of users' functions before a state is recorded: triggers, state handlers, kept results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pluperfect.hooks import CacheKey, Definition, Option, hookimpl
from pluperfect.rules import Proposal, Verdict
from pluperfect.states import Cached, Completed, Failed, Looped, Pending, Retrying, Running, State, StateUnion, TimedOut
from pluperfect.transitions import Run

__all__ = ["cache_key", "options", "review"]

GO: Final = "run"
"""What handlers answer where the run begins, whatever a trigger or a cache says: its body ends at once."""

_UNSEEN: Final = frozenset({"cancelled", "refused", "interrupted"})
"""Causes that say nothing about the user's work: the engine ends or resumes the run by itself."""


def _callable(name: str, arguments: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and not callable(value):
            raise TypeError(f"{name} is called with {arguments}; {value!r} is not callable.")
        return value

    return check


@hookimpl
def options(kind: str) -> Sequence[Option]:
    """Callables that are asked before a state is recorded."""
    handlers = _callable("state_handlers", "(flow or task, run, state)")
    declared = [
        Option("state_handlers", None, "asked about each state; may answer with another one", handlers, wakes=True)
    ]
    if kind == "task":
        trigger = _callable("trigger", "(task, run, state)")
        keeper = _callable("classic_cache", "(run, inputs, parameters)")
        declared += [
            Option("trigger", None, "asked whether a task may begin, after what came before it", trigger, wakes=True),
            Option("classic_cache", None, "gives the CacheKey of a call", keeper, wakes=True),
        ]
    return declared


@hookimpl
def cache_key(
    run: Run, definition: Definition, arguments: Mapping[str, Any], flow_inputs: Mapping[str, Any]
) -> CacheKey | None:
    """The key that the option ``classic_cache`` gives."""
    keeper = definition.options.get("classic_cache")
    return None if keeper is None else keeper(run, arguments, flow_inputs)


@hookimpl
def review(run: Run, proposal: Proposal, definition: Definition | None) -> Verdict | None:
    """Ask the trigger, then the handlers, and record what they answer; no opinion where they have none."""
    state = proposal.to
    if definition is None and not proposal.facts.answers:
        return None  # a history without its code: nobody was asked
    if run.state is None or not _shown(run.state, state):
        return None
    given: Mapping[str, Any] = {} if definition is None else definition.options
    answers = proposal.facts.answers or {}
    stopped: State | None = None
    if isinstance(run.state, Pending):
        if given.get("trigger") is not None and "trigger" not in answers:
            return Verdict(ask="trigger")
        stopped = _stop(_read(answers.get("trigger")))
    if given.get("state_handlers") is not None and "state_handlers" not in answers:
        return Verdict(ask="state_handlers", about=stopped, last=stopped is None)
    said = _read(answers.get("state_handlers"))
    if isinstance(said, State):
        return Verdict(to=said, why="a state handler says so")
    if said == GO:
        return Verdict(to=state, why="a state handler says so")
    return None if stopped is None else Verdict(to=stopped, why="the trigger says so")


def _shown(was: State, to: State) -> bool:
    """Whether a change is one that triggers and handlers are asked about."""
    if isinstance(to, Failed | Retrying) and to.cause in _UNSEEN:
        return False
    if isinstance(was, Running):
        return isinstance(to, Completed | Failed | TimedOut | Looped | Retrying)
    return isinstance(to, Running | Cached)


def _read(answer: Any) -> Any:
    """An answer as it was given: a state that is read from the log comes as the list of its parts."""
    return msgspec.convert(answer, StateUnion) if isinstance(answer, list) else answer


def _stop(answer: Any) -> State | None:
    """What a trigger's answer amounts to: None where the task may begin."""
    if answer is None or answer is True:
        return None
    if isinstance(answer, State):
        return answer
    why = f"the trigger raised {answer['raised']}" if isinstance(answer, dict) else "the trigger says no"
    return Failed(why, "trigger")

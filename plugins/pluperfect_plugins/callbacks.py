"""Callbacks: functions of the user that are told when a run begins and ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

from pluperfect.client.schemas.objects import FlowRun, TaskRun
from pluperfect.hooks import Definition, Option, hookimpl
from pluperfect.states import Cached, Completed, Failed, Running, State, TimedOut
from pluperfect.transitions import Run, Transition

__all__ = ["options", "recorded"]

_log: Final = logging.getLogger("pluperfect.plugins")


def _callables(name: str, kind: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is None:
            return None
        advice = (
            f"Please provide a list of hooks to {name!r}:\n\n@{kind}({name}=[hook1, hook2])\ndef my_{kind}():\n\tpass"
        )
        if not isinstance(value, Iterable):
            raise TypeError(f"Expected iterable for {name!r}; got {type(value).__name__} instead. {advice}")
        listed = list(cast("Iterable[Any]", value))
        for item in listed:
            if not callable(item):
                raise TypeError(f"Expected callables in {name!r}; got {type(item).__name__} instead. {advice}")
        return tuple(listed)

    return check


_TASK: Final = ("on_running", "on_completion", "on_failure")
_FLOW: Final = (*_TASK, "on_cancellation", "on_crashed")


@hookimpl
def options(kind: str) -> Sequence[Option]:
    """The lists of callables."""
    names = _FLOW if kind == "flow" else _TASK
    return [
        Option(name, None, f"called {name.replace('_', ' ')}", _callables(name, kind), wakes=True) for name in names
    ]


def _moment(state: State) -> str:
    """Which option speaks of this state; empty where none does."""
    if isinstance(state, Running):
        return "on_running"
    if isinstance(state, Completed | Cached):
        return "on_completion"
    if isinstance(state, Failed):
        return {"cancelled": "on_cancellation", "crashed": "on_crashed", "upstream": ""}.get(state.cause, "on_failure")
    return "on_failure" if isinstance(state, TimedOut) else ""


@hookimpl
def recorded(run: Run, transition: Transition, definition: Definition) -> Any:
    """Call them in order, each when the one before is done; what one raises is logged, and the next is called."""
    told = iter(definition.options.get(_moment(transition.to)) or ())
    for call in told:
        answer = _told(call, run, transition, definition)
        if hasattr(answer, "__await__"):
            return _await_rest(call, answer, told, run, transition, definition)
    return None


async def _await_rest(
    call: Callable[..., Any],
    answer: Any,
    told: Iterator[Callable[..., Any]],
    run: Run,
    transition: Transition,
    definition: Definition,
) -> None:
    """Await the answer of one callable, then call the others in the same way."""
    try:
        await answer
    except Exception:
        _complain(call, definition)
    for following in told:
        answer = _told(following, run, transition, definition)
        if hasattr(answer, "__await__"):
            try:
                await answer
            except Exception:
                _complain(following, definition)


def _told(call: Callable[..., Any], run: Run, transition: Transition, definition: Definition) -> Any:
    try:
        shown = FlowRun(run) if definition.kind == "flow" else TaskRun(run)
        return call(definition.owner, shown, transition.to)
    except Exception:
        _complain(call, definition)
        return None


def _complain(call: Callable[..., Any], definition: Definition) -> None:
    name = getattr(call, "__name__", repr(call))
    _log.exception("the callback %s of %s raised; the run goes on", name, definition.name)

"""
Triggers: whether a task may begin, asked when all that comes before it has ended.

A trigger is called with the states of what came before, by edge. It answers True, answers False, or raises a signal.
Where nothing comes before, a task begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .engine.signals import PAUSE, SKIP, TRIGGERFAIL
from .engine.state import State
from .utilities.context import context

__all__ = [
    "all_failed",
    "all_finished",
    "all_successful",
    "always_run",
    "any_failed",
    "any_successful",
    "manual_only",
    "not_all_skipped",
    "some_failed",
    "some_successful",
]

States = Mapping[Any, State]


def each_state(upstream_states: States) -> list[State]:
    """The states of what came before; of a map, those of its children."""
    found: list[State] = []
    for state in upstream_states.values():
        found.extend([state] if state.map_states is None else state.map_states)
    return found


def all_finished(upstream_states: States) -> bool:
    """Begin, however it ended."""
    if not all(state.is_finished() for state in each_state(upstream_states)):
        raise TRIGGERFAIL('The trigger is "all_finished", and some of what comes before has not ended.')
    return True


always_run = all_finished


def manual_only(upstream_states: States) -> bool:
    """Pause until somebody resumes the flow run."""
    if context.get("resume"):
        return True
    raise PAUSE('The trigger is "manual_only": resume the flow run to go on.')


def all_successful(upstream_states: States) -> bool:
    """Begin where all succeeded; skipped is a success."""
    if not all(state.is_successful() for state in each_state(upstream_states)):
        raise TRIGGERFAIL('The trigger is "all_successful", and some of what comes before failed.')
    return True


def all_failed(upstream_states: States) -> bool:
    """Begin where all failed."""
    if not all(state.is_failed() for state in each_state(upstream_states)):
        raise TRIGGERFAIL('The trigger is "all_failed", and some of what comes before succeeded.')
    return True


def any_successful(upstream_states: States) -> bool:
    """Begin where one succeeded."""
    states = each_state(upstream_states)
    if states and not any(state.is_successful() for state in states):
        raise TRIGGERFAIL('The trigger is "any_successful", and nothing that comes before succeeded.')
    return True


def any_failed(upstream_states: States) -> bool:
    """Begin where one failed."""
    states = each_state(upstream_states)
    if states and not any(state.is_failed() for state in states):
        raise TRIGGERFAIL('The trigger is "any_failed", and nothing that comes before failed.')
    return True


def not_all_skipped(upstream_states: States) -> bool:
    """Begin where all succeeded and not all were skipped; be skipped where all were."""
    states = each_state(upstream_states)
    if all(state.is_skipped() for state in states):
        raise SKIP("All that comes before was skipped.", result=None)
    if not all(state.is_successful() for state in states):
        raise TRIGGERFAIL('The trigger is "not_all_skipped", and some of what comes before failed.')
    return True


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Callable[[States], bool]:
    """A trigger that begins where so many succeeded; a bound below 1 is a fraction of all."""
    return _Counting("some_successful", "is_successful", at_least, at_most)


def some_failed(at_least: float | None = None, at_most: float | None = None) -> Callable[[States], bool]:
    """A trigger that begins where so many failed; a bound below 1 is a fraction of all."""
    return _Counting("some_failed", "is_failed", at_least, at_most)


class _Counting:
    def __init__(self, name: str, predicate: str, at_least: float | None, at_most: float | None) -> None:
        for bound in (at_least, at_most):
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float) or bound < 0):
                raise ValueError(f"{name} is bounded by numbers from 0, not {bound!r}.")
        self.__name__ = name
        self.predicate, self.at_least, self.at_most = predicate, at_least, at_most

    def __call__(self, upstream_states: States) -> bool:
        states = each_state(upstream_states)
        if not states:
            return True
        count = sum(bool(getattr(state, self.predicate)()) for state in states)
        least, most = _number(self.at_least, 0, len(states)), _number(self.at_most, len(states), len(states))
        if not least <= count <= most:
            raise TRIGGERFAIL(f'The trigger is "{self.__name__}", from {least:g} to {most:g}, and {count} did.')
        return True


def _number(bound: float | None, default: float, total: int) -> float:
    if bound is None:
        return default
    return bound * total if bound < 1 else bound

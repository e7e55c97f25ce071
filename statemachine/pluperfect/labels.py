"""
Prefect's other names for states: each builds one of the eight, under the label that Prefect's users know.

They are found in `pluperfect.states`. Nothing here reads a clock: a time that is not given is "at once".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from .states import Answer, Completed, Failed, Pending, Retrying, Running, State, StateType, asked_by_coroutine

__all__ = [
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Crashed",
    "InfrastructurePending",
    "Late",
    "Paused",
    "Scheduled",
    "StateGroup",
    "Submitting",
    "Suspended",
    "exception_to_crashed_state",
    "exception_to_failed_state",
    "get_state_exception",
    "is_state_iterable",
    "of_type",
    "raise_state_exception",
    "return_value_to_state",
]


def _due(when: Any) -> float:
    """A datetime, or UTC seconds since the epoch; None: at once."""
    if when is None:
        return 0.0
    return float(when.timestamp()) if hasattr(when, "timestamp") else float(when)


def Scheduled(scheduled_time: Any = None, *, message: str = "", name: str = "Scheduled") -> Pending:  # noqa: N802
    """Pending until a time."""
    return Pending(message, due=_due(scheduled_time), name=name)


def Late(  # noqa: N802
    scheduled_time: Any = None, *, message: str = "", name: str = "Late"
) -> Pending:
    """Pending, and its time has passed."""
    return Pending(message, due=_due(scheduled_time), name=name)


def AwaitingConcurrencySlot(  # noqa: N802
    scheduled_time: Any = None, *, message: str = "", name: str = "AwaitingConcurrencySlot"
) -> Pending:
    """Pending until there is room."""
    return Pending(message, due=_due(scheduled_time), name=name)


def AwaitingRetry(  # noqa: N802
    scheduled_time: Any = None, *, message: str = "", name: str = "AwaitingRetry"
) -> Retrying:
    """Retrying: the wait between two attempts, one that does not spend the budget."""
    return Retrying(message, "requested", _due(scheduled_time), name=name)


def Submitting(*, message: str = "", name: str = "Submitting") -> Pending:  # noqa: N802
    """Pending, on its way to a runner."""
    return Pending(message, name=name)


def InfrastructurePending(*, message: str = "", name: str = "InfrastructurePending") -> Pending:  # noqa: N802
    """Pending until there is a place to run."""
    return Pending(message, name=name)


def Paused(*, message: str = "", name: str = "Paused") -> Retrying:  # noqa: N802
    """Retrying without a time: until somebody resumes it."""
    return Retrying(message, "paused", name=name)


def Suspended(*, message: str = "", name: str = "Suspended") -> Retrying:  # noqa: N802
    """Paused, under its other label."""
    return Retrying(message, "paused", name=name)


def Cancelled(message: str = "", *, data: Any = None, name: str = "Cancelled") -> Failed:  # noqa: N802
    """Failed, since it was cancelled."""
    return Failed(message, "cancelled", data=data, name=name)


def Cancelling(message: str = "", *, name: str = "Cancelling") -> Failed:  # noqa: N802
    """The request to cancel; a body that returns it is cancelled."""
    return Failed(message, "cancelled", name=name)


def Crashed(message: str = "", *, data: Any = None, name: str = "Crashed") -> Failed:  # noqa: N802
    """Failed by something that is no ``Exception``."""
    return Failed(message, "crashed", data=data, name=name)


def of_type(type: StateType | str, message: str | None = None, name: str | None = None, data: Any = None) -> State:
    """The state that Prefect means by one of its types: of our kinds, under the label given or the type's own."""
    kind = StateType(type)
    text, label = message or "", name or kind.value.capitalize()
    if kind is StateType.COMPLETED:
        return Completed(text, data, name=label)
    if kind is StateType.FAILED:
        return Failed(text, data=data, name=label)
    if kind is StateType.CRASHED:
        return Crashed(text, data=data, name=label)
    if kind is StateType.CANCELLED:
        return Cancelled(text, data=data, name=label)
    if kind is StateType.CANCELLING:
        return Cancelling(text, name=label)
    if kind is StateType.SCHEDULED:
        return Scheduled(message=text, name=label)
    if kind is StateType.PAUSED:
        return Paused(message=text, name=label)
    return Running(text, name=label) if kind is StateType.RUNNING else Pending(text, name=label)


class StateGroup:
    """Several states, counted by what Prefect would call their types."""

    def __init__(self, states: Iterable[State]) -> None:
        self.states: list[State] = list(states)
        self.type_counts: dict[StateType, int] = dict.fromkeys(StateType, 0)
        for state in self.states:
            self.type_counts[state.type] += 1
        self.total_count: int = len(self.states)
        self.cancelled_count: int = self.type_counts[StateType.CANCELLED]
        self.final_count: int = sum(state.is_final() for state in self.states)
        self.not_final_count: int = self.total_count - self.final_count
        self.paused_count: int = self.type_counts[StateType.PAUSED]

    @property
    def fail_count(self) -> int:
        """How many failed or crashed; the cancelled ones are counted on their own."""
        return self.type_counts[StateType.FAILED] + self.type_counts[StateType.CRASHED]

    def all_completed(self) -> bool:
        """Whether each has a result."""
        return all(state.is_completed() for state in self.states)

    def any_cancelled(self) -> bool:
        """Whether one was cancelled."""
        return self.cancelled_count > 0

    def any_failed(self) -> bool:
        """Whether one failed or crashed."""
        return self.fail_count > 0

    def any_paused(self) -> bool:
        """Whether one is paused."""
        return self.paused_count > 0

    def all_final(self) -> bool:
        """Whether nothing can follow any of them."""
        return self.final_count == self.total_count

    def counts_message(self) -> str:
        """``total=3 not_final=1 'RUNNING'=1 'COMPLETED'=2``."""
        parts = [f"total={self.total_count}"]
        if self.not_final_count:
            parts.append(f"not_final={self.not_final_count}")
        return " ".join([*parts, *(f"{kind.value!r}={n}" for kind, n in self.type_counts.items() if n)])

    def __repr__(self) -> str:
        return f"StateGroup<{self.counts_message()}>"


# --- between states, values and exceptions ----------------------------------------------------------------


def is_state_iterable(obj: Any) -> bool:
    """Whether this is a list, set or tuple, not empty, of nothing but states."""
    listed = cast("list[Any]", obj) if isinstance(obj, list | set | tuple) else []
    return bool(listed) and all(isinstance(one, State) for one in listed)


def get_state_exception(state: State) -> Any:
    """
    The exception of a failed state.

    Raises:
        ValueError: The state is not failed.
    """
    found = _exception_of(state)
    return Answer(found) if asked_by_coroutine() else found


def _exception_of(state: State) -> BaseException:
    if not state.is_failed():
        raise ValueError(f"Expected failed or crashed state got {state}.")
    return state._outcome()


def raise_state_exception(state: State) -> Any:
    """Raise the exception of a failed state; None where it is not failed."""
    if state.is_failed():
        raise _exception_of(state)
    return Answer(None) if asked_by_coroutine() else None


def exception_to_failed_state(exc: BaseException | None = None, **kwargs: Any) -> Failed:
    """
    Failed, with this exception, else with the one at hand.

    Raises:
        ValueError: None is given, and none is at hand.
    """
    import sys

    found = exc if exc is not None else sys.exc_info()[1]
    if found is None:
        raise ValueError("Exception was not passed and no active exception could be found.")
    brief = f"{type(found).__name__}: {found}" if str(found) else type(found).__name__
    given = kwargs.pop("message", "")
    return Failed(f"{given} {brief}".strip(), data=found, **kwargs)


def exception_to_crashed_state(exc: BaseException) -> Any:
    """Failed as crashed, with this exception."""
    state = Failed(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__, "crashed", data=exc)
    return Answer(state) if asked_by_coroutine() else state


def return_value_to_state(retval: Any, *_: Any, **__: Any) -> Any:
    """
    The final state that a returned value amounts to, as a flow's end judges it.

    A state is taken as it is; states, in a list, set or tuple, complete or fail together; all else completes.
    """
    state = _state_of(retval)
    return Answer(state) if asked_by_coroutine() else state


def _state_of(value: Any) -> State:
    if isinstance(value, State):
        if isinstance(value, Completed) and value.data is None and value.of_run is None:
            value.carry(value.live)  # from here on None is its result
        return value
    if not is_state_iterable(value):
        done = Completed(data=value)
        done.carry(value)
        return done
    group = StateGroup(value)
    total = group.total_count
    if group.all_completed():
        return Completed("All states completed.", data=value)
    if group.any_cancelled():
        return Cancelled(f"{group.cancelled_count}/{total} states cancelled.", data=value)
    if group.any_paused():
        return Paused(message=f"{group.paused_count}/{total} states paused.")
    if group.any_failed():
        return Failed(f"{group.fail_count}/{total} states failed.", "children", data=value)
    return Failed(f"{group.not_final_count}/{total} states are not final.", data=value)

"""From recorded states to the faces that Prefect 1's programs see, and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

from ... import states as modern
from ...states import PLAIN, Packed
from .state import (
    LATER,
    Cached,
    Cancelled,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Queued,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Submitted,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)

__all__ = ["FailedWith", "completed", "failed", "modern_of", "seconds", "state_of"]

_PENDING: Final = {kind.__name__: kind for kind in (Submitted, Queued, Scheduled)}
_COMPLETED: Final[dict[str, type[Success]]] = {"Skipped": Skipped, "Cached": Cached, "Mapped": Mapped}
_FAILED: Final[dict[str, type[Failed]]] = {
    "trigger": TriggerFailed,
    "validation": ValidationFailed,
    "cancelled": Cancelled,
}
_CAUSES: Final = {kind: cause for cause, kind in _FAILED.items()}


def state_of(found: modern.State, *, attempt: int = 1) -> State:
    """The face of a recorded state; ``attempt`` is how often the body was begun in this iteration."""
    made = _face(found, attempt)
    made.modern = found
    if made._result is None and not isinstance(made, Pending | Running | Looped):
        made._result = LATER
    return made


def _face(found: modern.State, attempt: int) -> State:
    message = found.message or None
    if isinstance(found, modern.Running):
        return Running(message)
    if isinstance(found, modern.Retrying):
        if found.cause == "paused":
            return Paused(message)
        return Retrying(message, found.live, datetime.fromtimestamp(found.due, UTC), run_count=attempt)
    if isinstance(found, modern.Looped):
        return Looped(message, LATER, loop_count=found.count)
    if isinstance(found, modern.Cached):
        return Cached(message)
    if isinstance(found, modern.Completed):
        return _COMPLETED.get(found.name, Success)(message)
    if isinstance(found, modern.TimedOut):
        return TimedOut(message)
    if isinstance(found, modern.Failed):
        return _FAILED.get(found.cause, Failed)(message)
    due = getattr(found, "due", None)
    if due is not None:
        return Scheduled(message, start_time=datetime.fromtimestamp(due, UTC))
    return _PENDING.get(str(getattr(found, "name", "")), Pending)(message)


def modern_of(
    state: State,
    now: Callable[[], float],
    *,
    cause: str = "error",
    count: int = 1,
    pack: Callable[[Any], Any] | None = None,
) -> modern.State:
    """
    The kind that a state of Prefect 1 is recorded as, asked for at the end of an attempt.

    Args:
        state: Any but Running.
        now: Gives the time, UTC seconds since the epoch.
        cause: Of a plain Failed: ``error`` and ``returned`` are retried.
        count: The iteration that a Looped without a number ends.
        pack: Encodes a payload: None is a payload too.
    """
    message = state.message or ""
    if isinstance(state, Success):
        return completed(state.result, message, "Completed" if type(state) is Success else type(state).__name__)
    if isinstance(state, Looped):
        payload = state.result if pack is None else pack(state.result)
        return modern.Looped(message, state.loop_count or count, payload)
    if isinstance(state, Failed):
        return failed(state.result, message, _CAUSES.get(type(state), cause), type(state).__name__)
    if isinstance(state, Paused):
        return modern.Retrying(message, "paused")
    if isinstance(state, Pending):
        return modern.Retrying(message, "requested", seconds(getattr(state, "start_time", None), now))
    why = f"{type(state).__name__} is nothing that a run can end an attempt with"
    return failed(TypeError(why), why, "validation", "Failed")


def completed(value: Any, message: str, name: str = "Completed") -> modern.Completed:
    """Completed with this value, None included."""
    return modern.Completed(message, Packed(PLAIN, b"\xc0") if value is None else value, name=name)


class FailedWith(Exception):
    """What a failed state carries whose result is no exception."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message, result)
        self.message: str = message
        self.result: Any = result

    def __str__(self) -> str:
        return self.message or "the task failed"


def failed(value: Any, message: str, cause: str, name: str) -> modern.Failed:
    """Failed with this exception, or with one around a value that is none."""
    error = value if isinstance(value, BaseException) else FailedWith(message, value)
    text = message or f"{type(error).__name__}: {error}"
    return modern.Failed(text, cause, data=error, name=name)


def seconds(when: Any, now: Callable[[], float]) -> float:
    """UTC seconds since the epoch of a datetime (a naive one is UTC), a number of them, or None: now."""
    if when is None:
        return now()
    if isinstance(when, datetime):
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    if isinstance(when, int | float) and not isinstance(when, bool):
        return float(when)
    raise TypeError(f"start_time is a datetime, not {cast('Any', when)!r}.")

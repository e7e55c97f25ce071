"""
Prefect 1's states: light faces of the eight kinds.

What happens is decided and recorded in the eight kinds of `pluperfect.states`; these are what handlers, triggers and
the callers of `Flow.run` see of them. Two differ from Prefect 1 on purpose: Looped is not finished, and a map that
lost a child is Failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ... import states as modern
from ...authoring.signals import Signal
from ...errors import MissingResult, UnfinishedRun
from ...states import Packed

__all__ = [
    "Cached",
    "Cancelled",
    "Cancelling",
    "Failed",
    "Finished",
    "Looped",
    "Mapped",
    "Paused",
    "Pending",
    "Queued",
    "Resume",
    "Retrying",
    "Running",
    "Scheduled",
    "Skipped",
    "State",
    "Submitted",
    "Success",
    "TimedOut",
    "TriggerFailed",
    "ValidationFailed",
]

LATER: Final[Any] = object()
"""Stands for a result that is decoded when it is asked for."""


class State:
    """
    What a task or flow run is in.

    Args:
        message: For people.
        result: The value of a success, the exception of a failure; of a flow run, its tasks' states by task.
        context: Kept, and without effect.
        cached_inputs: What the result was computed from.

    Attributes:
        map_states: Of a map's parent, the states of its children; else None.
        run_id: Of a flow run, its id: what ``flow.run(resume=...)`` takes.
        modern: The recorded state that it stands for; None where it was made by hand.
    """

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        context: dict[str, Any] | None = None,
        cached_inputs: dict[str, Any] | None = None,
    ) -> None:
        self.message: str | None = message
        self._result: Any = result
        self.context: dict[str, Any] = context or {}
        self.cached_inputs: dict[str, Any] = cached_inputs or {}
        self.map_states: list[State] | None = None
        self.run_id: str | None = None
        self.modern: modern.State | None = None
        self._failure: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Elsewhere there is no log to decode from: what it carries goes with it.
        return {**self.__dict__, "_result": self.result, "modern": None}

    @property
    def result(self) -> Any:
        """The value; of a failure, its exception."""
        if self._result is LATER:
            self._result = self._read()
        return self._result

    @result.setter
    def result(self, value: Any) -> None:
        self._result = value

    def _read(self) -> Any:
        assert self.modern is not None
        if isinstance(self.modern, modern.Looped):
            payload = self.modern.payload
            return payload if type(payload) is not Packed else self.modern.unpacked(payload)
        try:
            found = self.modern.result(raise_on_failure=False)
        except UnfinishedRun:
            return self.modern.live
        except MissingResult:
            if self.modern.of_run is None:
                return None
            raise
        return found.result if isinstance(found, Signal) and isinstance(self, Failed) else found

    @property
    def error(self) -> BaseException | None:
        """The exception of a failure: a flow's ``result`` is always the dict of its tasks' states."""
        if self._failure is not None:
            return self._failure
        return self.result if isinstance(self.result, BaseException) and self.is_failed() else None

    def is_pending(self) -> bool:
        """Whether the run has not begun, or waits."""
        return isinstance(self, Pending)

    def is_queued(self) -> bool:
        """Whether it waits for a place."""
        return isinstance(self, Queued)

    def is_submitted(self) -> bool:
        """Whether it was handed on."""
        return isinstance(self, Submitted)

    def is_scheduled(self) -> bool:
        """Whether it waits for a time."""
        return isinstance(self, Scheduled)

    def is_retrying(self) -> bool:
        """Whether it waits between two attempts."""
        return isinstance(self, Retrying)

    def is_paused(self) -> bool:
        """Whether it waits for somebody to resume it."""
        return isinstance(self, Paused)

    def is_running(self) -> bool:
        """Whether the body is being called."""
        return isinstance(self, Running)

    def is_finished(self) -> bool:
        """Whether nothing can follow."""
        return isinstance(self, Finished)

    def is_looped(self) -> bool:
        """Whether it stands between two iterations."""
        return isinstance(self, Looped)

    def is_skipped(self) -> bool:
        """Whether the body was not called, on purpose."""
        return isinstance(self, Skipped)

    def is_mapped(self) -> bool:
        """Whether it is a map's parent."""
        return self.map_states is not None

    def is_successful(self) -> bool:
        """Whether there is a result."""
        return isinstance(self, Success)

    def is_cached(self) -> bool:
        """Whether it was answered without the body."""
        return isinstance(self, Cached)

    def is_failed(self) -> bool:
        """Whether it ended without a result."""
        return isinstance(self, Failed)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(other.result == self.result)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: "{self.message}">' if self.message else f"<{type(self).__name__}>"


class Pending(State):
    """Born, and not begun."""


class Scheduled(Pending):
    """Waiting for a time (``start_time``, a datetime; by default: now)."""

    def __init__(self, message: str | None = None, result: Any = None, start_time: Any = None, **kwargs: Any) -> None:
        super().__init__(message, result, **kwargs)
        self.start_time: Any = start_time


class Paused(Scheduled):
    """Waiting for somebody to resume the flow run."""


class Resume(Scheduled):
    """Resumed, and not yet running."""


class Retrying(Scheduled):
    """Between two attempts. ``run_count`` says how many were made in this iteration."""

    def __init__(
        self, message: str | None = None, result: Any = None, start_time: Any = None, run_count: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(message, result, start_time, **kwargs)
        self.run_count: int = run_count


class Submitted(Pending):
    """Handed on."""


class Queued(Pending):
    """Waiting for a place."""


class Running(State):
    """The body is being called."""


class Cancelling(Running):
    """Being cancelled."""


class Looped(State):
    """One iteration is done; ``result`` is what the next is given. It is not finished."""

    def __init__(
        self, message: str | None = None, result: Any = None, loop_count: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(message, result, **kwargs)
        if loop_count is not None and (
            isinstance(loop_count, bool) or not isinstance(loop_count, int) or loop_count < 1
        ):
            raise ValueError(f"loop_count must be a whole number from 1, not {loop_count!r}.")
        self.loop_count: int | None = loop_count


class Finished(State):
    """Nothing can follow."""


class Success(Finished):
    """There is a result."""


class Cached(Success):
    """Answered without the body."""

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        cached_inputs: dict[str, Any] | None = None,
        cached_parameters: dict[str, Any] | None = None,
        cached_result_expiration: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, result, cached_inputs=cached_inputs, **kwargs)
        self.cached_parameters: dict[str, Any] | None = cached_parameters
        self.cached_result_expiration: Any = cached_result_expiration


class Mapped(Success):
    """A map's parent. ``result`` lists what the children gave, ``map_states`` how they ended."""

    def __init__(
        self, message: str | None = None, result: Any = None, map_states: Iterable[State] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(message, result, **kwargs)
        self.map_states: list[State] | None = list(map_states or ())

    @property
    def n_map_states(self) -> int:
        """How many children there are."""
        return len(self.map_states or ())


class Skipped(Success):
    """The body was not called, on purpose."""


class Failed(Finished):
    """Ended without a result; ``result`` is the exception."""


class TimedOut(Failed):
    """The deadline passed."""


class TriggerFailed(Failed):
    """The trigger said no."""


class ValidationFailed(Failed):
    """The result was found wanting."""


class Cancelled(Failed):
    """Ended before its turn."""

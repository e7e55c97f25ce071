"""What the body of a Prefect 1 task raises to say what becomes of it. None is an ``Exception``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from ... import states as modern
from ...authoring.signals import LOOP, NO_PAYLOAD, Signal
from . import state as faces
from .conversion import completed, modern_of, seconds
from .state import State

__all__ = [
    "ENDRUN",
    "FAIL",
    "LOOP",
    "PAUSE",
    "RETRY",
    "SKIP",
    "SUCCESS",
    "TRIGGERFAIL",
    "VALIDATIONFAIL",
    "ClassicSignal",
    "signal_from_state",
]


class ClassicSignal(Signal):
    """
    A signal whose ``result``, where none is given, is the signal itself.

    Args:
        message: What happened, for the record.
        result: What the state carries.
    """

    kind: ClassVar[type[State]] = State

    def __init__(self, message: str | None = None, result: Any = NO_PAYLOAD, **kwargs: Any) -> None:
        if kwargs:
            raise TypeError(f"{type(self).__name__} takes a message and a result, not {', '.join(kwargs)}.")
        super().__init__(message)
        self._given: Any = result

    @property
    def result(self) -> Any:
        """What the state carries."""
        return self if self._given is NO_PAYLOAD else self._given

    @result.setter
    def result(self, value: Any) -> None:
        self._given = value

    def __reduce__(self) -> Any:
        given = () if self._given is NO_PAYLOAD else (self._given,)
        return type(self), (self.message, *given)


class FAIL(ClassicSignal):
    """Fail this attempt; it is retried while the budget lasts."""

    kind: ClassVar[type[State]] = faces.Failed
    cause: ClassVar[str] = "error"

    def state(self, now: Callable[[], float]) -> modern.State:
        """Failed."""
        return modern.Failed(self.message or type(self).__name__, self.cause, name=self.kind.__name__)


class TRIGGERFAIL(FAIL):
    """Fail as a trigger does: without a retry."""

    kind: ClassVar[type[State]] = faces.TriggerFailed
    cause: ClassVar[str] = "trigger"


class VALIDATIONFAIL(FAIL):
    """Fail since a result is found wanting: without a retry."""

    kind: ClassVar[type[State]] = faces.ValidationFailed
    cause: ClassVar[str] = "validation"


class SUCCESS(ClassicSignal):
    """Succeed, as by a return."""

    kind: ClassVar[type[State]] = faces.Success

    def state(self, now: Callable[[], float]) -> modern.State:
        """Completed."""
        return completed(self.result, self.message)


class SKIP(ClassicSignal):
    """Be skipped: a success that tasks downstream may take as a reason to be skipped too."""

    kind: ClassVar[type[State]] = faces.Skipped

    def state(self, now: Callable[[], float]) -> modern.State:
        """Completed, under the label Skipped."""
        return completed(self.result, self.message, "Skipped")


class RETRY(ClassicSignal):
    """
    Make another attempt, whatever ``max_retries`` says; a loop stays in its iteration.

    Args:
        message: What happened.
        result: Kept for the signal alone.
        start_time: When, a datetime; by default at once.
    """

    kind: ClassVar[type[State]] = faces.Retrying

    def __init__(self, message: str | None = None, result: Any = NO_PAYLOAD, start_time: Any = None) -> None:
        super().__init__(message, result)
        self.start_time: Any = start_time

    def state(self, now: Callable[[], float]) -> modern.State:
        """Retrying, which spends no budget."""
        return modern.Retrying(self.message, "requested", seconds(self.start_time, now))

    def __reduce__(self) -> Any:
        return (*super().__reduce__(), {"start_time": self.start_time})


class PAUSE(ClassicSignal):
    """Stop here until somebody resumes the flow run: ``flow.run(resume=state.run_id)``, or ``pluperfect resume``."""

    kind: ClassVar[type[State]] = faces.Paused

    def state(self, now: Callable[[], float]) -> modern.State:
        """Retrying, paused."""
        return modern.Retrying(self.message, "paused")


class ENDRUN(ClassicSignal):
    """
    End the run in this state, without a retry.

    Args:
        state: A finished one.
    """

    def __init__(self, state: State) -> None:
        if not isinstance(state, State):
            raise TypeError(f"ENDRUN takes a state, such as Success(result=1), not {state!r}.")
        result, message = state.result, state.message
        if not state.is_finished():
            message = f"ENDRUN was raised with {type(state).__name__}, which is not finished"
            result = TypeError(message)
        super().__init__(message, result)
        self.end: State = state

    def state(self, now: Callable[[], float]) -> modern.State:
        """The kind of the state; Failed, with the reason, where it is not finished."""
        if not self.end.is_finished():
            return modern.Failed(self.message)
        made = modern_of(self.end, now)
        # What a failure carries is this signal, which is recorded as its exception and holds the result.
        return replace(made, data=None) if isinstance(made, modern.Failed) else made

    def __reduce__(self) -> Any:
        return type(self), (self.end,)


_BY_STATE: Final[dict[type[State], type[Signal]]] = {
    signal.kind: signal for signal in (FAIL, TRIGGERFAIL, VALIDATIONFAIL, SUCCESS, SKIP, RETRY, PAUSE)
}
_BY_STATE[faces.Looped] = LOOP


def signal_from_state(state: State) -> type[Signal]:
    """
    The signal that asks for a state of this class, or of the nearest class above it.

    Raises:
        ValueError: There is none.
    """
    for kind in type(state).__mro__:
        if kind in _BY_STATE:
            return _BY_STATE[kind]
    raise ValueError(f"No signal asks for {type(state).__name__}.")

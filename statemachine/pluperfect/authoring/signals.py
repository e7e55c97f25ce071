"""What user code raises to speak to the engine, and what the engine raises to stop user code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..states import State

__all__ = ["LOOP", "NO_PAYLOAD", "FlowStopped", "RecordEnds", "Signal"]

NO_PAYLOAD: Final[Any] = object()


class Signal(BaseException):
    """
    Raised in a body to say what becomes of this attempt. It is no ``Exception``: ``except Exception`` lets it pass.

    Attributes:
        message: What happened, for the record.
        result: What the state carries.
    """

    def __init__(self, message: str | None = None, result: Any = NO_PAYLOAD) -> None:
        super().__init__(message or "")
        self.message: str = message or ""
        self.result = result

    def state(self, now: Callable[[], float]) -> State:
        """
        The state that this signal asks for.

        Args:
            now: Gives the time, UTC seconds since the epoch.
        """
        raise NotImplementedError


class LOOP(Signal):
    """
    End this iteration of a task and begin the next.

    Args:
        message: What happened, for the record.
        result: The payload: the next iteration finds it as ``pluperfect.runtime.task_run.loop_result``. It is
            recorded and decoded anew for each attempt. Left out, the next iteration has no payload.
        loop_count: The number of the iteration that ends here; by default they are counted.
    """

    def __init__(self, message: str | None = None, result: Any = NO_PAYLOAD, loop_count: int | None = None) -> None:
        super().__init__(message, result)
        if loop_count is not None and (not isinstance(loop_count, int) or loop_count < 1):
            raise ValueError(f"loop_count must be a whole number from 1, not {loop_count!r}.")
        self.loop_count = loop_count

    def __reduce__(self) -> Any:  # a worker in another process hands it back
        given = () if self.result is NO_PAYLOAD else (self.result,)
        return _loop_again, (self.message, self.loop_count, *given)


def _loop_again(message: str, loop_count: int | None, *result: Any) -> LOOP:
    return LOOP(message, *(result or (NO_PAYLOAD,)), loop_count=loop_count)


class FlowStopped(BaseException):
    """The flow's time is up, or its end was recorded elsewhere: its body is stopped at a call into the engine."""

    def __init__(self, frame: Any) -> None:
        super().__init__("this run has ended; its body goes no further")
        self.frame = frame


class RecordEnds(BaseException):
    """
    A replay goes no further here: what the code asks for is not on record.

    Attributes:
        kind: ``unrecorded``: no such call. ``open``: the call has no end on record. ``unanswered``: it has, and what it gave is
            not there. ``idle``: the code waits for something else.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why

    def __reduce__(self) -> Any:
        return RecordEnds, (self.kind, self.why)

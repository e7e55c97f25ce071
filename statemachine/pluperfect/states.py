"""
The eight states, and the Spec that a run is born with.

Every state is a frozen value. What it carries and the fold of its history are all that is known of a run:

==========  ======  =================================================================================
kind        final   what it says
==========  ======  =================================================================================
Pending             born; or held until ``due``
Running             the body is being called, for the ``attempt``-th time in this iteration
Retrying            between two attempts: how the last one ended, and when the next is due
Looped              one iteration is done, the next has not begun: its count and payload
Cached      yes     answered without the body, from the run that ``source`` names
Completed   yes     the result
Failed      yes     the error, and for which ``cause``
TimedOut    yes     the deadline passed and no attempt is left
==========  ======  =================================================================================

Which may follow which stands in ``transitions.py``, nowhere else. The eight are one tagged union, and so one module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast, final

import msgspec
from msgspec import Struct

from .errors import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    InDoubt,
    MissingResult,
    PausedRun,
    Refused,
    RunTimeout,
    UnfinishedRun,
    UpstreamFailed,
)
from .values import (
    ABSENT,
    FOREIGN,
    PICKLE,
    PLAIN,
    RESULT,
    TYPED,
    Error,
    Forked,
    Input,
    Override,
    Packed,
    Spec,
    codec_of,
    usable,
)

if TYPE_CHECKING:
    from datetime import datetime

    from .labels import (
        AwaitingConcurrencySlot,
        AwaitingRetry,
        Cancelled,
        Cancelling,
        Crashed,
        InfrastructurePending,
        Late,
        Paused,
        Scheduled,
        StateGroup,
        Submitting,
        Suspended,
        exception_to_crashed_state,
        exception_to_failed_state,
        get_state_exception,
        is_state_iterable,
        raise_state_exception,
        return_value_to_state,
    )

__all__ = [
    "ABSENT",
    "FOREIGN",
    "KINDS",
    "PICKLE",
    "PLAIN",
    "RESULT",
    "TYPED",
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cached",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Error",
    "Failed",
    "Forked",
    "InfrastructurePending",
    "Input",
    "Late",
    "Looped",
    "Override",
    "Packed",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "Spec",
    "State",
    "StateDetails",
    "StateGroup",
    "StateType",
    "StateUnion",
    "Submitting",
    "Suspended",
    "TimedOut",
    "codec_of",
    "exception_to_crashed_state",
    "exception_to_failed_state",
    "get_state_exception",
    "is_state_iterable",
    "raise_state_exception",
    "return_value_to_state",
    "usable",
]

# --- the states -----------------------------------------------------------------------------------------


class Answer:
    """A value that is there already, for those who await it."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._value


def asked_by_coroutine() -> bool:
    """Whether the function that called this one was itself called in the body of a coroutine function."""
    return bool(sys._getframe(2).f_code.co_flags & _COROUTINE)


_COROUTINE: Final = 0x80 | 0x200  # CO_COROUTINE, CO_ASYNC_GENERATOR


class StateType(StrEnum):
    """Prefect's nine types, which ours are told as where old code asks for one."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"


class StateDetails(Struct, frozen=True):
    """
    What is known beside a state.

    Attributes:
        flow_run_id: The flow run, as a UUID; for a task run, the nearest flow run around it.
        task_run_id: The task run, as a UUID.
        scheduled_time: Not before this time.
        cache_key: The key that a cached result was found under.
        retriable: Whether another attempt may be made; None: as the options say.
        start_time: When the body of the run was first begun; None before.
    """

    flow_run_id: Any = None
    task_run_id: Any = None
    scheduled_time: Any = None
    cache_key: str | None = None
    retriable: bool | None = None
    start_time: datetime | None = None


class Reader(Protocol):
    """Whoever reads a log, as far as the states of its runs need it."""

    def unpack(self, packed: Packed) -> Any:
        """Decode a recorded value."""
        ...

    def dated(self, at: float) -> datetime:
        """A time of a record as a date, in UTC."""
        ...

    def details(self, run: bytes, kind: str, above: bytes | None, state: State) -> StateDetails:
        """What is known beside a state of this run."""
        ...


class _Whose(Struct, frozen=True, gc=False):
    """
    The run whose state one is: see `State.belongs_to`.

    Whoever keeps many states keeps as many of these. It refers to nothing that could refer to it, and so the garbage collector
    need not walk over it.
    """

    run: bytes
    kind: str
    above: bytes | None
    at: float
    attempt: int


class _ByType(msgspec.StructMeta):
    """``State(type=StateType.FAILED, message="...")`` makes one of the eight, as Prefect's base class does."""

    if not TYPE_CHECKING:  # to type checkers a state is made as any Struct

        def __call__(cls, *args: Any, **given: Any) -> Any:  # noqa: N805 - it is a metaclass
            if "type" in given and cls is State:
                from .labels import of_type

                return of_type(**given)
            return super().__call__(*args, **given)


class _Kind(_ByType):
    """Made as any Struct: to look at each call in Python would take three times as long as to make the state."""

    if not TYPE_CHECKING:
        __call__ = msgspec.StructMeta.__call__


class State(Struct, frozen=True, array_like=True, dict=True, metaclass=_ByType):
    """
    What a run is in. ``kind`` is one of eight; ``name`` is the label that people read.

    Inside the process that made it, a state also carries the live object behind ``data`` or ``error``;
    one that was read from a log decodes it on demand.
    """

    kind: ClassVar[str] = "State"
    code: ClassVar[int] = 0
    final: ClassVar[bool] = False

    message: str = ""

    @property
    def type(self) -> StateType:
        """What Prefect would call it: derived from the kind and, for Failed and Retrying, the cause."""
        return _TYPES[self.kind]

    def is_scheduled(self) -> bool:
        """Whether the run waits for a time."""
        return (isinstance(self, Pending) and self.due is not None) or (
            isinstance(self, Retrying) and not self.is_paused()
        )

    def is_paused(self) -> bool:
        """Whether the run waits for somebody to resume it."""
        return isinstance(self, Retrying) and self.cause == "paused"

    def is_cancelling(self) -> bool:
        """Never: a cancellation is a request, no state."""
        return False

    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self.final

    def is_pending(self) -> bool:
        """Whether the run is born, and neither started nor ended."""
        return isinstance(self, Pending)

    def is_running(self) -> bool:
        """Whether the body is being called."""
        return isinstance(self, Running)

    def is_retrying(self) -> bool:
        """Whether the run waits between two attempts."""
        return isinstance(self, Retrying)

    def is_looped(self) -> bool:
        """Whether the run stands between two iterations."""
        return isinstance(self, Looped)

    def is_cached(self) -> bool:
        """Whether the run was answered without its body."""
        return isinstance(self, Cached)

    def is_completed(self) -> bool:
        """Whether there is a result: Completed or Cached."""
        return type(self) in _COMPLETED

    def is_failed(self) -> bool:
        """Whether the run ended without a result: Failed for any cause, or TimedOut."""
        return type(self) in _FAILED

    def is_timed_out(self) -> bool:
        """Whether the deadline ended the run."""
        return isinstance(self, TimedOut)

    def is_crashed(self) -> bool:
        """Whether something that is no ``Exception`` ended the run (an interrupt, an exit)."""
        return isinstance(self, Failed) and self.cause == "crashed"

    def is_cancelled(self) -> bool:
        """Whether the run was ended before its turn."""
        return isinstance(self, Failed) and self.cause == "cancelled"

    def result(
        self, raise_on_failure: bool = True, retry_result_failure: bool = True, fetch: bool | None = None
    ) -> Any:
        """
        Return the result of a run that completed, or raise the exception of one that failed.

        Args:
            raise_on_failure: With False the exception is returned, not raised.
            retry_result_failure: Taken as Prefect takes it; there is no storage here whose reading is tried again.
            fetch: Taken as Prefect 2 takes it; the result is always fetched.

        Called in the body of a coroutine function, it gives an awaitable, as Prefect's does: ``await state.result()``.

        Raises:
            UnfinishedRun: The state is not final.
            MissingResult: The run completed, but its result was not recorded.
        """
        outcome = self._outcome()
        if raise_on_failure and isinstance(outcome, BaseException) and self.is_failed():
            raise outcome
        return Answer(outcome) if asked_by_coroutine() else outcome

    async def aresult(
        self, raise_on_failure: bool = True, retry_result_failure: bool = True, fetch: bool | None = None
    ) -> Any:
        """The same as `result`, for coroutines."""
        outcome = self._outcome()
        if raise_on_failure and isinstance(outcome, BaseException) and self.is_failed():
            raise outcome
        return outcome

    def _outcome(self) -> Any:
        raise UnfinishedRun(
            f"Run is in {self.type} state, its results are not available. Wait for the run to end, or resume it."
        )

    def carry(self, live: object) -> None:
        """Attach the live object behind the recorded data; it never enters the record."""
        # Not by the property: each end of a call comes through here.
        self.__dict__["live"] = live  # type: ignore[reportIndexIssue] - of an object, not of its class

    @property
    def _attached(self) -> dict[str, Any]:
        """What belongs to the state in this process alone; no field of it, and so never recorded or compared."""
        return self.__dict__  # type: ignore[reportReturnType] - of an object, not of its class

    @property
    def live(self) -> Any:
        """The attached live object; None where there is none."""
        return self._attached.get("live")

    def read_with(self, unpack: Callable[[Packed], Any]) -> None:
        """Attach the function that decodes the recorded data on demand, where it is not that of the log."""
        self._attached["unpack"] = unpack

    def unpacked(self, packed: Packed) -> Any:
        """Decode something that was recorded beside this state, with the function that decodes its own data."""
        unpack = self._unpack
        assert unpack is not None
        return unpack(packed)

    @property
    def _unpack(self) -> Callable[[Packed], Any] | None:
        """What decodes the recorded data; None for a state that was made by hand."""
        held = self._attached
        if "unpack" in held:
            return held["unpack"]
        return held["reader"].unpack if "reader" in held else None

    def belongs_to(self, run: bytes, kind: str, above: bytes | None, at: float, attempt: int, reader: Reader) -> None:
        """
        Attach the run whose state this is: one that was made by hand has none.

        Args:
            run: Its id. Not the run itself: that holds the state, which would then hold itself.
            kind: ``flow`` or ``task``; empty where that is not known.
            above: The id of the run that called it.
            at: When it came into this state, UTC seconds since the epoch.
            attempt: How often its body had been begun in this iteration.
            reader: Tells what is asked of it later.
        """
        held = self._attached
        held["reader"], held["whose"] = reader, _Whose(run, kind, above, at, attempt)

    @property
    def state_details(self) -> StateDetails:
        """The ids of the run, the scheduled time, the cache key; empty for a state made by hand."""
        held = self._attached
        whose = held.get("whose")
        return StateDetails() if whose is None else held["reader"].details(whose.run, whose.kind, whose.above, self)

    @property
    def of_run(self) -> bytes | None:
        """The id of the run whose state this is."""
        whose = self._attached.get("whose")
        return None if whose is None else whose.run

    @property
    def timestamp(self) -> datetime | None:
        """When the run came into this state, in UTC; None for a state made by hand."""
        held = self._attached
        whose = held.get("whose")
        return None if whose is None else held["reader"].dated(whose.at)

    @property
    def attempt(self) -> int | None:
        """The attempt that the run was in, from 1 (0: not begun); None for a state made by hand."""
        whose = self._attached.get("whose")
        return None if whose is None else whose.attempt

    def __hash__(self) -> int:  # what a state carries may not be hashable
        return hash((self.kind, self.message))

    def __str__(self) -> str:
        name = str(getattr(self, "name", self.kind))
        parts = [repr(self.message)] if self.message else []
        if self.type.value != name.upper():
            parts.append(f"type={self.type.value}")
        return f"{name}({', '.join(parts)})"


class _WithData(State, frozen=True, array_like=True, dict=True, metaclass=_Kind):
    """A state whose ``data`` is a result."""

    data: Any = None

    def _outcome(self) -> Any:
        held = self.__dict__
        if "live" in held:
            return held["live"]
        data = self.data
        if data is None:
            raise MissingResult(
                "The state was made by hand, and there is no data in it."
                if self.of_run is None
                else "The run completed, but its result was not recorded (persist_result=False)."
            )
        if type(data) is not Packed:
            return data
        if data.code == ABSENT:
            raise MissingResult(f"The run completed, but its result was not recorded: {bytes(data.data).decode()}.")
        return self.unpacked(data)


@final
class Pending(State, frozen=True, array_like=True, dict=True, metaclass=_Kind, tag=1):
    """Born, and not begun. The first record of every run; it holds the Spec."""

    kind: ClassVar[str] = "Pending"
    code: ClassVar[int] = 1

    spec: Spec | None = None
    due: float | None = None
    """Not before this time, UTC seconds since the epoch."""
    name: str = "Pending"

    @property
    def type(self) -> StateType:
        return StateType.PENDING if self.due is None else StateType.SCHEDULED


@final
class Running(State, frozen=True, array_like=True, dict=True, metaclass=_Kind, tag=2):
    """The body is being called."""

    kind: ClassVar[str] = "Running"
    code: ClassVar[int] = 2

    attempt: int = 1  # type: ignore[reportAssignmentType] - recorded, where other states are told
    """1-based, within the iteration."""
    loop_count: int = 1
    """The iteration, 1-based."""
    name: str = "Running"


@final
class Retrying(State, frozen=True, array_like=True, dict=True, metaclass=_Kind, tag=3):
    """Between two attempts. The causes error, timeout and returned spend the retry budget."""

    kind: ClassVar[str] = "Retrying"
    code: ClassVar[int] = 3

    cause: str = "error"
    """One of error, timeout, returned; requested, paused, interrupted."""
    due: float = 0.0
    """When the next attempt may begin, UTC seconds since the epoch."""
    delay: float = 0.0
    """The delay before jitter, in seconds."""
    draw: float | None = None
    """The number in [0, 1) that the jitter was made from; None where there was none."""
    error: Error | None = None
    name: str = "Retrying"

    @property
    def type(self) -> StateType:
        return StateType.PAUSED if self.cause == "paused" else StateType.SCHEDULED

    def _outcome(self) -> Any:
        if self.cause == "paused":
            raise PausedRun("Run is paused, its results are not available until somebody resumes it and it ends.")
        return super()._outcome()


@final
class Looped(State, frozen=True, array_like=True, dict=True, metaclass=_Kind, tag=4):
    """One iteration is done, the next has not begun."""

    kind: ClassVar[str] = "Looped"
    code: ClassVar[int] = 4

    count: int = 1
    """The iteration that ended, 1-based."""
    payload: Any = None
    """What the next iteration is given; None where the signal carried nothing."""
    name: str = "Looped"


@final
class Cached(_WithData, frozen=True, array_like=True, dict=True, tag=5):
    """Answered without the body."""

    kind: ClassVar[str] = "Cached"
    code: ClassVar[int] = 5
    final: ClassVar[bool] = True

    source: tuple[bytes, int] | None = None
    """The run and the sequence number that computed the result."""
    key: str = ""
    name: str = "Cached"


@final
class Completed(_WithData, frozen=True, array_like=True, dict=True, tag=6):
    """The body returned."""

    kind: ClassVar[str] = "Completed"
    code: ClassVar[int] = 6
    final: ClassVar[bool] = True

    name: str = "Completed"


_COMPLETED: Final = frozenset({Completed, Cached})

_TYPES: Final = {
    "Pending": StateType.PENDING,
    "Running": StateType.RUNNING,
    "Looped": StateType.RUNNING,
    "Cached": StateType.COMPLETED,
    "Completed": StateType.COMPLETED,
    "Failed": StateType.FAILED,
    "TimedOut": StateType.FAILED,
    "Retrying": StateType.SCHEDULED,
}
_BY_LABEL: Final = {"cancelled": StateType.CANCELLED, "crashed": StateType.CRASHED}

_LABELS: Final = {"upstream": "NotReady", "crashed": "Crashed", "cancelled": "Cancelled"}


@final
class Failed(State, frozen=True, array_like=True, dict=True, metaclass=_Kind, tag=7):
    """The run ended without a result."""

    kind: ClassVar[str] = "Failed"
    code: ClassVar[int] = 7
    final: ClassVar[bool] = True

    cause: str = "error"
    """One of error, returned, upstream, validation, trigger, children, cancelled, crashed, refused, in_doubt."""
    error: Error | None = None
    data: Any = None
    """What a hand-made state carried: an exception, a message, a state, or states."""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            msgspec.structs.force_setattr(self, "name", _LABELS.get(self.cause, "Failed"))

    @property
    def type(self) -> StateType:
        return _BY_LABEL.get(self.cause, StateType.FAILED)

    def _outcome(self) -> Any:
        return _exception(self)


@final
class TimedOut(State, frozen=True, array_like=True, dict=True, metaclass=_Kind, tag=8):
    """The deadline passed and no attempt is left."""

    kind: ClassVar[str] = "TimedOut"
    code: ClassVar[int] = 8
    final: ClassVar[bool] = True

    limit: float = 0.0
    """The limit of one attempt, in seconds."""
    elapsed: float = 0.0
    """How long the attempt had run when it was given up, in seconds."""
    error: Error | None = None
    name: str = "TimedOut"

    def _outcome(self) -> Any:
        return _exception(self)


_FAILED: Final = frozenset({Failed, TimedOut})

StateUnion = Pending | Running | Retrying | Looped | Cached | Completed | Failed | TimedOut
"""Any of the eight, for annotations."""

KINDS: Final[tuple[type[State], ...]] = (Pending, Running, Retrying, Looped, Cached, Completed, Failed, TimedOut)
"""The eight classes, in the order of their codes, 1 to 8."""

_BY_CAUSE: Final[dict[str, Callable[[str], Exception]]] = {
    "upstream": UpstreamFailed,
    "in_doubt": InDoubt,
    "refused": Refused,
    "timeout": RunTimeout,
    "crashed": CrashedRun,
    "cancelled": CancelledRun,
}


_SAYS_LITTLE: Final = {"crashed": "Run crashed.", "cancelled": "Run cancelled."}


def _exception(state: State) -> BaseException:
    """The exception behind a failure: the live one, else the recorded one, else one that quotes the record."""
    if not isinstance(state, Failed | TimedOut):
        raise ValueError(f"Expected failed or crashed state got {state}.")
    cause = "timeout" if isinstance(state, TimedOut) else state.cause
    wrapper = _BY_CAUSE.get(cause, FailedRun)
    live: Any = state.live
    if live is None and isinstance(state, Failed):
        live = state.data
    if isinstance(live, BaseException):
        return live
    if isinstance(live, State):
        return _exception(live)
    if isinstance(live, str):
        return wrapper(live)
    several = cast("list[Any]", live) if isinstance(live, list | tuple | set) else []
    if several and all(isinstance(one, State) for one in several):
        for one in several:
            if one.is_failed():
                return _exception(one)
        raise ValueError("Failed state result was an iterable of states but none were failed.")
    found = cast("Any", live)
    if found is not None and type(found) is not Packed:
        raise TypeError(
            f"Unexpected result for failed state: {found!r} -- {type(found).__name__} cannot be resolved into an exception."
            " It is an exception, a message, a state, or a list, tuple or set of states."
        )
    error, unpack = state.error, state._unpack
    if error is not None and type(error.data) is Packed and unpack is not None and error.data.code != ABSENT:
        try:
            unpacked = unpack(error.data)
        except Exception:  # an exception class that does not survive pickling, or is gone: the text remains
            unpacked = None
        if isinstance(unpacked, BaseException):
            return unpacked
    text = state.message or (f"{error.type}: {error.message}" if error else _SAYS_LITTLE.get(cause, "Run failed."))
    if error is not None and error.traceback:
        text = f"{text}\n\n{error.type}, raised here:\n{error.traceback}"
    return wrapper(text)


def __getattr__(name: str) -> Any:
    # Prefect's other names for states stand beside the eight, in a room of their own that is built on this one.
    if name in __all__:
        from . import labels

        return getattr(labels, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""From the end of a body to a state: what a returned value, an exception or a passed deadline amounts to."""

from __future__ import annotations

import linecache
import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec.structs import replace

from ..errors import (
    Conflict,
    Divergence,
    IllegalTransition,
    PausedRun,
    PluginError,
    RunTimeout,
    StoreError,
    UnpackableValue,
)
from ..states import (
    ABSENT,
    FOREIGN,
    RESULT,
    Cached,
    Completed,
    Error,
    Failed,
    Looped,
    Packed,
    Retrying,
    State,
    TimedOut,
    usable,
)
from .annotations import quote
from .arguments import each_run, holds_runs, resolved
from .deadlines import DeadlinePassed
from .futures import Future
from .signals import LOOP, NO_PAYLOAD, FlowStopped, Signal

if TYPE_CHECKING:
    from types import FrameType

    from ..settings import Settings
    from .frames import Frame
    from .logs import OpenLog

__all__ = [
    "OURS",
    "TRACE",
    "brief",
    "failed",
    "packed",
    "packed_error",
    "raised",
    "returned",
    "timed_out",
    "user_traceback",
]

_log: Final = logging.getLogger("pluperfect.engine")

TRACE: Final = "_pluperfect_trace"
"""The attribute by which an exception from another process brings its traceback."""

_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})
"""Results of these types are told from states in a tenth of the time."""

OURS: Final = (Divergence, PluginError, IllegalTransition, Conflict, StoreError, PausedRun)
"""Errors that say nothing about the user's work: they leave the run open instead of failing it."""


def returned(frame: Frame, value: Any) -> State:
    """The state that a returned value amounts to, its result packed."""
    if frame.definition.kind == "flow":
        value = _flow_value(frame, value)
    if type(value) not in _PLAIN and isinstance(value, State):
        return _returned_state(frame, value)
    state = Completed(data=_recorded(frame, value))
    if frame.definition.options.get("cache_result_in_memory", True) or not usable(state.data):
        state.carry(value)
    return state


def _recorded(frame: Frame, value: Any) -> Any:
    """
    The packed result; None where it is not recorded.

    Whether it is, says the run, else the setting for tasks, else those that called it, else the setting for all.
    """
    settings = frame.settings
    own = frame.definition.options.get("persist_result")
    if own is None:
        own = settings.tasks_default_persist_result if frame.definition.kind == "task" else None
        own = frame.inherited("persist_result") if own is None else own
        own = settings.results_persist_by_default if own is None else own
    return _pack(frame, value, settings) if own else None


def _returned_state(frame: Frame, state: State) -> State:
    if isinstance(state, Completed | Cached):
        live = state.data if state.live is None else state.live
        data = state.data if type(state.data) is Packed else _recorded(frame, live)
        kept = Completed(state.message, data, name=state.name)
        if state.live is not None or type(state.data) is not Packed:  # what is packed already is decoded on demand
            kept.carry(live)
        return kept
    if isinstance(state, TimedOut):
        error = state.result(raise_on_failure=False)
        return _carrying(state if state.error is not None else replace(state, error=_error(frame, error)), error)
    if isinstance(state, Failed):
        # Cancelled and crashed keep their cause, and so are not retried.
        cause = state.cause if state.cause in {"cancelled", "crashed", "children"} else "returned"
        made = Failed(state.message, cause, state.error, name="" if state.name == state.kind else state.name)
        error = state.result(raise_on_failure=False)
        made.carry(error)
        return made if made.error is not None else _with_error(made, _error(frame, error), error)
    return failed(
        frame,
        TypeError(f"the body returned {state.kind}, which is not final; only `raise LOOP(...)` makes a task run again"),
    )


def raised(frame: Frame, error: BaseException, elapsed: float) -> State:
    """The state that an exception of the body amounts to. Errors of the engine itself pass through."""
    if isinstance(error, FlowStopped):
        if error.frame is not frame:
            return _carrying(Failed("the flow that called it has ended", "cancelled"), error)
        return timed_out(frame, elapsed)
    if isinstance(error, DeadlinePassed):
        if error.args:  # the limit of a run above this one: its body is on the way out through here
            return _carrying(Failed("the run that called it ran into its timeout", "cancelled"), error)
        return timed_out(frame, elapsed)
    if isinstance(error, Signal):
        return _looped(frame, error) if isinstance(error, LOOP) else _signalled(frame, error)
    if isinstance(error, OURS):
        raise error
    if isinstance(error, Exception):
        return failed(frame, error)
    if _is_cancellation(error):
        if frame.out_of_time():
            return _carrying(Failed("the run that called it ran into its timeout", "cancelled"), error)
        frame.children.cut("the run that called it was cancelled")
    return _carrying(Failed(brief(error), "crashed", _error(frame, error)), error)


def _is_cancellation(error: BaseException) -> bool:
    loops = sys.modules.get("asyncio")  # who does not use it, does not load it
    return loops is not None and isinstance(error, loops.CancelledError)


def failed(frame: Frame, error: BaseException, cause: str = "error") -> Failed:
    """Failed with this exception."""
    return cast(Failed, _carrying(Failed(brief(error), cause, _error(frame, error)), error))


def _carrying(state: State, error: BaseException) -> State:
    state.carry(error)
    return state


def timed_out(frame: Frame, elapsed: float) -> State:
    """TimedOut after so many seconds of the body. Calls that the body still waits for end with it."""
    frame.children.cut("the run that called it ran into its timeout")
    kind, name = frame.definition.kind.capitalize(), frame.run.birth.run_name
    text = f"{kind} run {name!r} exceeded timeout of {frame.limit} second(s)"  # programs match on Prefect's words
    error = RunTimeout(f"{kind} run {name!r} timed out after {frame.limit} second(s)")
    return _carrying(TimedOut(text, frame.limit, elapsed, _error(frame, error)), error)


def _looped(frame: Frame, signal: LOOP) -> State:
    if frame.definition.kind == "flow":
        return failed(
            frame, TypeError("LOOP was raised in the body of a flow; only a task loops (write `while` in a flow)")
        )
    if frame.definition.owner.generates:
        return failed(
            frame, TypeError("LOOP was raised in a generator, which loops by itself: write `while` around its `yield`")
        )
    payload = None
    if signal.result is not NO_PAYLOAD:
        try:
            payload = frame.log.hooks.pack(signal.result)
        except UnpackableValue as error:
            return failed(frame, UnpackableValue(f"the payload of LOOP cannot be recorded: {error}"))
    return Looped(signal.message, signal.loop_count or frame.run.loop_count, payload)


def _signalled(frame: Frame, signal: Signal) -> State:
    """What a signal other than LOOP asks for: a final state as if it were returned, or another attempt."""
    state = signal.state(frame.log.clock.now)
    if isinstance(state, Retrying):
        return state
    if isinstance(state, Failed | TimedOut):
        return _carrying(replace(state, error=_error(frame, signal)), signal)
    return _returned_state(frame, state)


def _pack(frame: Frame, value: Any, settings: Settings) -> Any:
    try:
        serializer = frame.inherited("result_serializer") or settings.results_default_serializer
        return frame.log.hooks.pack(value) if serializer is None else _serialized(serializer, value)
    except UnpackableValue as error:
        _log.warning(
            "the result of %s is not recorded: %s; the run completes, but no cache and no resume can answer with it",
            frame.run.birth.run_name,
            error,
        )
        return Packed(ABSENT, str(error).encode())


def _serialized(wanted: Any, value: Any) -> Packed:
    """A value as another serializer than the log's own writes it, beside the reference that finds it again."""
    from ..serializers import resolve

    serializer = resolve(wanted)
    reference = getattr(serializer, "reference", None) or serializer.type
    try:
        return Packed(FOREIGN, msgspec.msgpack.encode([reference, serializer.dumps(value)]))
    except Exception as error:  # what a user's serializer raises says that it cannot
        raise UnpackableValue(f"the serializer {reference!r} does not take it ({brief(error)})") from error


def packed(frame: Frame, state: State) -> Any:
    """The state with its live data packed, as the log needs it."""
    if (
        (type(state) is Completed or type(state) is Cached)
        and state.data is not None
        and type(state.data) is not Packed
    ):
        live = state.data
        state = replace(state, data=_pack(frame, live, frame.settings))
        state.carry(live)
    elif type(state) is Looped and state.payload is not None and type(state.payload) is not Packed:
        state = replace(state, payload=frame.log.hooks.pack(state.payload))
    elif type(state) is Failed and state.data is not None and type(state.data) is not Packed:
        error = state.result(raise_on_failure=False)
        state = replace(state, data=None, error=state.error or _error(frame, error))
        state.carry(error)
    return state


def _error(frame: Frame, error: BaseException) -> Error:
    return packed_error(frame.log, error)


def packed_error(log: OpenLog, error: BaseException) -> Error:
    """An exception as the log keeps it."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        data = log.hooks.pack(error)
    except Exception as reason:  # its class may do anything when it is pickled
        data = Packed(ABSENT, str(reason).encode())
    return Error(name, str(error), user_traceback(error), data)


# --- how a flow ends ----------------------------------------------------------------------------------------


def _flow_value(frame: Frame, value: Any) -> Any:
    """The value or state that the returned value and the children together amount to."""
    if isinstance(value, State) and value.of_run is None:
        return value  # made by hand: taken as it is
    listed: Any = None
    if isinstance(value, Future | State):
        listed = [value]
    elif isinstance(value, list | tuple | set) and value:
        items = cast("list[Any]", value)
        listed = list(items) if all(isinstance(item, Future | State) for item in items) else None
    if not isinstance(value, quote) and holds_runs(value):
        states = [found.state for found in each_run(value)]
        value = resolved(value, lambda found: found.state)
        failed = [state for state in states if state.is_failed()]
        cancelled = [state for state in failed if state.is_cancelled()]
        if cancelled:
            return _cancelled(f"{len(cancelled)}/{len(states)} states cancelled.", frame, cancelled[0])
        if failed:
            return _children_failed(frame, len(failed), len(states), failed[0])
        if listed is not None:
            waiting = sum(not state.final for state in states)
            if waiting:
                return Failed(f"{waiting}/{len(states)} states are not final.", "children")
            return _citing(value, "All states completed.")
        return value
    unseen = [future for future in frame.children.failures if not future.looked_at]
    if unseen:
        for state in (future.state for future in unseen):
            error = state.result(raise_on_failure=False)
            if state.is_crashed() and not isinstance(error, Exception):
                # SystemExit and its like, which nobody has caught: no failure to go on from.
                return _carrying(Failed(brief(error), "crashed", _error(frame, error)), error)
        return _children_failed(frame, len(unseen), frame.children.total, unseen[0].state)
    if value is None and frame.children.total:
        whole = frame.children.completed == frame.children.total
        done = (
            "All states completed." if whole else f"{frame.children.completed}/{frame.children.total} states completed."
        )
        return Completed(done, Packed(1, b"\xc0"))
    return cast("Any", value)


def _children_failed(frame: Frame, failed: int, total: int, first: State) -> Failed:
    error = first.result(raise_on_failure=False)
    state = Failed(f"{failed}/{total} states failed.", "children", _error(frame, error))
    state.carry(error)
    return state


def _cancelled(message: str, frame: Frame, first: State) -> Failed:
    error = first.result(raise_on_failure=False)
    state = Failed(message, "cancelled", _error(frame, error))
    state.carry(error)
    return state


def _citing(value: Any, message: str) -> Completed:
    """Completed with a reference to the runs whose states were returned."""
    items: list[Any] = [value] if isinstance(value, State) else list(value)
    runs = [item.of_run or b"" for item in items]
    body = msgspec.msgpack.encode(runs[0] if isinstance(value, State) else runs)
    state = Completed(message, Packed(RESULT, body))
    state.carry(value)
    return state


def _with_error(state: Failed, error: Error, live: BaseException) -> Failed:
    """The same state with its error, still carrying the live exception."""
    state = replace(state, error=error)
    state.carry(live)
    return state


def brief(error: BaseException) -> str:
    """An exception in one line: its class and what it says."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def user_traceback(error: BaseException) -> str:
    """The traceback without our own frames: what people look for is theirs; as a worker wrote it, where it was raised there."""
    written = getattr(error, TRACE, None)
    if written is not None:
        return written
    package = f"{__name__.partition('.')[0]}."
    raw = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__", "")).startswith(package)
    ]
    return "".join(map(_traced, raw[-40:]))


_LOOKED_AGAIN: Final = 1.0
"""Seconds; a file that was read for a traceback is not looked at again within them, to see whether it was changed."""

_looked: Final[dict[str, float]] = {}


def _traced(at: tuple[FrameType, int | None]) -> str:
    frame, code, now = at[0], at[0].f_code, time.monotonic()
    line = at[1] or code.co_firstlineno  # a signal may come in at an instruction that belongs to no line
    if now - _looked.get(code.co_filename, -_LOOKED_AGAIN) >= _LOOKED_AGAIN:
        if len(_looked) > 1_000:
            _looked.clear()
        _looked[code.co_filename] = now
        linecache.checkcache(code.co_filename)
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    shown = f"    {text}\n" if text else ""
    return f'  File "{code.co_filename}", line {line}, in {code.co_name}\n{shown}'

"""
A body that is called in another process.

The process that owns the log leads the run: it makes proposals, records, waits, retries. Only the call of
the function travels, as bytes, with what the body may ask about its run; what comes back is its value or its
exception, and the lines that it logged. The worker opens no log.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec import Struct
from msgspec.structs import replace

from ..errors import FailedRun, MissingContextError, UnpackableValue
from ..pickling import dumps_by_value
from ..transitions import Run
from .context import current_frame, current_tags
from .deadlines import DeadlinePassed, call_within
from .outcomes import TRACE, user_traceback
from .signals import NO_PAYLOAD

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["Abroad", "call_abroad", "work"]


class _Seen(Struct):
    """What a body may ask about a run: its own, or one above it."""

    run: Run
    kind: str
    name: str
    version: str | None
    arguments: dict[str, Any]


class _Job(Struct):
    authored: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    lineage: list[_Seen]
    tags: tuple[str, ...]
    payload: tuple[Any, ...]
    level: int


class _Answer(Struct):
    value: Any = None
    error: BaseException | None = None
    trace: str = ""
    passed: bool = False
    lines: list[dict[str, Any]] = []


# --- the owner's side -------------------------------------------------------------------------------------


def call_abroad(frame: Frame) -> Any:
    """
    Call the body of a run through its runner, and give back what it returns or raises.

    Raises:
        UnpackableValue: The arguments cannot travel.
        WorkerDied: The worker died; whether the call took effect is not known.
        DeadlinePassed: The time was up.
    """
    job = _Job(
        frame.definition.owner,
        frame.args,
        frame.kwargs,
        [_seen(above) for above in _lineage(frame)],
        current_tags.get(),
        () if frame.live_payload is NO_PAYLOAD else (frame.live_payload,),
        logging.getLogger("pluperfect.task_runs").getEffectiveLevel(),
    )
    try:
        payload = dumps_by_value(job)
    except Exception as error:
        raise UnpackableValue(
            f"the call of {frame.run.name} cannot be sent to a worker: {type(error).__name__}: {error}."
            " Give it arguments that can be pickled, or let it run in threads."
        ) from error
    answer: _Answer = pickle.loads(frame.remote.call(payload, frame.limit))  # noqa: S301 - our own worker's
    for line in answer.lines:
        logger = logging.getLogger(line["name"])
        if logger.isEnabledFor(line["levelno"]):
            logger.handle(logging.makeLogRecord(line))
    if answer.passed:
        raise DeadlinePassed
    if answer.error is not None:
        with suppress(AttributeError):  # a class with slots, or one that refuses
            setattr(answer.error, TRACE, answer.trace)
        raise answer.error
    return answer.value


def _lineage(frame: Frame) -> Iterator[Frame]:
    """This run, its nearest flow, and the flows above."""
    yield frame
    above = frame.parent
    while above is not None:
        if above.definition.kind == "flow":
            yield above
        above = above.parent


def _seen(frame: Frame) -> _Seen:
    spec = replace(frame.run.birth, inputs=(), upstream=())
    run = replace(frame.run, spec=spec, state=None, payload=None, ruling=None)
    own = frame.definition.kind == "task"  # its arguments travel anyhow
    return _Seen(run, frame.definition.kind, frame.definition.name, frame.definition.version, _kept(frame, own=own))


def _kept(frame: Frame, *, own: bool) -> dict[str, Any]:
    """The arguments that can travel: a flow may have been given some that cannot."""
    if own:
        return frame.arguments
    kept: dict[str, Any] = {}
    for name, value in frame.arguments.items():
        try:
            dumps_by_value(value)
        except Exception:
            continue
        kept[name] = value
    return kept


# --- the worker's side ------------------------------------------------------------------------------------


class Abroad:
    """A run as a worker knows it: what may be asked about it, and no log."""

    def __init__(self, job: _Job, place: int = 0) -> None:
        seen = job.lineage[place]
        self.run: Run = seen.run
        self.arguments: dict[str, Any] = seen.arguments
        self.definition: Any = _Named(seen.kind, seen.name, seen.version)
        self.parent: Abroad | None = Abroad(job, place + 1) if place + 1 < len(job.lineage) else None
        self.live_payload: Any = job.payload[0] if not place and job.payload else NO_PAYLOAD
        self.session: Any = _Rooted(seen.run.birth.root)

    @property
    def flow(self) -> Any:
        """The nearest flow."""
        return self if self.definition.kind == "flow" else self.parent

    def checkpoint(self) -> None:
        """Called by each call into the engine: there is no log here to record it in."""
        raise MissingContextError(
            f"The task {self.definition.name!r} runs in a worker process and calls another task or flow, which could not be"
            " recorded there: the log belongs to the process of the flow. Make that call from the flow, call the plain"
            " function (`other_task.fn(...)`), or let this task run in threads."
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.checkpoint()


class _Named(Struct):
    kind: str
    name: str
    version: str | None


class _Rooted(Struct):
    root: bytes


def work(payload: bytes, limit: float = 0.0) -> bytes:
    """
    Call a body in this process: what a runner has a worker do.

    Args:
        payload: The call, from `call_abroad`.
        limit: Seconds after which to give the call up; 0 where whoever started this process will kill it.
    """
    job: _Job = pickle.loads(payload)  # noqa: S301 - sent by the process that owns the flow
    answer = _Answer()
    with _collected(job.level, answer.lines):
        token, tagged = current_frame.set(cast("Any", Abroad(job))), current_tags.set(job.tags)
        try:
            answer.value = call_within(limit, lambda: _called(job), set()) if limit else _called(job)
        except DeadlinePassed:
            answer.passed = True
        except BaseException as error:
            answer.error = error
            answer.trace = user_traceback(error)
        finally:
            current_frame.reset(token)
            current_tags.reset(tagged)
    return _answered(answer, job.authored.name)


def _called(job: _Job) -> Any:
    frame: Any = current_frame.get()
    authored = job.authored
    with ExitStack() as stack:
        hooks = _hooks()
        definition = authored.define(hooks.options(authored.kind))
        for manager in hooks.awake(definition).contexts(frame.run, definition):
            stack.enter_context(manager)
        value = authored.fn(*job.args, **job.kwargs)
        if authored.is_async:
            import asyncio

            value = asyncio.run(_all_of(value))
        if hasattr(value, "__next__") and hasattr(value, "gi_frame"):
            value = list(cast("Iterator[Any]", value))
        return value


async def _all_of(value: Any) -> Any:
    if hasattr(value, "__await__"):
        value = await value
    return [item async for item in value] if hasattr(value, "__aiter__") else value


@cache
def _hooks() -> Any:
    """The plugins that are installed here; those given to `open` as objects stay with the process that opened."""
    from ..manager import Hooks

    return Hooks()


def _answered(answer: _Answer, name: str) -> bytes:
    try:
        return dumps_by_value(answer)
    except Exception as reason:
        if answer.error is not None:
            kind = type(answer.error)
            error: Exception = FailedRun(f"{kind.__module__}.{kind.__qualname__}: {answer.error}")
        else:
            error = UnpackableValue(
                f"the result of {name} cannot be sent back from its worker: {type(reason).__name__}: {reason}"
            )
        return dumps_by_value(_Answer(error=error, trace=answer.trace, lines=answer.lines))


_KEPT: Final = ("name", "levelno", "levelname", "created", "msecs", "run_id", "run_name", "run_kind")


class _Collector(logging.Handler):
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        line = {key: getattr(record, key) for key in _KEPT if hasattr(record, key)}
        self._lines.append({**line, "msg": record.getMessage(), "args": ()})


@contextmanager
def _collected(level: int, lines: list[dict[str, Any]]) -> Iterator[None]:
    """Take the lines of this library's loggers, to be sent home."""
    logger, collector = logging.getLogger("pluperfect"), _Collector(lines)
    before, passed_on = logger.level, logger.propagate
    logger.addHandler(collector)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.setLevel(before)
        logger.propagate = passed_on

"""The loggers of runs, by what they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from ..authoring.context import frame_at_hand
from ..consoles import LOGGERS, RunLogger, run_logger
from ..errors import MissingContextError
from ..transitions import Run

__all__ = [
    "LogEavesdropper",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "task_run_logger",
]


def get_logger(name: str | None = None) -> logging.Logger:
    """The logger ``pluperfect``, or the one of this name below it."""
    if not name:
        return logging.getLogger("pluperfect")
    return logging.getLogger(name if name.split(".")[0] == "pluperfect" else f"pluperfect.{name}")


def get_run_logger(context: Any = None, **extra: Any) -> RunLogger:
    """
    The logger of the run at hand: what it is told says which run it comes from.

    Args:
        context: A context from `pluperfect.context`, instead of the one at hand.
        extra: Put on every record.

    Raises:
        MissingContextError: No flow or task runs here.
        TypeError: The context is none.
    """
    if context is not None and not hasattr(context, "body"):
        raise TypeError(
            f"Received unexpected type {type(context).__name__!r} for context. Expected one that `pluperfect.context` gives."
        )
    here: Any = frame_at_hand() if context is None else context.body
    if here is None and all(logger.disabled for logger in LOGGERS.values()):
        return RunLogger(LOGGERS["flow"], extra)  # under disable_run_logger(): a logger that says nothing
    if here is None:
        raise MissingContextError(
            "There is no active flow or task run context: get_run_logger() was called where none runs. Call it inside of"
            " one; elsewhere use get_logger()."
        )
    return run_logger(here.run, **extra)


def flow_run_logger(flow_run: Any, flow: Any = None, **extra: Any) -> RunLogger:
    """The logger of a flow run, given as a run or as `pluperfect.runtime.flow_run`."""
    return _logger_of(flow_run, "flow", flow, extra)


def task_run_logger(task_run: Any, task: Any = None, flow_run: Any = None, flow: Any = None, **extra: Any) -> RunLogger:
    """The logger of a task run, given as a run or as `pluperfect.runtime.task_run`."""
    return _logger_of(task_run, "task", task, extra)


def _logger_of(run: Any, kind: str, authored: Any, extra: dict[str, Any]) -> RunLogger:
    if isinstance(run, Run):
        return run_logger(run, **extra)
    known = {"run_id": str(run.id).replace("-", ""), "run_name": run.name, "run_kind": kind}
    return RunLogger(LOGGERS[kind], {**known, **extra})


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Silence the loggers of runs, for instance while a task's plain function is tested outside of runs."""
    loggers = [*LOGGERS.values()]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


class LogEavesdropper(logging.Handler):
    """
    Keeps the lines of a logger while it is entered by ``with``.

    Args:
        eavesdrop_on: The name of the logger.
        level: The lowest level to keep.
    """

    def __init__(self, eavesdrop_on: str, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._target = logging.getLogger(eavesdrop_on)
        self._lines: list[str] = []
        self.setFormatter(logging.Formatter("[%(levelname)s]: %(message)s"))

    def __enter__(self) -> Self:
        self._target.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._target.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self._lines.append(self.format(record))

    def text(self) -> str:
        """What was heard, a line each."""
        return "\n".join(self._lines)

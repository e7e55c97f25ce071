"""Prints: what a flow or task prints goes to the log of its run."""

from __future__ import annotations

import builtins
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final

from pluperfect.hooks import Definition, Option, hookimpl
from pluperfect.transitions import Run

__all__ = ["during", "options"]

_voice: Final[ContextVar[tuple[logging.Logger, dict[str, str]] | None]] = ContextVar("pluperfect_prints", default=None)
_lock: Final = threading.Lock()
_users = 0
_plain_print = builtins.print


def _flag(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"log_prints is True, False or None (as the caller has it), not {value!r}.")
    return value


@hookimpl
def options(kind: str) -> Sequence[Option]:
    """``log_prints``; what a flow sets holds in everything that it calls, unless that says otherwise."""
    return [Option("log_prints", None, "whether prints go to the log of the run", _flag, wakes=True)]


@hookimpl
def during(run: Run, definition: Definition) -> AbstractContextManager[Any] | None:
    """Let prints of this context speak through the run's logger, or through none."""
    wanted = definition.options["log_prints"]
    return None if wanted is None else _speaking(run, wanted=wanted)


@contextmanager
def _speaking(run: Run, *, wanted: bool) -> Iterator[None]:
    global _users, _plain_print
    spec = run.birth
    logger = logging.getLogger(f"pluperfect.{spec.kind}_runs")
    extra = {"run_id": run.id.hex(), "run_name": spec.run_name}
    token = _voice.set((logger, extra) if wanted else None)
    with _lock:
        _users += 1
        if builtins.print is not _print:  # also where somebody has put in a print of their own since
            _plain_print = builtins.print
            builtins.print = _print
    if wanted:
        _give_a_console(logger)
    try:
        yield
    finally:
        _voice.reset(token)
        with _lock:
            _users -= 1
            if _users == 0 and builtins.print is _print:
                builtins.print = _plain_print


def _print(*values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False) -> None:
    """Python's print, but for contexts in which a run listens."""
    voice = _voice.get()
    if voice is None or not (file is None or file is sys.stdout):
        _plain_print(*values, sep=sep, end=end, file=file, flush=flush)
        return
    text = (" " if sep is None else sep).join(map(str, values))
    token = _voice.set(None)  # a handler that prints must not be heard again
    try:
        voice[0].info("%s", text, extra=voice[1])
    finally:
        _voice.reset(token)


class _Line(logging.Formatter):
    """``HH:MM:SS.mmm | LEVEL   | Flow run 'x' - message``."""

    def format(self, record: logging.LogRecord) -> str:
        kind = "Flow" if record.name.endswith("flow_runs") else "Task"
        when = self.formatTime(record, "%H:%M:%S")
        source = f"{kind} run {getattr(record, 'run_name', '')!r}"
        return f"{when}.{int(record.msecs):03} | {record.levelname:<7} | {source} - {record.getMessage()}"


class _Console(logging.Handler):
    """Standard error, as it is when a line is written; silent once the host has handlers of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _has_handlers():
            sys.stderr.write(f"{self.format(record)}\n")


def _has_handlers() -> bool:
    return bool(logging.getLogger().handlers or logging.getLogger("pluperfect").handlers)


def _give_a_console(logger: logging.Logger) -> None:
    """Where the host has configured no logging, a print must still be seen."""
    if logger.hasHandlers():
        return
    console = _Console()
    console.setFormatter(_Line())
    logger.addHandler(console)
    if logger.getEffectiveLevel() == logging.WARNING and logging.getLogger("pluperfect").level == logging.NOTSET:
        logger.setLevel(logging.INFO)  # nobody has chosen a level

"""
The lines that runs write: their loggers, their format, and a console for scripts that have configured none.

A host that has configured logging finds ordinary records of ordinary loggers below ``pluperfect`` and
nothing else. Only where nobody listens at all is a console given, at the first run, so that a bare script
shows what it does.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from .histories import id_text
from .settings import get_current_settings

if TYPE_CHECKING:
    from .transitions import Run

__all__ = ["Line", "RunLogger", "give_a_console", "run_extra", "run_logger"]

ROOT: Final = logging.getLogger("pluperfect")
ROOT.addHandler(logging.NullHandler())  # or Python itself would print what nobody listens to
LOGGERS: Final[Mapping[str, logging.Logger]] = {
    "flow": logging.getLogger("pluperfect.flow_runs"),
    "task": logging.getLogger("pluperfect.task_runs"),
}


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that puts the run's id and name on every record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The caller's own ``extra`` stays."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def run_extra(run: Run) -> dict[str, Any]:
    """What a record says of its run: as we call it, and as Prefect's formats do (``%(flow_run_name)s``)."""
    spec = run.birth
    kind, name, id = spec.kind, spec.run_name, run.id.hex()
    own = {f"{kind}_run_id": id_text(run.id), f"{kind}_run_name": name, f"{kind}_name": spec.name}
    return {"run_id": id, "run_name": name, "run_kind": kind, **own}


def run_logger(run: Run, **extra: Any) -> RunLogger:
    """The logger of a run."""
    return RunLogger(LOGGERS[run.birth.kind], {**run_extra(run), **extra})


class Line(logging.Formatter):
    """``HH:MM:SS.mmm | LEVEL   | source - message``; the source is the run, or the logger's name."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the traceback, if there is one."""
        name: str | None = getattr(record, "run_name", None)
        source = record.name if name is None else f"{getattr(record, 'run_kind', 'flow').capitalize()} run {name!r}"
        when = self.formatTime(record, "%H:%M:%S")
        line = f"{when}.{int(record.msecs):03} | {record.levelname:<7} | {source} - {record.getMessage()}"
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class _Console(logging.Handler):
    """Standard error, as it is when a line is written; silent once the host has handlers of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if _host_listens() and get_current_settings().logging_to_console != "always":
            return
        stream = sys.stderr
        line = self.format(record)
        if get_current_settings().logging_colors and getattr(stream, "isatty", bool)():
            line = _coloured(line, record.levelno)
        try:
            stream.write(f"{line}\n")
        except Exception:
            self.handleError(record)


def _coloured(line: str, level: int) -> str:
    import os

    if os.environ.get("NO_COLOR"):
        return line
    code = "31" if level >= logging.ERROR else "33" if level >= logging.WARNING else ""
    return f"\033[{code}m{line}\033[0m" if code else line


def _host_listens() -> bool:
    own = [handler for handler in ROOT.handlers if not isinstance(handler, _Console | logging.NullHandler)]
    return bool(logging.getLogger().handlers or own)


_given = False
_giving: Final = threading.Lock()


def give_a_console() -> None:
    """At the first run of a process: where nobody has configured logging, lines must still be seen."""
    global _given
    if _given:
        return
    with _giving:
        if _given:
            return
        _given = True
        settings = get_current_settings()
        wanted = settings.logging_to_console
        if wanted == "never" or (wanted == "auto" and _host_listens()):
            return
        console = _Console()
        console.setFormatter(Line())
        level = logging.getLevelNamesMapping().get(str(settings.logging_level).upper(), logging.INFO)
        names = settings.logging_extra_loggers or ()
        for logger in (ROOT, *(logging.getLogger(name) for name in names)):
            logger.addHandler(console)
            if logger.level == logging.NOTSET:  # nobody has chosen one
                logger.setLevel(level)

"""Prints: what a flow or task prints goes to the log of its run."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final

from pluperfect.ambient import current_body
from pluperfect.consoles import run_logger
from pluperfect.hooks import Definition, Option, hookimpl
from pluperfect.settings import get_current_settings
from pluperfect.transitions import Run

__all__ = ["during", "options"]

_heard: Final[ContextVar[bool | None]] = ContextVar("pluperfect_prints", default=None)
"""Whether prints of this context go to the run's log; None where nobody has said."""

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
    return [Option("log_prints", None, "whether prints go to the log of the run", _flag)]


@hookimpl
def during(run: Run, definition: Definition) -> AbstractContextManager[Any] | None:
    """Let prints of this context speak through the logger of the run at hand, or through none."""
    wanted = definition.options["log_prints"]
    spec = run.spec
    if wanted is None and (spec is None or spec.parent is None):  # below, what holds for the caller holds
        wanted = get_current_settings().logging_log_prints or None
    return None if wanted is None else _listening(wanted=wanted)


@contextmanager
def _listening(*, wanted: bool) -> Iterator[None]:
    global _users, _plain_print
    token = _heard.set(wanted)
    with _lock:
        _users += 1
        if builtins.print is not _print:  # also where somebody has put in a print of their own since
            _plain_print = builtins.print
            builtins.print = _print
    try:
        yield
    finally:
        _heard.reset(token)
        with _lock:
            _users -= 1
            if _users == 0 and builtins.print is _print:
                builtins.print = _plain_print


def _print(*values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False) -> None:
    """Python's print, but for contexts in which a run listens."""
    body = current_body.get()
    if not _heard.get() or body is None or not (file is None or file is sys.stdout):
        _plain_print(*values, sep=sep, end=end, file=file, flush=flush)
        return
    text = (" " if sep is None else sep).join(map(str, values))
    token = _heard.set(False)  # a handler that prints must not be heard again
    try:
        run_logger(body.run).info("%s", text)
    finally:
        _heard.reset(token)

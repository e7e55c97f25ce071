"""
Call sites: the line of the user's code that made a call, as records name it, and as people look it up.

A site is written like the place a function is imported from: ``module:line`` or, for a script, ``file.py:line``.
Reading a source line imports nothing.
"""

from __future__ import annotations

import linecache
import os
import sys
from importlib.machinery import PathFinder
from types import FrameType, TracebackType
from typing import Final, NamedTuple

from .digests import SCRIPT

__all__ = ["Line", "call_site", "line_of", "raise_site", "shown_site"]

_OURS: Final = frozenset({"pluperfect", "pluperfect_store", "pluperfect_plugins", "pluperfect_dask"})


class Line(NamedTuple):
    """
    A line of source.

    Attributes:
        file: Its file.
        number: Its number there, from 1.
        text: What stands there now, without the white space around it.
    """

    file: str
    number: int
    text: str


def call_site(above: int = 1) -> str:
    """
    Where the innermost code at hand stands that is not this library's; empty where there is none.

    Args:
        above: How many calls up the look begins; what is nearer is known to be this library's.
    """
    try:
        frame: FrameType | None = sys._getframe(above)
    except ValueError:  # nothing in Python stands there: a thread was begun with a flow or task as all it does
        frame = None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not (_ours[module] if module in _ours else _is_ours(module)):
            return _site(frame, module, frame.f_lineno)
        frame = frame.f_back
    return ""


_ours: Final[dict[str, bool]] = {}
"""Of each module whether it is this library's."""


def _is_ours(module: str) -> bool:
    ours = _ours.get(module)
    if ours is None:
        ours = _ours[module] = module.partition(".")[0] in _OURS
    return ours


def innermost(error: BaseException) -> TracebackType | None:
    """The innermost line on the way of an exception; None where it was not raised."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def raised_here(error: BaseException) -> bool:
    """Whether the innermost line on the way of an exception is this library's."""
    last = innermost(error)
    return last is None or _is_ours(str(last.tb_frame.f_globals.get("__name__", "")))


def raise_site(error: BaseException) -> str:
    """The innermost line on the way of an exception that is not this library's; empty where there is none."""
    found = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if not _is_ours(module):
            line: int | None = trace.tb_lineno  # none where a signal came in at an instruction that belongs to no line
            found = _site(trace.tb_frame, module, line or trace.tb_frame.f_code.co_firstlineno)
        trace = trace.tb_next
    return found


def _site(frame: FrameType, module: str, line: int) -> str:
    if module == "__main__" or module.startswith(SCRIPT):
        module = _script(frame) or module
    return f"{module}:{line}"


def _script(frame: FrameType) -> str:
    """The file of a script; empty for what somebody types in."""
    file: str | None = frame.f_globals.get("__file__")
    if not file:
        return ""
    known = _scripts.get(file)
    if known is None:
        known = os.path.abspath(file)  # noqa: PTH100 - pathlib is not loaded for this
        if known == file and len(_scripts) < _MANY:  # one that is relative depends on the working folder
            _scripts[file] = known
    return known


_MANY: Final = 1_000
_scripts: Final[dict[str, str]] = {}
"""The paths of scripts that are absolute and normal as they stand."""


def line_of(site: str) -> Line | None:
    """
    The line that a site names, as it stands there today; None where there is no such file or line.

    The module is looked up, and not imported.
    """
    place, _, number = site.rpartition(":")
    if not place or not number.isdecimal():
        return None
    file = place if place.endswith(".py") else _file_of(place)
    if file is None:
        return None
    linecache.checkcache(file)
    text = linecache.getline(file, int(number)).strip()
    return Line(file, int(number), text) if text else None


def _file_of(module: str) -> str | None:
    known = sys.modules.get(module)
    if known is not None:
        return getattr(known, "__file__", None)
    path: list[str] | None = None
    spec = None
    parts = module.split(".")
    try:
        for depth in range(len(parts)):
            spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
            if spec is None:
                return None
            path = list(spec.submodule_search_locations or ())
    except (ImportError, OSError, ValueError):
        return None
    return None if spec is None or not spec.has_location else spec.origin


def shown_site(site: str) -> str:
    """A site as people read it: a file in or under the working folder is named from there."""
    place, colon, number = site.rpartition(":")
    here = f"{os.getcwd()}{os.sep}"  # noqa: PTH109 - pathlib is not loaded for this
    return f"{place.removeprefix(here)}{colon}{number}" if place.endswith(".py") else site

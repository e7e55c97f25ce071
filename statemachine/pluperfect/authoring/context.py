"""Where the code at hand runs: in which log, in which run, under which tags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from ..ambient import current_body

if TYPE_CHECKING:
    from .frames import Frame
    from .logs import OpenLog

__all__ = ["current_frame", "current_log", "current_tags", "frame_at_hand", "tags", "telling"]

current_frame: Final[ContextVar[Frame | None]] = current_body
"""The run whose body is being called here."""

_told: Final[ContextVar[tuple[Frame, Frame | None] | None]] = ContextVar("pluperfect_told", default=None)

current_log: Final[ContextVar[OpenLog | None]] = ContextVar("pluperfect_log", default=None)
"""The log of the nearest ``with pluperfect.open(...)`` in this context."""

current_tags: Final[ContextVar[tuple[str, ...]]] = ContextVar("pluperfect_tags", default=())


class telling:  # noqa: N801 - reads as what it says
    """While the recorders of a run are told of it, the code at hand belongs to that run; what it calls does not."""

    __slots__ = ("_frame", "_token")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __enter__(self) -> None:
        self._token = _told.set((self._frame, current_frame.get()))

    def __exit__(self, *_: object) -> None:
        _told.reset(self._token)


def frame_at_hand() -> Frame | None:
    """The run that the code at hand belongs to: whose body it is, or who is being told of it."""
    here, told = current_frame.get(), _told.get()
    return told[0] if told is not None and told[1] is here else here


@contextmanager
def tags(*names: str) -> Iterator[set[str]]:
    """
    Tag every flow and task run that begins inside; nested blocks are united.

    Yields:
        All tags that hold inside.

    Raises:
        TypeError: A tag is no string.
    """
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"A tag is a string, not {name!r}.")
    united = tuple(sorted({*current_tags.get(), *names}))
    token = current_tags.set(united)
    try:
        yield set(united)
    finally:
        current_tags.reset(token)

"""Where the code at hand runs: in which log, in which run, under which tags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from ..ambient import current_body
from ..errors import MissingContextError
from .names import marked

if TYPE_CHECKING:
    from .frames import Frame
    from .logs import OpenLog

__all__ = [
    "calling_frame",
    "current_frame",
    "current_log",
    "current_tags",
    "effect_id",
    "frame_at_hand",
    "tags",
    "tags_at_hand",
    "telling",
]

current_frame: Final[ContextVar[Frame | None]] = current_body
"""The run whose body is being called here."""

calling_frame: Final = current_frame.get
"""Gives the run whose body is being called here. Bound once: each call asks for it several times."""

_told: Final[ContextVar[tuple[Frame, Frame | None] | None]] = ContextVar("pluperfect_told", default=None)

current_log: Final[ContextVar[OpenLog | None]] = ContextVar("pluperfect_log", default=None)
"""The log of the nearest ``with pluperfect.open(...)`` in this context."""

current_tags: Final[ContextVar[tuple[str, ...]]] = ContextVar("pluperfect_tags", default=())

tags_at_hand: Final = current_tags.get
"""Gives the tags of the blocks around this code. Bound once too."""


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


def effect_id(per: Literal["run", "attempt"] = "run") -> str:
    """
    A key for what the body at hand does to the outside world: give it to systems that take idempotency keys.

    A call that is made again, after a failure or in another process, has the same one; each iteration of a loop has
    its own.

    Args:
        per: ``run``: the same for every attempt. ``attempt``: each attempt has its own, also the one that follows an
            interruption.

    Returns:
        A UUID.

    Raises:
        MissingContextError: No run's body is being called here.
        ValueError: ``per`` is neither of the two.
    """
    if per not in ("run", "attempt"):
        raise ValueError(f"effect_id is per 'run' or per 'attempt', not per {per!r}.")
    body = current_body.get()
    if body is None:
        raise MissingContextError(
            "effect_id() names the effect of a flow or task run; it is called in the body of one."
        )
    run = body.run
    place = f"{run.id.hex()}/{run.loop_count}/{run.attempt if per == 'attempt' else ''}"
    return str(UUID(bytes=marked(sha256(f"pluperfect effect {place}".encode()).digest()[:16])))

"""Recorded calls of a body that is led again, read before they are made again: many from one snapshot, not each from its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import StoreDamaged
from ..records import decode_each
from ..transitions import Run, apply

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["Ahead"]

_FIRST: Final = 8
_MOST: Final = 64
"""So many runs are read at first, and at most: a short body should not pay for a long one."""


class Ahead:
    """
    The recorded calls of one body that have ended, in the order in which they were made.

    Only these are read ahead: what has ended stays as it is, whoever writes meanwhile. Each is given once.

    Args:
        log: Where they are recorded.
        caller: The run whose body made them.
    """

    __slots__ = ("_after", "_caller", "_log", "_over", "_read", "_size")

    def __init__(self, log: OpenLog, caller: bytes) -> None:
        self._log, self._caller = log, caller
        self._read: dict[bytes, Run] = {}
        self._after = 0  # the place of birth of the last one that was read
        self._size = _FIRST
        self._over = False

    def take(self, run: bytes) -> Run | None:
        """The run, where it has ended and comes next or soon; None: it has to be looked for by itself."""
        # Those that nobody takes pile up where the code has changed: then nothing is read ahead any more.
        if run not in self._read and not self._over and len(self._read) <= _MOST:
            self._go_on()
        return self._read.pop(run, None)

    def _go_on(self) -> None:
        size = self._size
        self._size = min(size * 2, _MOST)
        folded: dict[bytes, Run] = {}
        try:
            called = self._log.log.called(self._caller, self._after, size)
            for record, entry in decode_each((row for rows in called for _, row in rows), self._log.log.blob):
                before = folded.get(record.run) or Run(record.run)
                folded[record.run] = before if entry is None else apply(before, entry)
        except StoreDamaged:  # the call whose record it is says so, if it is made again
            self._over = True
            return
        self._over = not called
        self._read.update((run, found) for run, found in folded.items() if found.final)
        if called:
            self._after = called[-1][0][0]

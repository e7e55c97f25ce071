"""Recorded calls of a body that is led again, read before they are made again: many from one snapshot, not each from its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ..errors import StoreDamaged

if TYPE_CHECKING:
    from ..transitions import Run
    from .logs import OpenLog

__all__ = ["Ahead"]

_FIRST: Final = 8
_MOST: Final = 64
"""So many runs are read at first, and at most at a time: a short body should not pay for a long one."""


class Ahead:
    """
    The recorded calls of one body that have ended, in the order in which they were made.

    Only these are read ahead: what has ended stays as it is, whoever writes meanwhile. Each is given once.

    Args:
        log: Where they are recorded.
        caller: The run whose body made them.
        generation: Which call of its body.
    """

    __slots__ = ("_after", "_caller", "_generation", "_lock", "_log", "_over", "_read", "_size")

    def __init__(self, log: OpenLog, caller: bytes, generation: int) -> None:
        self._log, self._caller, self._generation = log, caller, generation
        self._read: dict[bytes, Run] = {}
        self._after = 0  # where the last one was born that was read
        self._size = _FIRST
        self._over = False
        self._lock = threading.Lock()  # held by who reads on

    def take(self, run: bytes) -> Run | None:
        """The run, where it has ended and comes next or soon; None: it has to be looked for by itself."""
        # Those that nobody takes pile up where the code has changed: then nothing is read ahead any more.
        if run not in self._read and not self._over and len(self._read) <= _MOST and self._lock.acquire(blocking=False):
            try:
                self._go_on()
            except StoreDamaged:  # the call whose record it is says so, if it is made again
                self._over = True
            finally:
                self._lock.release()
        return self._read.pop(run, None)

    def _go_on(self) -> None:
        """Read the next page that has something of this call of the body."""
        found: dict[bytes, Run] = {}
        while not found:
            called = self._log.called(self._caller, self._after, self._size)
            if not called:
                self._over = True
                return
            self._size = min(self._size * 2, _MOST)
            self._after = called[-1][0]
            found = {
                run.id: run
                for _, _, run in called
                if run.final and run.spec is not None and run.spec.generation == self._generation
            }
        self._read.update(found)

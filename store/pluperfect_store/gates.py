"""What transactions of one process have to agree on: reads share, and a resize of the map has to be alone for a moment."""

from __future__ import annotations

import threading
import time

__all__ = ["Gate", "MapFull", "MapResized"]


class MapFull(Exception):
    """The transaction is void; make the map larger and do it again."""


class MapResized(Exception):
    """Another process made the map larger; take its size over and do it again."""


class Gate:
    """
    Many may be inside at once; a resize of the map, a fork or a close waits until nobody is, and keeps
    others out meanwhile. Whoever is inside must not enter again.
    """

    __slots__ = ("_alone", "_cond", "_lock", "inside")

    def __init__(self) -> None:
        # Entered by itself, not as the condition: who is interrupted between the two would leave it locked.
        self._lock = threading.Lock()
        self._cond = threading.Condition(self._lock)
        self._alone = False
        self.inside = 0

    def enter(self) -> None:
        """Go in, once nobody has to be alone any more."""
        with self._lock:
            while self._alone:
                self._cond.wait()
            self.inside += 1

    def leave(self) -> None:
        """Go out."""
        with self._lock:
            self.inside -= 1
            if self._alone and not self.inside:  # else nobody waits for that
                self._cond.notify_all()

    def shut(self, timeout: float | None = None) -> bool:
        """
        Keep everybody out, and wait until nobody is inside.

        Returns:
            False where somebody still was after ``timeout`` seconds; the gate is shut all the same.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while self._alone:
                self._cond.wait()
            self._alone = True
            while self.inside:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._cond.wait(left)
        return True

    def open(self) -> None:
        """Let everybody in again."""
        with self._lock:
            self._alone = False
            self._cond.notify_all()

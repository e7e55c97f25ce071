"""For the tests of people who use this library: a clock that makes nobody wait, and words for what is on record."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..histories import RecordedRun
    from .stubbing import calls, error, find, play, recorded, stubs

__all__ = ["FakeClock", "calls", "error", "find", "kinds", "play", "recorded", "stubs"]


class FakeClock:
    """
    A clock that stands still until somebody sleeps, and then moves to the end of the sleep at once.

    Args:
        start: UTC seconds since the epoch.
    """

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.slept: list[float] = []
        """The sleeps so far, in seconds, in order."""

    def now(self) -> float:
        """The time of this clock, UTC seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        with self._lock:
            self._now = round(self._now + seconds, 6)

    def sleep_until(self, due: float) -> None:
        """Move to this time, if it lies ahead."""
        with self._lock:
            if due > self._now:
                self.slept.append(round(due - self._now, 6))
                self._now = due

    async def wait_until(self, due: float) -> None:
        """The same for coroutines."""
        self.sleep_until(due)


def kinds(run: RecordedRun) -> list[str]:
    """The kinds of a run's transitions, in order: ``["Pending", "Running", "Completed"]``."""
    return [transition.to.kind for transition in run.transitions]


def __getattr__(name: str) -> object:
    # They need the engine, which a test that only wants a clock need not load.
    if name in {"calls", "error", "find", "play", "recorded", "stubs"}:
        from . import stubbing as room

        return getattr(room, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

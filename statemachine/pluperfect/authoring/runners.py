"""Where submitted calls run: threads. A plugin like any other, by the name ``threads``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..hooks import hookimpl

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["ThreadPoolTaskRunner"]

MANY: Final = 256
"""Threads at most where nobody sets a number: enough to wait for a network, few enough to fit in memory."""


class ThreadPoolTaskRunner:
    """
    Makes submitted calls in threads of this process.

    Args:
        max_workers: How many at once; None means 256. A worker that waits for a call which no other worker
            has begun makes that call itself, so that a small number cannot deadlock.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (
            isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1
        ):
            raise ValueError(f"max_workers is a whole number from 1, or None, not {max_workers!r}.")
        self.max_workers = max_workers
        self._pool: ThreadPoolExecutor | None = None

    def duplicate(self) -> ThreadPoolTaskRunner:
        """A runner with the same settings and no threads yet: each flow run has its own."""
        return ThreadPoolTaskRunner(self.max_workers)

    def submit(self, call: Callable[[], None]) -> None:
        """Have this called in a thread."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self.max_workers or MANY, "pluperfect")
        self._pool.submit(call)

    def close(self) -> None:
        """Wait for every call that was submitted."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


@hookimpl
def make_runner(name: str) -> ThreadPoolTaskRunner | None:
    """The runner called ``threads``."""
    return ThreadPoolTaskRunner() if name == "threads" else None

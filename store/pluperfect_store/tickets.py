"""One append on its way to the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .ledger import Prepared

if TYPE_CHECKING:
    from pluperfect.hooks import Part

    from .environment import Transaction
    from .writer import Writer

__all__ = ["Pending"]


class Pending:
    """
    One append on its way, and its `pluperfect.hooks.Ticket`.

    A job is something else that needs the write transaction: it is alone in its batch.
    """

    __slots__ = ("_writer", "answer", "callbacks", "done", "error", "job", "op", "queued", "waited", "waiters")

    def __init__(self, writer: Writer, op: Prepared | None, job: Callable[[Transaction], Any] | None = None) -> None:
        self._writer, self.op, self.job = writer, op, job
        self.done = self.queued = False
        self.waited = 0  # how many wait for it, or did until their time was up
        self.error: BaseException | None = None
        self.answer: Any = None
        self.waiters: list[threading.Lock] | None = None
        self.callbacks: list[Callable[[], None]] | None = None

    def wait(self, timeout: float | None = None) -> None:
        """
        Wait for the commit, or make it; see `pluperfect.hooks.Ticket.wait`. Ctrl-C ends the wait, not the append.

        Raises:
            StoreError: Also where the thread that writes, in a callback, would wait for itself.
        """
        if not self.done and timeout is None:
            self._writer.lead(self)
        if not self.done:
            lock = self._writer.attend(self)
            if lock is not None and not lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
                raise TimeoutError(f"The append is not committed after {timeout} seconds; it goes on.")
        if self.error is not None:
            raise self.error

    def extend(self, part: Part) -> bool:
        """Let the append go on with more entries, as one; see `pluperfect.hooks.Ticket.extend`."""
        return self._writer.extend(self, part)

    def notify(self, callback: Callable[[], None]) -> None:
        """Call this, in the writer thread, once the append is done; at once where it is done already."""
        if self._writer.call_when_done(self, callback):
            callback()

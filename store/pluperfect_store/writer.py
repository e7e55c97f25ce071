"""
Group commit: one thread writes for all.

Callers put appends into a queue and go on, or wait on their tickets. The thread takes what is queued,
writes it in one transaction and syncs it once; meanwhile the next batch collects. If the last batch held
several appends that somebody waited for, it gathers for up to a millisecond before it begins: without that,
half of the callers would miss each batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pluperfect.errors import StoreClosed

from .ledger import Append

__all__ = ["Writer", "WriterTicket"]

MOST_APPENDS = 512
MOST_BYTES = 1 << 20
QUEUE_BYTES = 64 << 20
GATHER = 0.001
NAP = 0.000_05


class _Commits(Protocol):
    def commit(self, appends: list[Append]) -> list[Exception | None]:
        """Write these in one transaction. Returns for each why it was refused, or None."""
        ...


class WriterTicket:
    """The ticket of a queued append."""

    __slots__ = ("_callbacks", "_locks", "_writer", "append", "due", "error", "ready", "waited")

    def __init__(self, writer: Writer, append: Append | None, due: float) -> None:
        self._writer, self.append, self.due = writer, append, due
        self.ready = self.waited = False
        self.error: Exception | None = None
        self._locks: list[threading.Lock] | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    @property
    def done(self) -> bool:
        """Whether the append was committed or refused."""
        return self.ready

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the commit; an interrupt ends the wait, not the append."""
        if not self.ready:
            lock = threading.Lock()
            lock.acquire()
            with self._writer.condition:
                if not self.ready:
                    if self._locks is None:
                        self._locks = []
                    self._locks.append(lock)
                    self._writer.urge(self)
                else:
                    lock.release()
            if not lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
                raise TimeoutError(f"The append is not committed after {timeout} seconds; it goes on.")
        if self.error is not None:
            raise self.error

    def notify(self, callback: Callable[[], None]) -> None:
        """Call this once the append is done."""
        with self._writer.condition:
            if not self.ready:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                self._writer.urge(self)
                return
        callback()

    def resolve(self, error: Exception | None) -> list[Callable[[], None]]:
        """The append is done; called by the writer under its condition. Gives back whom to call."""
        self.error, self.append = error, None
        self.ready = True
        for lock in self._locks or ():
            lock.release()
        callbacks, self._locks, self._callbacks = self._callbacks, None, None
        return callbacks or []


class Writer:
    """The queue and its thread."""

    def __init__(self, store: _Commits) -> None:
        self._store = store
        self.condition = threading.Condition()
        self._queue: deque[WriterTicket] = deque()
        self._queued = 0
        self._waited = 0
        self._soonest = 0.0
        self._writing = False
        self._closing = False
        self.failure: Exception | None = None
        self.keys: dict[str, WriterTicket] = {}
        self._thread = threading.Thread(target=self._run, name="pluperfect-writer", daemon=True)
        self._thread.start()

    # --- for callers

    def put(self, append: Append, hold: float) -> WriterTicket:
        """Queue an append. It is committed within ``hold`` seconds, or sooner if somebody waits."""
        ticket = WriterTicket(self, append, time.monotonic() + hold)
        with self.condition:
            self._refuse_if_ended()
            while self._queued > QUEUE_BYTES and not self._closing:
                self._hurry()
                self.condition.wait(0.05)
                self._refuse_if_ended()
            self._queued += append.size
            for key in append.keys:
                self.keys[key] = ticket
            self._enqueue(ticket)
        return ticket

    def _enqueue(self, ticket: WriterTicket) -> None:
        first = not self._queue
        self._queue.append(ticket)
        if first or ticket.due < self._soonest:
            self._soonest = ticket.due
            self.condition.notify_all()

    def urge(self, ticket: WriterTicket) -> None:
        """Somebody waits for this one. Called under the condition."""
        if not ticket.waited:
            ticket.waited = True
            self._waited += 1
            self.condition.notify_all()

    def _hurry(self) -> None:
        if self._queue:
            self.urge(self._queue[0])

    def flush(self) -> None:
        """Return when everything queued before is committed or refused."""
        with self.condition:
            if self.failure is not None:
                raise self.failure
            if not self._queue and not self._writing:
                return
            barrier = WriterTicket(self, None, time.monotonic())
            self._enqueue(barrier)
        barrier.wait()

    def settle_key(self, key: str) -> None:
        """Wait for the queued append that stores a result under this key, if there is one."""
        ticket = self.keys.get(key)
        if ticket is not None:
            try:
                ticket.wait()
            except Exception:  # noqa: S110 - its own caller is told; here it only means that nothing was stored
                pass

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        with self.condition:
            self._closing = True
            self.condition.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _refuse_if_ended(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._closing:
            raise StoreClosed("The log was closed; it takes no more entries. Open it again.")

    # --- the thread

    def _run(self) -> None:
        gathered = 0
        while True:
            batch = self._next(gathered)
            if batch is None:
                return
            appends = [ticket.append for ticket in batch if ticket.append is not None]
            gathered = sum(ticket.waited for ticket in batch)
            try:
                errors = iter(self._store.commit(appends) if appends else [])
            except Exception as error:  # the store has failed and stops: nobody must wait for ever
                self._fail(batch, error)
                return
            self._resolve(batch, [None if ticket.append is None else next(errors) for ticket in batch])

    def _next(self, gathered: int) -> list[WriterTicket] | None:
        with self.condition:
            while True:
                if self._queue:
                    left = self._soonest - time.monotonic()
                    if self._waited or left <= 0 or self._closing:
                        break
                    self.condition.wait(left)
                elif self._closing:
                    return None
                else:
                    self.condition.wait()
            if gathered > 1 and self._waited < gathered and not self._closing:
                until = time.monotonic() + GATHER
                while self._waited < gathered and time.monotonic() < until:
                    self.condition.wait(NAP)
            batch: list[WriterTicket] = []
            size = 0
            while self._queue and len(batch) < MOST_APPENDS and size < MOST_BYTES:
                ticket = self._queue.popleft()
                batch.append(ticket)
                if ticket.append is not None:
                    size += ticket.append.size
                if ticket.waited:
                    self._waited -= 1
                # What is waited for from here on rides in this batch and must not call for another.
                ticket.waited = True
            self._queued -= size
            self._soonest = min((ticket.due for ticket in self._queue), default=0.0)
            self._writing = True
            return batch

    def _resolve(self, batch: list[WriterTicket], errors: list[Exception | None]) -> None:
        callbacks: list[Callable[[], None]] = []
        with self.condition:
            for ticket, error in zip(batch, errors, strict=True):
                append = ticket.append
                for key in append.keys if append is not None else ():
                    if self.keys.get(key) is ticket:
                        del self.keys[key]
                callbacks.extend(ticket.resolve(error))
            self._writing = False
            self.condition.notify_all()
        for callback in callbacks:
            callback()

    def _fail(self, batch: list[WriterTicket], error: Exception) -> None:
        with self.condition:
            self.failure = error
            left = [*batch, *self._queue]
            self._queue.clear()
        self._resolve(left, [error] * len(left))

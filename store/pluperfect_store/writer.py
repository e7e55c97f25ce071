"""
Group commit: at any time one thread of each process writes what all have appended, many appends to a transaction.

While one batch is being synced the next one collects. Who waits for a ticket while nobody writes or waits writes the
batch himself: to hand it to another thread and to be woken by it costs about as much as the work. So does a thread that
has filled the queue alone, before it adds more: another one would take the interpreter away from it at every row. Else a
thread of the writer's own does: what several wait for, and at the end of its hold what nobody waits for. A refused append
fails alone, and an error that nobody expected makes the batch be written one by one, so that only the culprit fails.

Queue, thread and errors of a commit are one class: they share one lock and one order of events.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from pluperfect.errors import Conflict, Fenced, PluperfectError, StoreClosed, StoreError, StoreForked, StoreFull
from pluperfect.locks import give_way
from pluperfect.sites import raised_here

from .gates import MapFull, MapResized
from .layout import encode_value
from .leases import this_process
from .ledger import Batch, Changes, Left, Piece, Prepared, continuing
from .tickets import Pending
from .trailing import Trail

if TYPE_CHECKING:
    from pluperfect.hooks import Part

    from .environment import Environment, Transaction

__all__ = ["House", "Writer"]

_log: Final = logging.getLogger("pluperfect.store")

_MOST_OPS: Final = 512
_MOST_BYTES: Final = 1 << 20  # in one batch: the writer lock is other processes' too
_QUEUE_BYTES: Final = 1 << 20  # waiting appends, some eight times that in memory; who wants to add more waits for room
_ENOUGH: Final = 3 << 17  # bytes that one thread has appended, which then writes them itself
_SOME: Final = 1 << 15  # the same, where they will have to be written soon
_QUICK: Final = 0.002  # seconds for a commit; who does not wait for his own does not stand still for a slower disk
_GATHER: Final = 0.001  # seconds
_NAP: Final = 50e-6
_SOON: Final = 1.0
_CHECK_READERS: Final = 60.0
_NEVER: Final = float("inf")
_NOTHING: Final = Prepared((), 0, 0, {})
_NOWHERE: Final = (None, 0, None)


class House(Protocol):
    """What the writer needs of the store that it writes for."""

    def environment(self) -> Environment:
        """The open environment."""
        ...

    def alone(self, act: Callable[[], None]) -> None:
        """Do this while no transaction of this process is open."""
        ...

    def committed(self, position: int) -> None:
        """The log now ends here."""
        ...

    @property
    def owner(self) -> bytes:
        """The id of this opening of the store."""
        ...

    @property
    def lease_seconds(self) -> float:
        """For how long it keeps its trees without being heard of."""
        ...


class Writer:
    """
    The queue and the thread that empties it. The thread begins with the first append.

    Attributes:
        gate: Held while a write transaction may be open; whoever forks takes it first.
        mutex: Guards the queue and the tickets.
    """

    def __init__(self, house: House, name: str) -> None:
        self._house, self._name = house, name
        self.gate = threading.Lock()
        self.mutex = threading.RLock()
        self._wake = threading.Condition(self.mutex)
        self._room = threading.Condition(self.mutex)
        self._queue: deque[Pending] = deque()
        self._flying: list[Pending] = []
        self._last: Pending | None = None
        self._keys: dict[str, Pending] = {}
        self._bytes = self._waited = self._pressed = 0
        self._due = self._alarm = _NEVER
        self._thread: threading.Thread | None = None
        self._inside = False  # whether somebody holds the mutex for many steps; a hint, for who wants it next
        self._filler = 0  # the thread that has begun all appends that are queued, by its ident; 0: several have
        self._took = 0.0  # how long the last commit took, and the wait for its turn, in seconds
        self._slow = 0.0  # until when the disk counts as slow, by the monotonic clock
        self._writing = 0  # the thread that writes now, by its ident; 0: nobody does
        self._sealed: _Sealed | None = None  # what is about to be committed
        self._behind: tuple[Environment | None, int, Left | None] = _NOWHERE  # the last transaction, and what it left
        self._left: list[Pending] | None = None  # what is being written by somebody who may be interrupted
        self._stopping = False
        self._broken: BaseException | None = None
        self._checked = time.monotonic()
        self._held: set[bytes] = set()  # trees that this owner carries out
        self._beat = 0.0  # when others have to hear of it again
        self._trails = False  # whether views trail behind the log, for all that is known

    # --- for the callers

    def append(self, op: Prepared, hold: float) -> Pending:
        """Queue an append."""
        return self._put(Pending(self, op), op.size, hold)

    def ask(self, op: Prepared) -> Any:
        """Queue something that is no append, and wait for its answer."""
        pending = self._put(Pending(self, op), op.size, 0.0)
        pending.wait()
        return pending.answer

    def run(self, job: Callable[[Transaction], Any]) -> Any:
        """Have something done in a write transaction of its own, and wait for its answer."""
        pending = self._put(Pending(self, None, job), 0, 0.0)
        pending.wait()
        return pending.answer

    def _put(self, pending: Pending, size: int, hold: float) -> Pending:
        due, me = time.monotonic() + hold, threading.get_ident()
        queue = self._queue
        many = self._bytes
        # The hold of the first is half over: if not this thread, the writer's own will soon write them.
        if (many >= _ENOUGH or (many >= _SOME and due - self._due > hold / 2)) and self._filler == me:
            self._relieve()
        if self._inside:
            give_way(self._is_held)
        # Mostly nothing is called in here: so no thread loses the interpreter while it holds the mutex, see `give_way`.
        with self.mutex:
            if self._broken is not None or self._stopping:
                self._check()
            if self._bytes > _QUEUE_BYTES:
                self._await_room()
            if self._thread is None:
                self._begin()
            self._bytes += size
            pending.queued = True
            self._last = pending
            if pending.op is not None and pending.op.keys:
                for key in pending.op.keys:
                    self._keys[key] = pending
            if self._filler != me:
                self._filler = 0 if queue else me
            queue += (pending,)
            if due < self._due:
                self._due = due
                if due < self._alarm:
                    self._alarm = due
                    self._wake.notify()
        return pending

    def _await_room(self) -> None:
        """Wait until more may be queued; the mutex is held."""
        while self._bytes > _QUEUE_BYTES and not self.is_mine():
            self._pressed += 1
            try:
                self._wake.notify()
                self._room.wait()
            finally:
                self._pressed -= 1
            self._check()

    def _is_held(self) -> bool:
        return self._inside

    def _relieve(self) -> None:
        """Write what this thread has queued before it adds more; where it is interrupted, nothing of that is queued yet."""
        last = self._last
        if last is not None and time.monotonic() > self._slow and not _in_loop():
            self.lead(last)

    def extend(self, pending: Pending, part: Part) -> bool:
        """Let a queued append go on with more entries; False where it is too late, or others came after it."""
        op = pending.op
        if op is None or not pending.queued or self._last is not pending:
            return False
        pieces, run = op.pieces, part.run
        if not pieces:
            return False  # a claim, or letting go of one
        last = pieces[-1]
        there = last.lines
        more = continuing(op, part)
        if more is None:
            return False
        lines, size, keys = more
        fresh = None if last.run == run else Piece(run, part.root, part.expected, lines, run in op.ends)
        if self._inside:
            give_way(self._is_held)
        with self.mutex:
            if not pending.queued or self._last is not pending or self._broken is not None or self._stopping:
                return False
            if op.pieces[-1] is not last or last.lines is not there or self._bytes > _QUEUE_BYTES:
                return False  # somebody else was quicker, or it has to wait for room
            self._bytes += size
            op.size += size
            if keys:
                for key in keys:
                    op.keys += (key,)
                    self._keys[key] = pending
            # First how far the run comes: were a signal to come in between, nothing could join that builds on what is not there.
            # And the pieces as they are now: the handler of a signal may have joined since they were looked at.
            op.ends[run] = lines[-1].seq
            if fresh is None:
                last.lines += lines
            elif type(op.pieces) is list:
                op.pieces += (fresh,)
            else:
                op.pieces = [*op.pieces, fresh]
        return True

    def lead(self, pending: Pending) -> None:
        """
        Write the batch that this append is in, here, where nobody else writes or waits.

        The thread that waits may be interrupted anywhere, by a signal or at the end of its time. What it leaves is finished
        by the writer's own thread; the interruption goes its way.
        """
        me = threading.get_ident()
        batch: list[Pending] = []
        mine = False
        try:
            with self.mutex:
                if not pending.queued or self._is_busy():
                    return
                mine = True
                self._writing = me
                self._left = batch = self._flying = [
                    other for other in self._queue if not other.done
                ]  # from here on it is finished, if not here
                self._emptied()
            with self.gate:
                self._write(batch)
                if self._took > _QUICK:  # not asked of the writer's thread, which waits for the interpreter too
                    self._slow = time.monotonic() + _SOON
            self._left = None
        except BaseException as error:
            if not mine or self._interrupted(error):
                raise
            self._left = None
            _log.exception("the writer of store %s stopped", self._name)
            self._fail_stop(batch, error)
        finally:
            if mine and self._writing == me:
                self._writing = 0
                alarm = self._alarm
                beat = bool(self._held) and self._beat < alarm  # others have to hear of a tree that is held now
                if beat or alarm < 0 or self._waited or self._pressed or self._stopping or self._left is not None:
                    with self.mutex:
                        self._wake.notify()

    def _is_busy(self) -> bool:
        """Whether somebody writes or waits, or more is to be done than one who waits for his own append should do."""
        if (
            self._writing
            or self._waited
            or self._left is not None
            or self._stopping
            or self._bytes > _MOST_BYTES
            or len(self._queue) > _MOST_OPS
        ):
            return True
        for pending in self._queue:  # noqa: SIM110 - a generator would cost as much as all of this
            if pending.job is not None:
                return True
        return False

    def attend(self, pending: Pending) -> threading.Lock | None:
        """A lock that is let go of when this is done, or None where it is done already."""
        with self.mutex:
            if pending.done:
                return None
            if self.is_mine():
                raise StoreError(
                    "A callback of a ticket runs in the thread that writes, and so may the handler of a signal: it must not wait for"
                    " another ticket there."
                )
            self._want(pending)
            lock = threading.Lock()
            lock.acquire()
            if pending.waiters is None:
                pending.waiters = [lock]
            else:
                pending.waiters.append(lock)
            return lock

    def call_when_done(self, pending: Pending, callback: Callable[[], None]) -> bool:
        """Remember a callback; True where it is too late for that."""
        with self.mutex:
            if pending.done:
                return True
            self._want(pending)
            if pending.callbacks is None:
                pending.callbacks = [callback]
            else:
                pending.callbacks.append(callback)
            return False

    def _want(self, pending: Pending) -> None:
        pending.waited += 1
        if pending.queued:
            self._waited += 1
            if pending.waited == 1:
                self._wake.notify()

    def flush(self) -> None:
        """Wait until everything that was queued before is done."""
        last = self._last
        if last is not None:
            self._settled(last)
        self._check()

    def settle_key(self, key: str) -> None:
        """Wait until what was appended under this cache key, if anything, is done."""
        pending = self._keys.get(key)
        if pending is not None:
            self._settled(pending)

    @staticmethod
    def _settled(pending: Pending) -> None:
        try:
            pending.wait()
        except (PluperfectError, ValueError, TypeError, OverflowError):
            pass  # it raises at its own ticket

    def let_go(self) -> None:
        """Give up all trees that this owner carries out, so that others need not wait, and leave nothing behind."""
        last = self._last
        if last is not None:
            self._settled(last)
        if self._broken is not None or not (self._beat or self._trails):
            return

        def farewell(txn: Transaction) -> None:  # what a job finds is settled before
            if self._beat:
                trees = [("lease", root) for root in sorted(self._held)]
                txn.apply(Changes({}, [*trees, ("owner", self._house.owner)]))

        self.run(farewell)
        self._held, self._beat = set(), 0.0

    def stop(self, timeout: float | None = None) -> None:
        """Commit what is queued and end the thread. What comes later is refused."""
        with self.mutex:
            self._stopping = True
            thread = self._thread
            self._wake.notify()
            self._room.notify_all()
        if thread is not None and not self.is_mine():
            thread.join(timeout)

    def forked(self) -> None:
        """In a forked child: what is queued here belongs to the parent, which will write it."""
        error = StoreForked("This append was queued before the fork: the parent process commits it, not this one.")
        for pending in (*self._flying, *self._queue):
            pending.error, pending.done = error, True
            for lock in pending.waiters or ():
                lock.release()

    # --- the thread

    def is_mine(self) -> bool:
        """Whether the thread that asks is the one that writes."""
        return self._writing == threading.get_ident() or (
            self._thread is not None and self._thread.ident == threading.get_ident()
        )

    def _check(self) -> None:
        if self._broken is not None:
            raise StoreClosed(
                f"The store {self._name} stopped after an error, and takes nothing more: {self._broken}. What was acknowledged is"
                " safe. Open the store again; it is examined then."
            ) from self._broken
        if self._stopping:
            raise StoreClosed(f"The store {self._name} is closed. Open it again to go on.")

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._loop, name=f"pluperfect-writer {self._name}", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        last = 0
        while True:
            batch = self._next(last)
            if batch is None:
                return
            last = sum(pending.waited for pending in batch)
            left, self._left = self._left, None
            try:
                with self.gate:
                    if left is not None:
                        self._finish(left)
                    elif batch:
                        beat = batch[0].op is _NOTHING
                        self._write(batch)
                        if beat and batch[0].error is not None:
                            self._beat = time.monotonic() + _SOON  # it could not be written; the reason may pass
            except BaseException as error:  # nobody would hear of it in this thread: the callers have to
                _log.exception("the writer of store %s stopped", self._name)
                self._fail_stop(batch, error)
            self._writing = 0

    def _next(self, last: int) -> list[Pending] | None:
        """The next batch, once there is reason to write one; None at the end."""
        with self.mutex:
            while True:
                if not self._writing and self._left is not None:  # he who wrote it was interrupted
                    self._writing = threading.get_ident()
                    for pending in self._left:  # perhaps before he had done so: what joined from here on would be lost
                        pending.queued = False
                    return self._left
                at, now = self._reason(), time.monotonic()
                if at > now:
                    if now < self._alarm < at:
                        at = self._alarm  # what it was woken for is written by now; more is likely to come before then
                    self._alarm = at
                    # Who writes meanwhile may have claimed a tree: he says so first and looks at the alarm then, this the other way.
                    if self._reason() >= at:
                        self._wake.wait(None if at == _NEVER else at - now)
                elif self._writing:
                    self._alarm = -_NEVER
                    if self._writing:  # he may have looked just before that was set
                        self._wake.wait(_SOON)  # whoever writes looks who waits, when he is done
                elif self._queue:
                    break
                elif self._stopping:
                    return None
                else:
                    self._writing = threading.get_ident()
                    return [Pending(self, _NOTHING)]  # others have to hear of it
            self._alarm = -_NEVER  # awake: nobody has to be woken
            self._writing = threading.get_ident()
        if last > 1 and not self._stopping:
            # Those who were just served come again within moments; without this pause half of them miss the batch.
            until = time.monotonic() + _GATHER
            while self._waited < last and time.monotonic() < until:
                time.sleep(_NAP)
        with self.mutex:
            self._inside = True
            batch = self._taken()
            self._inside = False
            return batch

    def _reason(self) -> float:
        """
        When there is reason for this thread to write, by the monotonic clock.

        That somebody else writes just now is none: to be woken after each of his commits would cost as much as they do. What he
        claims has to be heard of later; he sees to it that this thread is awake by then.
        """
        if self._stopping:
            return -_NEVER
        if not self._queue:
            self._due = _NEVER
        elif self._waited or self._pressed:
            return -_NEVER
        return min(self._due, self._beat) if self._held else self._due

    def _taken(self) -> list[Pending]:
        """The batch to write now, taken from the queue."""
        batch: list[Pending] = []
        size = 0
        queue = self._queue
        while queue and len(batch) < _MOST_OPS and size < _MOST_BYTES and (queue[0].job is None or not batch):
            pending = queue.popleft()
            pending.queued = False
            if pending.done:  # whoever wrote it was interrupted before he took it out
                continue
            self._waited -= pending.waited
            size += pending.op.size if pending.op is not None else 0
            batch.append(pending)
            if pending.job is not None:
                break
        self._flying = batch
        if queue:
            self._bytes -= size
            self._due = time.monotonic()
            # Not for each batch: to wait again costs more than to wait.
            if self._pressed and self._bytes < _QUEUE_BYTES // 2:
                self._room.notify_all()
        else:
            self._emptied()
        return batch

    def _emptied(self) -> None:
        """All that was queued is being written."""
        for pending in self._queue:
            pending.queued = False
        self._queue.clear()
        self._bytes = self._waited = 0
        self._due = _NEVER
        if self._pressed:
            self._room.notify_all()

    def _interrupted(self, error: BaseException) -> bool:
        """
        Whether this was raised into the thread that waits and therefore writes, from outside: by a handler of a signal, or at
        the end of its time. It is no fault of what is written.
        """
        if self._thread is not None and self._thread.ident == threading.get_ident():
            return False
        return not isinstance(error, Exception) or not raised_here(error)

    def _finish(self, batch: list[Pending]) -> None:
        """Do what is left of a batch whose writer was interrupted, wherever that was."""
        sealed, self._sealed = self._sealed, None
        if sealed is not None and not all(pending.done for pending in sealed.batch):
            with self._house.environment().read() as rows:
                there = rows.get("log", sealed.end[0]) == sealed.end[1]
            if there:
                self._house.committed(int.from_bytes(sealed.end[0], "big"))
                self._resolve(sealed.batch, sealed.refused)
        self._tell([pending for pending in batch if pending.done])
        rest = [pending for pending in batch if not pending.done]
        if rest:
            self._write(rest)

    def _write(self, batch: list[Pending]) -> None:
        try:
            self._transact(batch)
        except _CommitFailedError as failed:
            self._after_failed_commit(batch, failed)
        except Exception as error:
            if self._interrupted(error):
                raise
            if self._house.environment().is_full(error):
                self._resolve(batch, self._no_room(error))
            elif len(batch) == 1:
                self._resolve(batch, _blamed(error))
            else:
                _log.warning("a batch of %d appends failed (%s); trying each alone", len(batch), error)
                for pending in batch:
                    self._write([pending])

    def _transact(self, batch: list[Pending]) -> None:
        """One transaction, done again as often as the map has to be mended."""
        house = self._house
        env = house.environment()
        while True:
            try:
                position, refused = self._attempt(env, batch)
            except MapResized:
                house.alone(env.adopt)
            except MapFull:
                # A reader that died pins pages: the usual cause of a map that fills up early.
                if not env.reader_check():
                    house.alone(env.grow)
            else:
                break
        if position:
            house.committed(position)
        self._resolve(batch, refused)
        if time.monotonic() - self._checked > _CHECK_READERS:
            self._checked = time.monotonic()
            env.reader_check()

    def _attempt(self, env: Environment, batch: list[Pending]) -> tuple[int, dict[int, BaseException]]:
        refused: dict[int, BaseException] = {}
        beat = 0.0
        self._sealed = None
        began = time.monotonic()
        txn = env.write()
        try:
            txn.begin()
            waited = time.monotonic() - began  # for the writers of other processes
            number = txn.number
            (where, before, left), self._behind = self._behind, _NOWHERE
            self._trails = True
            if env.older:
                txn.lift()
            if batch[0].job is not None:
                txn.settle()
            # Where nobody, in any process, has written in between, what the last batch left is what is there. A job writes
            # what it likes, past the batch: what is known here is nothing then.
            if where is env and before == number - 1 and left is not None and batch[0].job is None:
                gathered = Batch(txn.rows, left.position, self._house.owner, left)
            else:
                trail = Trail.of(txn.rows)
                gathered = Batch(txn.rows, trail.end, self._house.owner, trail=trail)
            for pending in batch:
                if pending.op is None:
                    assert pending.job is not None
                    pending.answer = pending.job(txn)
                else:
                    try:
                        pending.answer = gathered.take(pending.op)
                    except (Conflict, ValueError, TypeError, OverflowError) as error:
                        if self._interrupted(error):
                            raise
                        refused[id(pending)] = error
                        if isinstance(error, Fenced):
                            gathered.refused(pending.op, error)
            leases, owner = gathered.leases, self._house.owner
            mine: set[bytes] = set()
            for root, lease in leases.items():
                if lease is not None and lease.owner == owner:
                    mine.add(root)
            late = time.monotonic() >= self._beat and bool(mine or self._held - leases.keys())
            if gathered.empty and batch[0].job is None and not late:
                txn.commit()  # of nothing: no sync, no new version, and none of the trouble with abort()
                return 0, refused
            changes = gathered.changes()
            if late:
                seconds = self._house.lease_seconds
                beat = time.monotonic() + seconds / 3
                changes.puts["owner"] = {owner: encode_value(this_process(seconds))}
            txn.apply(changes)
            end = gathered.end
            if end is not None:
                self._sealed = _Sealed(batch, end, refused)
            began = time.monotonic()
        except BaseException:
            # py-lmdb's abort() waits until no other thread is inside of any call: beside busy readers, for ever.
            self._house.alone(txn.leave)
            raise
        try:
            txn.commit()
        except MapFull:
            raise
        except BaseException as error:
            if self._interrupted(error):
                # Who keeps the exception would keep the transaction open, and everybody else from writing.
                self._house.alone(txn.leave)
                raise
            if not isinstance(error, Exception):
                raise
            raise _CommitFailedError(error, end, refused) from error
        self._took = waited + time.monotonic() - began
        if batch[0].job is None:
            self._behind = (env, number, gathered.left())
        self._trails = batch[0].job is None and gathered.trails
        self._held.difference_update(leases)
        self._held |= mine
        if late:
            self._beat = beat
        return gathered.position, refused

    def _after_failed_commit(self, batch: list[Pending], failed: _CommitFailedError) -> None:
        """Find out whether it was committed all the same; if that cannot be known, stop."""
        env = self._house.environment()
        try:
            there = False
            if failed.end is not None:
                with env.read() as rows:
                    there = rows.get("log", failed.end[0]) == failed.end[1]
            if there:
                env.sync()
            elif not env.is_full(failed.error):
                raise failed.error
            txn = env.write()
            try:
                txn.begin()
                txn.commit()  # of nothing; after a failed write of the meta page, this fails
            except BaseException:
                self._house.alone(txn.leave)
                raise
        except Exception as error:
            self._fail_stop(batch, error)
            return
        if there:
            assert failed.end is not None
            self._house.committed(int.from_bytes(failed.end[0], "big"))
            self._resolve(batch, failed.refused)
        else:
            self._resolve(batch, self._no_room(failed.error))

    def _no_room(self, error: BaseException) -> StoreFull:
        full = StoreFull(
            f"There is no room to write to the store {self._name}: {error}. Nothing of this append was written. Free some space;"
            " reading goes on, and so does writing when there is room."
        )
        full.__cause__ = error
        return full

    def _fail_stop(self, batch: list[Pending], error: BaseException) -> None:
        self._broken = error
        closed = StoreClosed(
            f"The store {self._name} failed, and stopped: {error}. Whether this append was written is not known; open the store"
            " again and read the run."
        )
        closed.__cause__ = error
        with self.mutex:
            batch = [*batch, *self._queue]
            self._queue.clear()
            self._bytes = self._waited = 0
            self._room.notify_all()
        self._resolve([pending for pending in batch if not pending.done], closed)

    # --- telling the callers

    def _resolve(self, batch: list[Pending], error: BaseException | dict[int, BaseException]) -> None:
        """Tell everybody that it is done: with this error, or with those of the few that were refused, by id."""
        keys = self._keys
        with self.mutex:
            self._inside = True
            for pending in batch:
                if error:
                    pending.error = error.get(id(pending)) if isinstance(error, dict) else error
                pending.done = True
                if keys and pending.op is not None:
                    for key in pending.op.keys:
                        if keys.get(key) is pending:
                            del keys[key]
                pending.op = None  # whoever keeps the ticket does not keep what was written
            if batch and self._last is batch[-1]:
                self._last = None
            self._inside = False
        self._tell(batch)

    @staticmethod
    def _tell(batch: list[Pending]) -> None:
        """Wake who waits for these. Nobody can join them any more, since all are marked as done."""
        for pending in batch:
            while pending.waiters:
                with suppress(RuntimeError):  # it was let go of already, just before an interruption
                    pending.waiters[-1].release()
                pending.waiters.pop()
            while pending.callbacks:
                callback = pending.callbacks.pop(0)
                try:
                    callback()
                except Exception:
                    _log.exception("a callback of a ticket raised")


def _in_loop() -> bool:
    """Whether the thread that asks runs an event loop, which waits for no disk."""
    # Not there yet while another thread is importing it.
    ask = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return ask is not None and ask() is not None


class _Sealed(Struct):
    """A transaction that is about to be committed: its appends, its last row and the key of that, and whom it has refused."""

    batch: list[Pending]
    end: tuple[bytes, bytes]
    refused: dict[int, BaseException]


class _CommitFailedError(Exception):
    """A commit raised: what it was about to write last, and which appends it had refused."""

    def __init__(self, error: Exception, end: tuple[bytes, bytes] | None, refused: dict[int, BaseException]) -> None:
        super().__init__(str(error))
        self.error, self.end, self.refused = error, end, refused


def _blamed(error: Exception) -> BaseException:
    """The error for the one append that made its transaction fail."""
    if isinstance(error, PluperfectError):
        return error
    blamed = StoreError(f"This append could not be written: {error}. The log is as it was.")
    blamed.__cause__ = error
    return blamed

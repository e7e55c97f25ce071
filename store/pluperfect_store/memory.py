"""
A log in memory: the reference that every other store has to agree with, and the one for tests.

Its address is ``memory:``, with nothing behind the colon: each opening is a log of its own, which is gone when
its process ends, so that a name would promise what it does not hold. It is not made for exceptions from handlers of signals: one
that comes in the middle of an append leaves half of it.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar
from uuid import uuid4

from pluperfect.errors import Fenced, StoreClosed, StoreDamaged, StoreError, UnknownStore
from pluperfect.hooks import Backup, Compacted, Health, Log, Part, Pruned, PruneRule, hookimpl

from .folding import projected
from .layout import TABLES, VIEWS, decode_lease, encode_value
from .leases import SECONDS, living, this_process
from .ledger import Batch, Changes, Prepared, claiming, end_of, prepare, releasing
from .proving import Proving
from .reading import check_timeout, check_whole

__all__ = ["MemoryLog", "open_log"]

T = TypeVar("T")


@hookimpl
def open_log(uri: str) -> Log | None:
    """
    Open a fresh log in memory for ``memory:``.

    Raises:
        UnknownStore: Something stands behind the colon.
    """
    scheme, colon, rest = uri.partition(":")
    if scheme != "memory" or not colon:
        return None
    if rest:
        raise UnknownStore(f"{uri!r}: a log in memory has no name; each opening is a log of its own. Write 'memory:'.")
    return MemoryLog()


class _Table:
    """Rows that can be read in the order of their keys. Keys are put in order when somebody looks, not before."""

    __slots__ = ("_fresh", "_keys", "_stale", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._fresh: list[bytes] = []
        self._stale: set[bytes] = set()  # keys in the list that have no row any more

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            if key in self._stale:
                self._stale.discard(key)
            else:
                self._fresh.append(key)
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        del self.values[key]
        self._stale.add(key)

    def sort(self) -> None:
        """Begin again with the order of the keys."""
        self._keys = sorted(self.values)
        self._fresh.clear()
        self._stale.clear()

    def keys(self) -> list[bytes]:
        """All keys in order; the list is not changed by later puts and deletes, but by the next look."""
        if self._fresh:
            if len(self._fresh) * 64 < len(self._keys):
                for key in self._fresh:
                    insort(self._keys, key)
            else:
                self._keys.extend(self._fresh)
                self._keys.sort()
            self._fresh.clear()
        if len(self._stale) * 4 > len(self._keys):
            self._keys = [key for key in self._keys if key in self.values]
            self._stale.clear()
        return self._keys


class _Tables:
    """All tables, as `Rows`. Whoever uses them holds the log's lock."""

    def __init__(self) -> None:
        self.tables = {table: _Table() for table in TABLES}
        self.tables["meta"].put(b"store_id", uuid4().bytes)
        self.end = 0  # the position of the last record

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.tables[table].values.get(key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes]:
        values = self.tables[table].values
        try:
            return [values[key] for key in keys]
        except KeyError as error:
            raise StoreDamaged(f"A row that the index names is not in table {table!r}: {error}.") from error

    def scan(self, table: str, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        keys, values = self.tables[table].keys(), self.tables[table].values
        first = bisect_left(keys, low)
        last = bisect_left(keys, high) if high else len(keys)
        for place in range(last - 1, first - 1, -1) if reverse else range(first, last):
            value = values.get(keys[place])
            if value is not None:
                yield keys[place], value

    def has(self, table: str, key: bytes) -> bool:
        return key in self.tables[table].values

    def keys(self, table: str) -> Iterator[bytes]:
        return (key for key, _ in self.scan(table, b"", b""))

    def last(self, table: str) -> bytes | None:
        return next((key for key, _ in self.scan(table, b"", b"", reverse=True)), None)

    def apply(self, changes: Changes, end: int) -> None:
        """Carry this out, all of it even where somebody is interrupted midway; the log ends here then."""
        try:
            for table, key in changes.deletes:
                self.tables[table].delete(key)
            for table, rows in changes.puts.items():
                into = self.tables[table]
                for key, value in rows.items():
                    into.put(key, value)
            for key, value in changes.rewrites:
                self.tables["log"].put(key, value)
            self.end = end
        except BaseException:
            for table, key in changes.deletes:
                self.tables[table].values.pop(key, None)
            for table, rows in changes.puts.items():
                self.tables[table].values.update(rows)
            self.tables["log"].values.update(changes.rewrites)
            for table in self.tables.values():
                table.sort()
            self.end = end
            raise


class _Settled:
    """The ticket of an append that was decided before it was given back."""

    __slots__ = ("_error", "answer")

    done = True

    def __init__(self, error: Exception | None = None, answer: int = 0) -> None:
        self._error, self.answer = error, answer

    def wait(self, timeout: float | None = None) -> None:
        if self._error is not None:
            raise self._error

    def extend(self, part: Part) -> bool:
        return False

    def notify(self, callback: Callable[[], None]) -> None:
        callback()


def _no_file(done: str) -> StoreError:
    return StoreError(f"A log in memory has no file that could be {done}. Open lmdb:PATH to keep what is recorded.")


class MemoryLog(Proving):
    """A log in memory: every append is committed, or refused, before it returns."""

    def __init__(self) -> None:
        self._tables = _Tables()
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._owner = uuid4().bytes
        self._hashes = {}

    def beside(self) -> MemoryLog:
        """
        The same log opened once more, as another process opens a file: by another owner, and closed by itself.

        What one of them holds the others may not carry out, until it lets go or is closed.
        """
        other = MemoryLog()
        other._tables, other._changed = self._tables, self._changed
        return other

    @property
    def uri(self) -> str:
        """The address of a log in memory; it opens another one."""
        return "memory:"

    def _rows(self) -> AbstractContextManager[_Tables]:
        return self._snapshot()

    @contextmanager
    def _snapshot(self) -> Iterator[_Tables]:
        with self._changed:
            self._check_open()
            yield self._tables

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("This log in memory was closed, and is gone.")

    def append(self, parts: Sequence[Part], *, epoch: int = 0, hold: float = 0.005, claim: bool = False) -> _Settled:
        """Append entries, all parts or none; see `pluperfect.hooks.Log.append`."""
        return self._take(prepare(parts, epoch, claim=claim))

    def claim(self, root: bytes, at: float) -> int:
        """Take a tree over; see `pluperfect.hooks.Log.claim`."""
        ticket = self._take(claiming(root, at))
        ticket.wait()
        return ticket.answer

    def release(self, root: bytes, epoch: int) -> None:
        """Let go of a tree."""
        self._take(releasing(root, epoch))

    def _take(self, op: Prepared) -> _Settled:
        with self._changed:
            self._check_open()
            batch = Batch(self._tables, self._tables.end, self._owner)
            answer, refused = 0, None
            try:
                answer = batch.take(op)
            except Fenced as error:
                refused = error
                batch.refused(op, error)
            except Exception as error:
                return _Settled(error)
            if op.claim is not None and refused is None and self._owner not in living:
                self._tables.tables["owner"].put(self._owner, encode_value(this_process(SECONDS)))
                living.add(self._owner)
            if not batch.empty:
                self._tables.apply(batch.changes(), batch.position)
            self._changed.notify_all()
        return _Settled(refused, answer)

    def _change(self, job: Callable[[Batch], T]) -> T:
        with self._changed:
            self._check_open()
            batch = Batch(self._tables, self._tables.end, self._owner)
            answer = job(batch)
            self._tables.apply(batch.changes(), batch.position)
            self._changed.notify_all()
        return answer

    def flush(self) -> None:
        """Nothing ever waits here."""
        with self._changed:
            self._check_open()

    def settle_key(self, key: str) -> None:
        """Nothing ever waits here."""

    def await_position(self, beyond: int, timeout: float | None = None) -> bool:
        """Wait until the log is longer than this; False when the time is up."""
        check_whole("A position", beyond)
        check_timeout(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                self._check_open()
                if self._tables.end > beyond:
                    return True
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)

    def rebuild(self) -> int:
        """Project every view again from the log. Returns the number of records read."""
        with self._changed:
            self._check_open()
            changes = projected(self._tables)
            for table in VIEWS:
                self._tables.tables[table] = _Table()
            self._tables.apply(changes, self._tables.end)
            return end_of(self._tables)

    def prune(self, rule: PruneRule, at: float, *, dry_run: bool = False) -> Pruned:
        """Take whole trees of ended runs out of the log; see `pluperfect.hooks.Log.prune`."""
        from .pruning import prune

        return prune(self, rule, at, dry_run=dry_run)

    def backup(self, path: str) -> Backup:
        """There is nothing to copy."""
        raise _no_file("copied")

    def compact(self) -> Compacted:
        """There is nothing to write anew."""
        raise _no_file("compacted")

    def health(self) -> Health:
        """How it is."""
        from .health import attention, contents
        from .pruning import named_values

        with self._rows() as rows:
            return Health(contents(rows, named_values(rows.scan("log", b"", b""))), attention(rows))

    def close(self) -> None:
        """Let go of everything. A second call does nothing."""
        with self._changed:
            self._closed = True
            if self._owner in living:
                living.discard(self._owner)
                held = [
                    key for key, row in self._tables.scan("lease", b"", b"") if decode_lease(row).owner == self._owner
                ]
                self._tables.apply(
                    Changes({}, [*(("lease", key) for key in held), ("owner", self._owner)]), self._tables.end
                )
            self._changed.notify_all()

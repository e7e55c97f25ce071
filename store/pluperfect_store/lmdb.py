"""
A log in one LMDB file.

Every commit is synced: LMDB's flags are no durability levels, since without syncs a power cut destroys files.
Who waits for a commit is the caller's choice; that all share one is the writer's.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb

from pluperfect.errors import NotAStore, StoreClosed, StoreDamaged, StoreError, StoreForked, StoreFull, StoreUnwritable
from pluperfect.hooks import Part, hookimpl
from pluperfect.records import leaf, open_record

from . import files, layout
from .ledger import Append, Batch, Ledger, Scanned, prepared
from .writer import Writer, WriterTicket

__all__ = ["LmdbLog", "open_log"]

MAP_SIZE: Final = 64 << 30
"""The address space that is reserved; the file takes only what is written."""

FORMAT: Final = {"version": 1, "min_reader": 1, "min_writer": 1}
RETRIES: Final = 40


class _Tables:
    """The tables as one transaction sees them."""

    __slots__ = ("_dbs", "_txn")

    def __init__(self, txn: Any, dbs: dict[str, Any]) -> None:
        self._txn, self._dbs = txn, dbs

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._txn.get(key, db=self._dbs[table])

    def scan(self, table: str, low: bytes, high: bytes, limit: int, *, reverse: bool = False) -> Scanned:
        found: Scanned = []
        with self._txn.cursor(self._dbs[table]) as cursor:
            if reverse:
                there = cursor.prev() if cursor.set_range(high) else cursor.last()
                rows = cursor.iterprev() if there else ()
            else:
                rows = cursor.iternext() if cursor.set_range(low) else ()
            for key, value in rows:
                if len(found) >= limit or (key < low if reverse else key >= high):
                    break
                found.append((key, value))
        return found

    def last(self, table: str) -> bytes | None:
        with self._txn.cursor(self._dbs[table]) as cursor:
            return cursor.key() if cursor.last() else None


class _Environment:
    """One open file: LMDB allows a process to open it once, so that all logs on it share this."""

    def __init__(self, path: Path, map_size: int) -> None:
        self.path = path
        self.users = 0
        self.gate = threading.Lock()  # held while a write transaction is open
        self.counting = threading.Lock()
        self.reading = 0
        self.dead = False
        self.born_in = os.getpid()
        self.grown = threading.Condition()
        self._map_size = map_size
        self._open()
        self.writer = Writer(self)

    # --- opening and closing

    def _open(self) -> None:
        path = self.path
        existed = files.examine(path)
        files.may_write(path)
        self._lock_file = (path / files.LOCK).open("ab")
        fcntl.flock(self._lock_file, fcntl.LOCK_SH)
        try:
            self._open_environment(existed)
        except BaseException:
            self._lock_file.close()
            raise

    def _open_environment(self, existed: bool) -> None:
        sizes = [size for size in (self._map_size, 4 << 30, 1 << 30) if size <= self._map_size]
        for size in sizes:
            try:
                self.env = lmdb.open(
                    str(self.path), map_size=size, max_dbs=32, max_readers=1024, max_spare_txns=0,
                    sync=True, metasync=True, writemap=False, map_async=False, lock=True,
                )  # fmt: skip
                break
            except lmdb.MemoryError:  # RLIMIT_AS is below it
                if size == sizes[-1]:
                    raise StoreError(f"{self.path}: not even {size >> 20} MiB of address space can be reserved (ulimit -v).") from None
            except lmdb.Error as error:
                raise _explained(error, self.path) from error
        try:
            self._settle_in(existed)
        except BaseException:
            self.env.close()
            raise

    def _settle_in(self, existed: bool) -> None:
        env = self.env
        with env.begin() as txn:
            fresh = txn.stat()["entries"] == 0
        if not fresh:
            try:
                meta = env.open_db(layout.META.encode(), create=False)
            except lmdb.Error as error:
                raise NotAStore(f"{self.path} holds an LMDB file of some other program. It was left as it is; choose another folder.") from error
            with env.begin() as txn:
                stored = txn.get(b"format", db=meta)
            self._check_format(stored)
        elif existed and env.info()["last_txnid"] > 1:
            raise NotAStore(f"{self.path} holds an LMDB file without a store in it. It was left as it is; choose another folder.")
        try:
            self.dbs = {table: env.open_db(table.encode()) for table in layout.TABLES}
            with env.begin(write=True) as txn:
                if txn.get(b"format", db=self.dbs[layout.META]) is None:
                    txn.put(b"format", layout.encode(FORMAT), db=self.dbs[layout.META])
                    txn.put(b"store_id", uuid.uuid4().bytes, db=self.dbs[layout.META])
            for table, db in self.dbs.items():
                with env.begin() as txn:
                    flags = db.flags(txn)
                if flags.get("dupsort"):
                    raise NotAStore(f"{self.path}: its table {table!r} was made by some other program.")
            env.reader_check()
            env.sync(True)  # a process killed in its last commit can leave it visible, and not yet durable
        except lmdb.Error as error:
            raise _explained(error, self.path) from error
        self._check_tail()

    def _check_format(self, stored: bytes | None) -> None:
        import msgspec

        known: Any = None if stored is None else msgspec.msgpack.decode(stored)
        if not isinstance(known, dict) or "version" not in known:
            raise NotAStore(f"{self.path} holds an LMDB file of some other program. It was left as it is; choose another folder.")
        if int(known["min_writer"]) > FORMAT["version"]:  # type: ignore[reportUnknownArgumentType]
            raise StoreError(
                f"{self.path} was written by a newer pluperfect (format {known['version']}, this one knows {FORMAT['version']})."
                " Install a newer release to open it."
            )

    def _check_tail(self) -> None:
        """The last record, its place and its head have to agree."""
        with self.env.begin() as txn:
            tables = _Tables(txn, self.dbs)
            key = tables.last(layout.LOG)
            if key is None:
                return
            data = tables.get(layout.LOG, key)
            assert data is not None
            record = open_record(data)
            place = tables.get(layout.IDX, layout.idx_key(record.run, record.seq))
            head = tables.get(layout.HEAD, record.run)
            agree = place == key and head is not None and layout.head_of(head).leaf == leaf(data)
        if not agree:
            raise StoreDamaged(
                f"{self.path}: the last record (run {record.run.hex()}, {record.seq}) and the views do not agree. Restore the store from"
                " a copy, or look at it with `pluperfect rebuild --check` after opening a copy of it."
            )

    def close(self) -> None:
        self.writer.close()
        with self.gate:
            self.env.close()
            self._lock_file.close()

    # --- reading

    @contextlib.contextmanager
    def read(self) -> Iterator[_Tables]:
        self.after_fork()
        with self.counting:
            self.reading += 1
        try:
            with self._begin() as txn:
                yield _Tables(txn, self.dbs)
        finally:
            with self.counting:
                self.reading -= 1

    def _begin(self) -> Any:
        for _ in range(RETRIES):
            try:
                return self.env.begin()
            except lmdb.MapResizedError:  # another process has grown the map
                with self.gate:
                    self._adopt_size()
            except lmdb.ReadersFullError:
                if not self.env.reader_check():
                    time.sleep(0.005)
        return self.env.begin()

    def _adopt_size(self) -> None:
        with contextlib.suppress(lmdb.Error):  # a reader of this process is in the way: the next try comes
            self.env.set_mapsize(0)

    # --- writing, in the writer's thread

    def commit(self, appends: list[Append]) -> list[Exception | None]:
        """Write these in one synced transaction."""
        for _ in range(RETRIES):
            try:
                with self.gate:
                    return self._write(appends)
            except lmdb.MapFullError:
                self._grow()
            except lmdb.MapResizedError:
                with self.gate:
                    self._adopt_size()
            except lmdb.ReadersFullError:
                self.env.reader_check()
            except lmdb.DiskError as error:
                return self._after_disk_error(appends, error)
            except lmdb.Error as error:
                return self._after_disk_error(appends, error)
        return [StoreError(f"{self.path}: the map could not be grown in {RETRIES} tries.")] * len(appends)

    def _write(self, appends: list[Append]) -> list[Exception | None]:
        txn = self.env.begin(write=True)
        try:
            batch = Batch(_Tables(txn, self.dbs))
            errors: list[Exception | None] = [batch.take(append) for append in appends]
            if batch.log:
                log = self.dbs[layout.LOG]
                for key, data in batch.log:
                    if not txn.put(key, data, db=log, append=True):
                        raise StoreDamaged(f"{self.path}: position {layout.number(key)} of the log is not its end.")
                for table, key, value in batch.changes():
                    if value is None:
                        txn.delete(key, db=self.dbs[table])
                    else:
                        txn.put(key, value, db=self.dbs[table])
                txn.commit()
            else:
                txn.abort()
        except BaseException:
            txn.abort()
            raise
        if batch.log:
            with self.grown:
                self.grown.notify_all()
        return errors

    def _grow(self) -> None:
        """A stale reader is the usual cause of a full map; else twice the space."""
        if self.env.reader_check():
            return
        with self.gate:
            for _ in range(RETRIES):
                try:
                    self.env.set_mapsize(self.env.info()["map_size"] * 2)
                except lmdb.Error:  # a reader of this process is in the way; reads are short
                    time.sleep(0.001)
                else:
                    return

    def _after_disk_error(self, appends: list[Append], error: Exception) -> list[Exception | None]:
        """What a failed write means: the batch is void, and either there is no room or the store has to stop."""
        if isinstance(error, getattr(lmdb, "PanicError", ())):
            raise StoreClosed(f"{self.path}: writing failed ({error}); the log stops here. Open it again: what was committed is there.") from error
        known = _explained(error, self.path)
        if isinstance(known, StoreFull):
            return [known] * len(appends)
        if len(appends) > 1:
            # One of them may be at fault: each for itself, so that the others are kept.
            return [self.commit([append])[0] for append in appends]
        return [known]

    def rebuild(self, project: Any) -> int:
        """Replace the views by what ``project`` makes of the log, in one transaction."""
        with self.gate, self.env.begin(write=True) as txn:
            tables = _Tables(txn, self.dbs)
            wanted, _ = project(tables)
            for table, rows in wanted.items():
                txn.drop(self.dbs[table], delete=False)
                for key in sorted(rows):
                    txn.put(key, rows[key], db=self.dbs[table], append=True)
            last = tables.last(layout.LOG)
        return 0 if last is None else layout.number(last)

    # --- fork

    def before_fork(self) -> None:
        self.gate.acquire()
        self.counting.acquire()

    def after_fork_in_parent(self) -> None:
        self.counting.release()
        self.gate.release()

    def after_fork_in_child(self) -> None:
        # Closing here wipes the parent's reader slots, so with a live read the file must stay as it is.
        self.dead = self.reading > 0
        self.counting.release()
        self.gate.release()

    def after_fork(self) -> None:
        """In a forked child, at its first use of the log: open the file anew."""
        if os.getpid() == self.born_in:
            return
        if self.dead:
            raise StoreForked(
                f"{self.path}: this process was forked while the log was being read, so it cannot use it. Start processes by"
                " spawn (multiprocessing.set_start_method('spawn')), or open the log in the child under another path."
            )
        with self.gate:
            if os.getpid() != self.born_in:
                self.env.close()
                self._lock_file.close()
                self.grown = threading.Condition()
                self._open()
                self.writer = Writer(self)
                self.born_in = os.getpid()


def _explained(error: Exception, path: Path) -> StoreError:
    """An error of LMDB in words: what it means here and what to do."""
    text = str(error)
    full = any(word in text for word in ("No space left", "File too large", "quota"))
    if not full and "Input/output error" in text:  # how LMDB tells of a short write
        with contextlib.suppress(OSError):
            stat = os.statvfs(path)
            full = stat.f_bavail * stat.f_frsize < 1 << 20
    if full:
        return StoreFull(f"{path}: the disk is full ({text}). Nothing of this append was written; make room, and writing goes on.")
    if isinstance(error, lmdb.ReadonlyError) or "Permission denied" in text or "Read-only" in text:
        return StoreUnwritable(f"{path} cannot be written by this user: {text}.")
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
        return StoreDamaged(f"{path}: {text}. The file is damaged; restore it from a copy.")
    return StoreError(f"{path}: {text}.")


_environments: dict[Path, _Environment] = {}
_registry = threading.RLock()
_frozen: list[_Environment] = []


def _before_fork() -> None:
    _registry.acquire()
    _frozen[:] = _environments.values()
    for environment in _frozen:
        environment.before_fork()


def _after_fork_in_parent() -> None:
    for environment in _frozen:
        environment.after_fork_in_parent()
    _registry.release()


def _after_fork_in_child() -> None:
    for environment in _frozen:
        environment.after_fork_in_child()
    _registry.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class LmdbLog(Ledger):
    """
    A log in the LMDB file of one folder.

    Args:
        path: The folder; it is made if it is not there.
        map_size: The address space to reserve, in bytes; grown when it is full.

    Raises:
        NotAStore, StoreDamaged, StoreUnwritable, StoreError: The path cannot be opened; nothing was changed.
    """

    def __init__(self, path: str | os.PathLike[str], *, map_size: int = MAP_SIZE) -> None:
        self.path = Path(path).absolute()
        self._closed = False
        with _registry:
            key = self.path.resolve()
            environment = _environments.get(key)
            if environment is None:
                environment = _environments[key] = _Environment(self.path, map_size)
            else:
                environment.after_fork()
            environment.users += 1
            self._key, self._environment = key, environment
        _open_logs.add(self)

    @property
    def uri(self) -> str:
        """``lmdb:PATH``."""
        return f"lmdb:{self.path}"

    def _read(self) -> Any:
        self._check_open()
        return self._environment.read()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed(f"{self.uri} was closed. Open it again.")

    def append(self, parts: Sequence[Part], *, epoch: int = 0, hold: float = 0.005) -> WriterTicket:
        """Append entries, all parts or none."""
        self._check_open()
        self._environment.after_fork()
        return self._environment.writer.put(prepared(parts, epoch), hold)

    def flush(self) -> None:
        """Wait until everything that this process appended before is committed."""
        self._check_open()
        self._environment.after_fork()
        self._environment.writer.flush()

    def settle_key(self, key: str) -> None:
        """Wait for an uncommitted result of this process under a cache key."""
        self._environment.writer.settle_key(key)

    def await_position(self, beyond: int, timeout: float | None = None) -> bool:
        """Wait until the log is longer than this; False when the time is up."""
        until = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while True:
            with self._environment.grown:
                if self.position() > beyond:
                    return True
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                # Our own commits wake this up; those of other processes are met at the end of a short pause.
                if not self._environment.grown.wait(pause if left is None else min(pause, left)):
                    pause = min(pause * 1.5, 0.02)

    def rebuild(self) -> int:
        """Project every view again from the log, in one transaction."""
        self.flush()
        return self._environment.rebuild(self._projected)

    def close(self) -> None:
        """Commit what is queued; the last log on a file closes it."""
        if self._closed:
            return
        self._closed = True
        _open_logs.discard(self)
        with _registry:
            environment = self._environment
            environment.users -= 1
            if environment.users:
                if os.getpid() == environment.born_in:
                    environment.writer.flush()
                return
            _environments.pop(self._key, None)
        if os.getpid() == environment.born_in:
            environment.close()


_open_logs: weakref.WeakSet[LmdbLog] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A program that ends without closing its logs loses nothing."""
    for log in list(_open_logs):
        with contextlib.suppress(StoreError):
            log.close()


@hookimpl
def open_log(uri: str) -> LmdbLog | None:
    """The store in the folder PATH for ``lmdb:PATH``."""
    scheme, _, path = uri.partition(":")
    if scheme != "lmdb":
        return None
    if not path:
        raise NotAStore(f"{uri!r} names no folder. Write lmdb:PATH.")
    return LmdbLog(Path(path).expanduser())

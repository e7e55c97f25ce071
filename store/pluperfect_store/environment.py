# pyright: basic
"""
The seam to LMDB. `compaction` alone imports it beside this room; everything behind the two has types.

The flags are fixed. They are never durability levels: without ``sync`` a power cut destroys the file, and
with ``writemap`` a full disk kills the process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import lmdb
import msgspec

from pluperfect.errors import NotAStore, StoreClosed, StoreDamaged, StoreError, StoreFull, StoreUnwritable
from pluperfect.records import open_row

from . import opening
from .folding import tail
from .gates import MapFull, MapResized
from .layout import FORMAT, TABLES, TRAILING, VIEWS, number, u64
from .ledger import Changes, end_of
from .trailing import Lacking, Trail, lacking, mark

__all__ = ["MAP_SIZE", "Environment", "Transaction"]

MAP_SIZE: Final = 64 << 30
"""How far the file may grow before the map has to; it costs address space, neither disk nor memory."""

_SMALLER: Final = (4 << 30, 1 << 30)  # tried where the process may not have that much address space
_FLAGS: Final = {
    "sync": True,
    "metasync": True,
    "writemap": False,
    "map_async": False,
    "lock": True,
    "max_spare_txns": 0,  # a cached read transaction would be shared with a forked child
    "max_dbs": 32,
    "max_readers": 1024,
}
_FORMAT: Final = msgspec.msgpack.encode(FORMAT)
_FULL: Final = 4 << 20  # bytes: with less room than this, a short write was the disk's fault


class Environment:
    """
    One open LMDB environment with its tables.

    Args:
        folder: The store's folder; a store is made in it where there is none.
        map_size: In bytes.
        check: Whether to make sure that the last record and its views agree.

    Raises:
        NotAStore, StoreDamaged, StoreUnwritable, StoreFull, StoreError: It cannot be opened; it was left as it is.
    """

    def __init__(self, folder: Path, map_size: int = MAP_SIZE, *, check: bool = True) -> None:
        self.folder = folder
        _ours(folder)
        self._own = opening.claim(folder, lambda beside: _create(beside, map_size))
        self._env: Any = None
        self.unwritable = ""  # why this release may read the store, but not write to it
        self.lacks: Lacking | None = None  # what the trailing views lacked in the last snapshot that looked at one
        self.older = False  # whether it was of another format when it was opened
        try:
            self._env = _open(folder, map_size)
            self._tables = self._handles()
            self._env.reader_check()
            self._env.sync(True)  # a process killed in its last write may have left a commit visible, not durable
            self._check_format()
            if check:
                self._check_tail()
        except lmdb.Error as error:
            self.close()
            raise _failure(folder, error) from error
        except BaseException:
            self.close()
            raise

    def _handles(self) -> Mapping[str, Any]:
        try:
            tables = {table: self._env.open_db(table.encode(), create=False) for table in TABLES}
        except lmdb.NotFoundError as error:
            raise _foreign(self.folder) from error
        with self._env.begin() as txn:
            for table, handle in tables.items():
                if any(handle.flags(txn).values()):
                    raise NotAStore(f"{self.folder}: table {table!r} has flags that no store of this library has.")
        return tables

    def _check_format(self) -> None:
        with self._env.begin() as txn:
            stored = txn.get(b"format", db=self._tables["meta"])
            self.unwritable = _check_format(self.folder, stored)
            self.older = stored != _FORMAT and not self.unwritable

    def _check_tail(self) -> None:
        with self.read() as rows:
            try:
                wrong = tail(rows)
            except StoreDamaged as error:
                wrong = f"the last record or its head cannot be read: {error}"
        if wrong is not None:
            raise StoreDamaged(
                f"The store {self.folder} contradicts itself: {wrong}. Restore it from a backup, or project the views again:"
                " LmdbLog(path, check=False).rebuild()."
            )

    # --- reading

    @contextmanager
    def read(self) -> Iterator[_Snapshot]:
        """
        A snapshot.

        Raises:
            MapResized: Another process has made the map larger.
            StoreDamaged: LMDB itself finds the file broken.
            StoreClosed: A write of the meta page failed; LMDB takes part in nothing any more.
        """
        rows = self.snapshot()
        try:
            yield rows
        except lmdb.Error as error:
            raise self.damaged(error) or error from error
        finally:
            rows.close()

    def snapshot(self) -> _Snapshot:
        """A snapshot that is to be closed; errors as of `read`."""
        return _Snapshot(self._begin_read(), self)

    def damaged(self, error: BaseException) -> StoreDamaged | None:
        """What an error in the use of a snapshot says of the file; None where it is none of LMDB's."""
        if not isinstance(error, lmdb.Error):
            return None
        return StoreDamaged(f"LMDB cannot read the store {self.folder}: {error}. Restore it from a backup.")

    def _begin_read(self) -> Any:
        try:
            return self._env.begin()
        except lmdb.MapResizedError as error:
            raise MapResized from error
        except lmdb.PanicError as error:
            raise StoreClosed(
                f"The store {self.folder} stopped after an error: {error}. Open it again; it is examined then."
            ) from error
        except lmdb.ReadersFullError:
            self._env.reader_check()
            return self._env.begin()
        except lmdb.Error as error:
            raise _failure(self.folder, error) from error

    def stale(self) -> str | None:
        """Why what the file holds is not what was committed last; None where it is."""
        with self._env.begin() as txn:
            return _stale(txn, self._tables)

    def last_txn(self) -> int:
        """The number of the last transaction that any process has committed."""
        return self._env.info()["last_txnid"]

    # --- writing; one thread does all of it

    def write(self) -> Transaction:
        """
        A write transaction, which `Transaction.begin` begins.

        Raises:
            StoreUnwritable: A newer release may write here, and this one may not.
        """
        if self.unwritable:
            raise StoreUnwritable(self.unwritable)
        return Transaction(self._env, self._tables)

    def told(self) -> dict[str, Any]:
        """What LMDB says of the file: sizes in bytes, and who reads."""
        info, page = self._env.info(), self._env.stat()["psize"]
        return {
            "map_bytes": info["map_size"],
            "used_bytes": (info["last_pgno"] + 1) * page,
            "data_bytes": (self.folder / opening.DATA).stat().st_size,
            "readers": max(0, len(self._env.readers().strip().splitlines()) - 1),
            "unwritable": self.unwritable,
        }

    def reader_check(self) -> int:
        """Clear the slots of readers that died. Returns how many there were."""
        return self._env.reader_check()

    def grow(self) -> None:
        """Make the map twice as large. No transaction of this process may be open."""
        self._resize(self._env.info()["map_size"] * 2)

    def adopt(self) -> None:
        """Take over the size that another process gave the map. No transaction of this process may be open."""
        self._resize(0)

    def _resize(self, size: int) -> None:
        until = time.monotonic() + 2.0
        while True:
            try:
                self._env.set_mapsize(size)
            except lmdb.MemoryError:
                raise
            except lmdb.Error:  # transient while another process resizes
                if time.monotonic() > until:
                    raise
                time.sleep(0.002)
            else:
                return

    def sync(self) -> None:
        """Make sure that what is visible is durable."""
        self._env.sync(True)

    def is_full(self, error: BaseException) -> bool:
        """Whether an error of a write came from a lack of room: LMDB itself calls a short write an I/O error."""
        if not isinstance(error, lmdb.Error | OSError) or isinstance(error, lmdb.PanicError):
            return False
        return _no_room(self.folder, error)

    def close(self) -> None:
        """Let go of the file. No transaction may be open. A second call does nothing."""
        if self._env is not None:
            self._env.close()
        own, self._own = self._own, None
        if own is not None:
            opening.release(own)

    def abandon(self) -> None:
        """
        Leave the environment as it is, for ever: in a forked child, whose parent reads.

        Closing it here would wipe the parent's reader slots; so it must not be collected either.
        """
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._env))


def _stale(txn: Any, tables: Mapping[str, Any]) -> str | None:
    stamp, now = txn.get(b"txn", db=tables["meta"]), txn.id()
    if stamp is None or number(stamp) == now:
        return None
    return f"the file counts {now} transactions, and what it holds was written by transaction {number(stamp)}"


_NO_ROOM: Final = (28, 122, 27)  # ENOSPC, EDQUOT, EFBIG


class _Rows:
    """`ledger.Rows` over one transaction."""

    __slots__ = ("_env", "_tables", "_txn")

    def __init__(self, txn: Any, tables: Mapping[str, Any], env: Any = None) -> None:
        self._txn, self._tables, self._env = txn, tables, env

    def close(self) -> None:
        self._txn.abort()

    def copy(self, folder: Path) -> None:
        """
        Write the file as this snapshot shows it into a folder, while others write; not yet synced.

        Raises:
            StoreError: It cannot be written there.
            StoreDamaged: Its pages do not belong together, which the copy would hide.
        """
        stale = _stale(self._txn, self._tables)
        if stale is not None:
            raise StoreDamaged(
                f"The store was not copied: {stale}. Pages of another transaction are in their place. Go back to an earlier backup."
            )
        try:
            self._env.copy(str(folder), compact=True, txn=self._txn)
        except lmdb.Error as error:
            raise StoreError(
                f"The store could not be copied to {folder.parent}: {error}. Nothing was kept. Is there room for it?"
            ) from error

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._txn.get(key, db=self._tables[table])

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes]:
        found = self._txn.cursor(self._tables[table]).getmulti(keys)
        if len(found) != len(keys):
            raise StoreDamaged(
                f"{len(keys) - len(found)} of {len(keys)} rows that the index names are not in table {table!r}."
            )
        return [value for _, value in found]

    def scan(self, table: str, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._txn.cursor(self._tables[table])
        if reverse:
            there = cursor.prev() if high and cursor.set_range(high) else cursor.last()
            return _down_to(low, cursor.iterprev()) if there else iter(())
        there = cursor.set_range(low) if low else cursor.first()
        rows = cursor.iternext() if there else iter(())
        return _below(high, rows) if high else rows

    def has(self, table: str, key: bytes) -> bool:
        return self._txn.cursor(self._tables[table]).set_key(key)

    def keys(self, table: str) -> Iterator[bytes]:
        return self._txn.cursor(self._tables[table]).iternext(values=False)

    def last(self, table: str) -> bytes | None:
        cursor = self._txn.cursor(self._tables[table])
        return cursor.key() if cursor.last() else None


def _below(high: bytes, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for row in rows:
        if row[0] >= high:
            return
        yield row


def _down_to(low: bytes, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for row in rows:
        if row[0] < low:
            return
        yield row


class _Snapshot(_Rows):
    """The same for who reads only: trailing views come with what they lack, as the end of the log has it."""

    __slots__ = ("_asked", "_house", "_lacks")

    def __init__(self, txn: Any, house: Environment) -> None:
        super().__init__(txn, house._tables, house._env)
        self._house, self._asked = house, False
        self._lacks: Lacking | None = None

    def _lacking(self, table: str) -> Lacking | None:
        if table not in TRAILING:
            return None
        if not self._asked:
            self._asked = True
            self._lacks = self._house.lacks = lacking(self, self._house.lacks)
        return self._lacks

    def get(self, table: str, key: bytes) -> bytes | None:
        lacks = self._lacking(table)
        if lacks is not None and key in lacks.tables[table]:
            return lacks.tables[table][key]
        return super().get(table, key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes]:
        if self._lacking(table) is None:
            return super().get_many(table, keys)
        found = [value for key in keys if (value := self.get(table, key)) is not None]
        if len(found) != len(keys):
            raise StoreDamaged(f"{len(keys) - len(found)} of {len(keys)} rows are not in table {table!r}.")
        return found

    def scan(self, table: str, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        rows, lacks = super().scan(table, low, high, reverse=reverse), self._lacking(table)
        return rows if lacks is None else lacks.amend(table, rows, low, high, reverse=reverse)

    def has(self, table: str, key: bytes) -> bool:
        return super().has(table, key) if self._lacking(table) is None else self.get(table, key) is not None

    def keys(self, table: str) -> Iterator[bytes]:
        if self._lacking(table) is None:
            return super().keys(table)
        return (key for key, _ in self.scan(table, b"", b""))

    def last(self, table: str) -> bytes | None:
        if self._lacking(table) is None:
            return super().last(table)
        return next((key for key, _ in self.scan(table, b"", b"", reverse=True)), None)


class Transaction:
    """
    A write transaction. Every return value of LMDB is looked at: it refuses some puts in silence.

    It is made before it begins, so that whoever begins it can already `leave` it, wherever he is interrupted: an exception
    that is kept keeps what it came from, and an open transaction keeps everybody else from writing.
    """

    __slots__ = ("_env", "_tables", "_txn", "rows")

    def __init__(self, env: Any, tables: Mapping[str, Any]) -> None:
        self._env, self._tables = env, tables
        self._txn: Any = None

    def begin(self) -> None:
        """
        Begin; waits for the writers of other processes.

        Raises:
            MapResized: Another process has made the map larger.
        """
        try:
            self._txn = self._env.begin(write=True)
        except lmdb.MapResizedError as error:
            raise MapResized from error
        self.rows = _Rows(self._txn, self._tables)

    @property
    def number(self) -> int:
        """Its number among all transactions that were ever committed to the file, by any process, if it is."""
        return self._txn.id()

    def apply(self, changes: Changes) -> None:
        """
        Do all of these changes, and put in the number of the transaction with them: where both come apart, pages of an older
        one were put in the place of newer ones.

        Raises:
            MapFull: The map is too small.
            StoreDamaged: A row that must be there is not, or one that must not be there is.
        """
        try:
            for table, key in changes.deletes:
                if not self._txn.delete(key, db=self._tables[table]):
                    raise StoreDamaged(
                        f"Row {key.hex()} of {table!r} should be there to be removed. Rebuild the views."
                    )
            changes.puts.setdefault("meta", {})[b"txn"] = u64(self._txn.id())
            for table, rows in changes.puts.items():
                log = table == "log"
                cursor = self._txn.cursor(self._tables[table])
                keys = rows if log else sorted(rows)
                _, put = cursor.putmulti(
                    zip(keys, map(rows.__getitem__, keys), strict=True), append=log, overwrite=not log
                )
                if put != len(rows):
                    raise StoreDamaged(
                        f"{len(rows) - put} of {len(rows)} rows could not be put into {table!r}. Rebuild the views."
                    )
            for key, row in changes.rewrites:
                if not self._txn.put(key, row, db=self._tables["log"]):
                    raise StoreDamaged(f"Row {number(key)} of the log could not be written anew.")
        except lmdb.MapFullError as error:
            raise MapFull from error

    def lift(self) -> None:
        """Make a store of an older format one of this: from here on views may trail behind its log."""
        meta = self._tables["meta"]
        if msgspec.msgpack.decode(self._txn.get(b"format", db=meta) or _FORMAT)["version"] < FORMAT["version"]:
            end = end_of(self.rows)
            self.apply(Changes({"meta": {b"format": _FORMAT, b"settled": self._mark(end)}}, []))

    def _mark(self, upto: int) -> bytes:
        row = self._txn.get(u64(upto), db=self._tables["log"])
        return mark(upto, b"" if row is None else open_row(row).leaf)

    def settle(self) -> None:
        """Put in what the trailing views lack: what comes next may look at any row of theirs, or change it."""
        trail = Trail.of(self.rows)
        trail.learn(self.rows)
        if trail.upto < trail.end:
            upto = trail.end
            puts, gone = trail.settle(upto, self.rows)
            self.apply(Changes({**puts, "meta": {b"settled": self._mark(upto)}}, gone))

    def replace_views(self, changes: Changes) -> None:
        """Empty the views and put these rows in their place: all that the log makes."""
        for table in VIEWS:
            self._txn.drop(self._tables[table], delete=False)
        changes.puts["meta"] = {b"settled": self._mark(end_of(self.rows))}
        self.apply(changes)

    def commit(self) -> None:
        """
        Commit; when this returns, all of it is durable. The transaction is over, however this ends.

        Raises:
            MapFull: The map is too small; nothing was committed.
        """
        try:
            self._txn.commit()
        except lmdb.MapFullError as error:
            raise MapFull from error

    def leave(self) -> None:
        """Drop it, unless it is over or never began. No other transaction of this process may be open: see the writer."""
        if self._txn is not None:
            with suppress(lmdb.Error):  # it is over
                self._txn.abort()


# --- opening --------------------------------------------------------------------------------------------


def _open(folder: Path, map_size: int) -> Any:
    for size in (map_size, *(s for s in _SMALLER if s < map_size), None):
        if size is None:
            raise StoreError(
                f"The store {folder} cannot be mapped: this process may not have {_SMALLER[-1] >> 20} MiB of addresses."
            )
        try:
            return lmdb.open(str(folder), map_size=size, create=True, **_FLAGS)
        except lmdb.MemoryError:
            continue
        except PermissionError as error:
            raise StoreUnwritable(f"The store {folder} cannot be opened: {error}.") from error
        except lmdb.Error as error:
            if getattr(error, "code", 0) == 13:  # EACCES
                raise StoreUnwritable(f"The store {folder} cannot be opened: {error}.") from error
            raise _failure(folder, error) from error
    raise AssertionError


def _no_room(folder: Path, error: BaseException) -> bool:
    text = str(error)
    if any(os.strerror(code) in text for code in _NO_ROOM):
        return True
    stat = os.statvfs(folder)
    if stat.f_bavail * stat.f_frsize < _FULL:
        return True
    try:
        import resource
    except ImportError:
        return False
    limit, data = resource.getrlimit(resource.RLIMIT_FSIZE)[0], folder / opening.DATA
    return limit != resource.RLIM_INFINITY and (data.stat().st_size if data.exists() else 0) + _FULL > limit


_BROKEN: Final = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)


def _failure(folder: Path, error: lmdb.Error) -> StoreError:
    """What LMDB says while a store is made, opened or read, in our words."""
    if isinstance(error, _BROKEN):
        return StoreDamaged(f"LMDB cannot read the store {folder}: {error}. Restore it from a backup.")
    if _no_room(folder, error):
        return StoreFull(f"There is no room to open the store {folder}: {error}. Free some space and open it again.")
    return StoreError(f"LMDB cannot open the store {folder}: {error}.")


def _create(folder: Path, map_size: int) -> None:
    env = _open(folder, min(map_size, 1 << 30))
    try:
        with env.begin(write=True) as txn:  # one for all: each by itself would be synced
            meta = {table: env.open_db(table.encode(), txn=txn) for table in TABLES}["meta"]
            assert txn.put(b"format", _FORMAT, db=meta)
            assert txn.put(b"settled", mark(0, b""), db=meta)
            assert txn.put(b"store_id", uuid4().bytes, db=meta)
        env.sync(True)
    except lmdb.Error as error:
        raise _failure(folder, error) from error
    finally:
        env.close()


def _ours(folder: Path) -> None:
    """Look into a file that stands without our own lock file, without leaving a trace: it may be anybody's."""
    if not (folder / opening.DATA).is_file() or (folder / opening.OWN_LOCK).exists():
        return
    opening.examine(folder)
    try:
        env = lmdb.open(str(folder), readonly=True, lock=False, create=False, max_dbs=_FLAGS["max_dbs"])
    except lmdb.Error as error:
        raise _failure(folder, error) from error
    try:
        meta = env.open_db(b"meta", create=False)
        with env.begin() as txn:
            _check_format(folder, txn.get(b"format", db=meta))
    except lmdb.Error as error:
        raise _foreign(folder) from error
    finally:
        env.close()


def _foreign(folder: Path) -> NotAStore:
    return NotAStore(
        f"{folder} holds an LMDB environment of another program. It was left as it is; give another folder."
    )


def _check_format(folder: Path, stored: bytes | None) -> str:
    """Why this release may only read a store with this format; empty where it may write too."""
    if stored is None:
        raise _foreign(folder)
    try:
        form = msgspec.msgpack.decode(stored, type=dict[str, int])
        version, reader, writer = form["version"], form["min_reader"], form["min_writer"]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise _foreign(folder) from error
    if min(version, reader, writer) < 1:
        raise _foreign(folder)
    ours = FORMAT["version"]
    if reader > ours:
        raise StoreError(
            f"The store {folder} has format {version}, which needs a release that knows format {reader}; this one"
            f" knows format {ours}. Install a newer pluperfect. The store was left as it is."
        )
    if writer > ours:
        return (
            f"The store {folder} has format {version}: this release, which knows format {ours}, may read it, but writing needs one"
            f" that knows format {writer}. Install a newer pluperfect. Nothing was written."
        )
    return ""

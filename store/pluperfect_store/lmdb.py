"""
The store on disk: ``lmdb:PATH``, a folder with one LMDB environment.

One `Store` stands behind all the logs that a process opens on one folder, since LMDB must not be opened twice
there. It survives a fork: the child opens the file anew, and the parent goes on as if nothing had happened.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from msgspec.structs import replace

from pluperfect.errors import PluperfectError, StoreClosed, StoreError, StoreForked, StoreUnwritable, UnknownStore
from pluperfect.evidence import Checkpoint, Finding, Report
from pluperfect.hooks import Backup, Compacted, Health, Log, Part, Pruned, PruneRule, hookimpl
from pluperfect.settings import get_current_settings

from .files import Files
from .folding import projected
from .gates import Gate, MapResized, Visit
from .layout import FILE_FROM
from .leases import living
from .ledger import Batch, Prepared, Rows, claiming, end_of, prepare, releasing
from .proving import Proving
from .reading import check_timeout, check_whole
from .tickets import Pending
from .trailing import Trail
from .writer import Writer

if TYPE_CHECKING:
    from .environment import Environment, Transaction

__all__ = ["LmdbLog", "open_log"]

T = TypeVar("T")

_FORK_PATIENCE: Final = 0.1  # seconds that a fork waits for reads under way
_CLOSE_PATIENCE: Final = 5.0  # seconds that a close does; reads are short
_QUICK: Final = 0.001  # seconds between two looks for appends of other processes, at first ...
_SLOW: Final = 0.02  # ... and at last


@hookimpl
def open_log(uri: str) -> Log | None:
    """
    Open the store in a folder for ``lmdb:PATH``; ``~`` is the user's home.

    ``lmdb+unchecked:PATH`` opens it although its last record and its views disagree: to verify it, or to rebuild its views.

    Raises:
        UnknownStore: There is no path.
    """
    scheme, colon, path = uri.partition(":")
    if scheme not in ("lmdb", "lmdb+unchecked") or not colon:
        return None
    if not path:
        raise UnknownStore(f"'{scheme}:' lacks the path of a folder. Write {scheme}:PATH.")
    return LmdbLog(path, check=scheme == "lmdb")


class Store:
    """One environment, its writer, and everything that must be done alone. It outlives any one `LmdbLog`."""

    def __init__(self, folder: Path, map_size: int | None, *, check: bool) -> None:
        self.folder, self._map_size = folder, map_size
        self.files = Files(folder / "blobs")
        self.users = 0
        self.dead: StoreForked | None = None
        self.closed = self._amid = False
        self.env: Environment | None = None
        self._fresh()
        self._open(check=check)

    def _fresh(self) -> None:
        self.owner = uuid4().bytes  # a forked child is another owner
        living.add(self.owner)
        self.gate = Gate()
        self.writer = Writer(self, str(self.folder))
        self._opening = threading.Lock()
        # Entered by itself, not as the condition: who is interrupted on his way into that would leave it locked.
        self.growing = threading.Lock()
        self.grown = threading.Condition(self.growing)
        self.position = 0
        self.watching = 0  # who waits for the log to grow

    def _open(self, *, check: bool = True) -> Environment:
        from .environment import MAP_SIZE, Environment

        with self._opening:
            if self.env is None:
                self.env = Environment(self.folder, self._map_size or MAP_SIZE, check=check)
            return self.env

    # --- for the writer

    def environment(self) -> Environment:
        """The open environment; opened here where a fork has closed it."""
        return self.env or self._open()

    def alone(self, act: Callable[[], None]) -> None:
        """Do this while no transaction of this process is open; the caller holds the writer's gate."""
        try:
            self.gate.shut()
            act()
        finally:
            self.gate.open()

    def committed(self, position: int) -> None:
        """Wake who waits for the log to grow."""
        self.position = position
        if self.watching:  # who begins to watch after this sees the position
            with self.growing:
                self.grown.notify_all()

    @property
    def lease_seconds(self) -> float:
        """For how long this owner keeps its trees without being heard of."""
        return get_current_settings().lease_seconds

    # --- for the logs

    def compact(self) -> Compacted:
        """Write the file anew, while nobody, here or elsewhere, has it open."""
        from .compaction import rewrite
        from .environment import MAP_SIZE

        with self.writer.gate:
            try:
                if not self.gate.shut(_CLOSE_PATIENCE):
                    raise StoreError(
                        f"The store {self.folder} is being read by this process. Try again when that is done."
                    )
                env, self.env = self.env, None
                if env is not None:
                    env.close()
                return rewrite(self.folder, self._map_size or MAP_SIZE)
            finally:
                self.gate.open()

    def check(self) -> None:
        """Raise where nothing can be done here."""
        if self.dead is not None:
            raise self.dead
        if self.closed:
            raise StoreClosed(f"The store {self.folder} is closed. Open it again to go on.")

    def inside(self) -> AbstractContextManager[Environment]:
        """The environment, which is neither resized nor closed meanwhile."""
        return _Inside(self)

    def rows(self) -> AbstractContextManager[Rows]:
        """A snapshot."""
        return _Look(self)

    def close(self) -> None:
        """Commit what is queued and let go of the file; where that was interrupted, what is left of it."""
        if self.dead is not None or self.closed:
            return
        with suppress(PluperfectError):  # a store that takes nothing more: its leases end with this process
            self.writer.let_go()
        self.writer.stop()
        with self.writer.gate:
            try:
                alone = self.gate.shut(_CLOSE_PATIENCE)
                if self.env is not None:
                    if alone:
                        self.env.close()
                    else:  # somebody still reads: pulling the map away would kill the process
                        self.env.abandon()
                self.env = None
                self.closed = True
                living.discard(self.owner)
            finally:
                self.gate.open()
        with self.growing:
            self.grown.notify_all()

    # --- forks

    def before_fork(self) -> None:
        """Make sure that no transaction is open; reads under way are given a moment to end."""
        self._amid = self.writer.is_mine()  # a handler of a signal forks amid a commit, which holds the gate already
        if not self._amid:
            self.writer.gate.acquire()
        self.writer.mutex.acquire()
        self.gate.shut(_FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """Go on as if nothing had happened."""
        self.gate.open()
        self.writer.mutex.release()
        if not self._amid:
            self.writer.gate.release()

    def after_fork_in_child(self) -> None:
        """Close what was inherited, to be opened anew at first use; or, where the parent reads, leave all alone."""
        reading = bool(self.gate.inside) or self._amid
        self.writer.forked()
        env, self.env = self.env, None
        self._fresh()
        if env is None:
            return
        if reading:
            env.abandon()
            self.dead = StoreForked(
                f"This process was forked while its parent was reading the store {self.folder}, which cannot be used here then."
                ' Start processes with the method "spawn", or open the store in the child under a path of its own.'
            )
        else:
            env.close()


class _Inside(Visit):
    """The environment of a store, as long as the context lasts."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store, self.thread = store, threading.get_ident()

    def __enter__(self) -> Environment:
        self.code = sys._getframe(1).f_code
        store = self._store
        try:
            store.gate.enter(self)
            store.check()
            return store.environment()
        except BaseException:
            store.gate.leave(self)
            raise

    def __exit__(self, *_: object) -> None:
        self._store.gate.leave(self)


class _Look(Visit):
    """A snapshot of a store, as long as the context lasts. A class: reads are many, and each is short."""

    __slots__ = ("_env", "_rows", "_store")

    def __init__(self, store: Store) -> None:
        self._store, self.thread = store, threading.get_ident()

    def __enter__(self) -> Rows:
        self.code = sys._getframe(1).f_code
        store = self._store
        while True:
            try:
                store.gate.enter(self)
                store.check()
                self._env = store.environment()
                self._rows = self._env.snapshot()
            except MapResized:
                store.gate.leave(self)
            except BaseException:
                store.gate.leave(self)
                raise
            else:
                return self._rows
            with store.writer.gate:
                store.alone(self._env.adopt)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._rows.close()
        finally:
            self._store.gate.leave(self)
        if error is not None:
            damaged = self._env.damaged(error)
            if damaged is not None:
                raise damaged from error


_stores: Final[dict[str, Store]] = {}
_registry: Final = threading.RLock()
_hooked = False
_pipe: tuple[int, int] | None = None


def _before_fork() -> None:
    global _pipe
    _registry.acquire()
    for store in _stores.values():
        store.before_fork()
    _pipe = os.pipe() if _stores else None


def _after_fork_in_parent() -> None:
    global _pipe
    if _pipe is not None:
        # Closing the inherited environment clears the reader slots that this process had when it forked. A read
        # begun before the child is done with it would lose its slot, and see newer data in silence: wait for it.
        import select

        read, write = _pipe
        os.close(write)
        select.select([read], [], [], _CLOSE_PATIENCE)
        os.close(read)
        _pipe = None
    for store in reversed(_stores.values()):
        store.after_fork_in_parent()
    _registry.release()


def _after_fork_in_child() -> None:
    global _pipe, _registry
    for store in _stores.values():
        store.after_fork_in_child()
    _registry = threading.RLock()  # type: ignore[misc]
    if _pipe is not None:
        for end in _pipe:
            os.close(end)
        _pipe = None


def _at_exit() -> None:
    for store in [*_stores.values()]:
        store.close()


def _shared(folder: Path, map_size: int | None, *, check: bool) -> Store:
    """The one store of this process on a folder."""
    global _hooked
    key = os.path.realpath(folder)
    with _registry:
        store = _stores.get(key)
        if store is not None and not store.users:  # its closing was interrupted
            _let_go(store)
            store = None
        if store is None:
            if not _hooked:
                atexit.register(_at_exit)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(
                        before=_before_fork,
                        after_in_parent=_after_fork_in_parent,
                        after_in_child=_after_fork_in_child,
                    )
                _hooked = True
            store = _stores[key] = Store(Path(key), map_size, check=check)
        store.users += 1
        return store


def _give_back(store: Store) -> None:
    with _registry:
        store.users -= 1
        if not store.users:
            _let_go(store)


def _let_go(store: Store) -> None:
    store.close()
    for key, known in [*_stores.items()]:
        if known is store:
            del _stores[key]


def _without_files(op: Prepared, files: Files) -> Prepared:
    """The same append without the values that are files of their own, which are put there."""
    large = [value for value in op.blobs if value.size > FILE_FROM]
    for value in large:
        files.put(value.digest, value.data)
    return replace(op, blobs=tuple(value for value in op.blobs if value not in large))


class LmdbLog(Proving):
    """
    A log in a folder.

    Logs that one process opens on one folder share everything but their being closed.

    Args:
        path: The folder; made where it is missing.
        map_size: How far the file may grow before the map has to, in bytes; for tests. 64 GiB where left out.
        check: Whether to make sure, at opening, that the last record and its views agree; without it a store
            whose views are damaged can be opened, and rebuilt.

    Raises:
        NotAStore, StoreDamaged, StoreUnwritable: The path cannot be opened as a store; it is left as it is.
        StoreError: The store is of a newer format.
    """

    def __init__(self, path: str | os.PathLike[str], *, map_size: int | None = None, check: bool = True) -> None:
        self.path = Path(path).expanduser().absolute()
        try:
            self._store = _shared(self.path, map_size, check=check)
        except PermissionError as error:
            if isinstance(error, StoreUnwritable):
                raise
            # Not even looking is allowed: a folder on the way to it is closed to this user.
            raise StoreUnwritable(
                f"The store {self.path} cannot be reached by this user: {error.strerror} ({error.filename})."
                " Give this user the right, or name another folder."
            ) from error
        self._closed = False
        self._closing = threading.Lock()
        self._hashes = {}

    @property
    def uri(self) -> str:
        """The address that opens this log again."""
        return f"lmdb:{self.path}"

    def _open_store(self) -> Store:
        if self._closed:
            raise StoreClosed(f"The log {self.uri} is closed. Open it again to go on.")
        self._store.check()
        return self._store

    def _writable(self) -> Store:
        store = self._store
        if self._closed or store.dead is not None or store.closed:
            self._open_store()  # says why that is no more
        why = (store.env or store.environment()).unwritable
        if why:
            raise StoreUnwritable(why)
        return store

    def _rows(self) -> AbstractContextManager[Rows]:
        return self._open_store().rows()

    def append(self, parts: Sequence[Part], *, epoch: int = 0, hold: float = 0.005, claim: bool = False) -> Pending:
        """Append entries, all parts or none; see `pluperfect.hooks.Log.append`."""
        op = prepare(parts, epoch, claim=claim)
        store = self._writable()
        return store.writer.append(_without_files(op, store.files) if op.blobs else op, hold)

    def claim(self, root: bytes, at: float) -> int:
        """Take a tree over; see `pluperfect.hooks.Log.claim`."""
        return self._writable().writer.ask(claiming(root, at))

    def release(self, root: bytes, epoch: int) -> None:
        """Let go of a tree; see `pluperfect.hooks.Log.release`."""
        self._writable().writer.append(releasing(root, epoch), 0.005)

    def blob(self, digest: bytes) -> bytes | None:
        """The large value with this SHA-256; see `pluperfect.hooks.Log.blob`."""
        return super().blob(digest) or self._file(digest)

    _file_from = FILE_FROM

    def _file(self, digest: bytes) -> bytes | None:
        return self._open_store().files.get(digest)

    def _put_file(self, digest: bytes, data: bytes) -> None:
        self._writable().files.put(digest, data)

    def _remove_file(self, digest: bytes) -> None:
        self._writable().files.remove(digest)

    def _change(self, job: Callable[[Batch], T]) -> T:
        store = self._writable()

        def act(txn: Transaction) -> T:
            end = end_of(txn.rows)
            batch = Batch(txn.rows, end, store.owner, trail=Trail(end, end))
            answer = job(batch)
            txn.apply(batch.changes(settle=True))
            return answer

        return store.writer.run(act)

    def flush(self) -> None:
        """Wait until everything that this process appended before is committed."""
        self._open_store().writer.flush()

    def settle_key(self, key: str) -> None:
        """Wait until a result that this process has appended under a cache key, if any, is committed."""
        self._open_store().writer.settle_key(key)

    def await_position(self, beyond: int, timeout: float | None = None) -> bool:
        """Wait until the log is longer than this; False when the time is up. Sees other processes too."""
        check_whole("A position", beyond)
        check_timeout(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        nap = _QUICK
        while True:
            store = self._open_store()
            # A look at the log itself, as cheap as one at LMDB's last transaction id: that id can be seen a moment
            # before the transaction can be read, so that who waits for it to change would miss the change.
            if store.position > beyond or self.position() > beyond:
                return True
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            with store.growing:  # not as the condition, see there
                store.watching += 1
                try:
                    if store.position <= beyond:
                        store.grown.wait(nap if left is None else min(nap, left))
                finally:
                    store.watching -= 1
            nap = min(nap * 1.3, _SLOW)

    def compare(self) -> list[str]:
        """Fold the whole log again and say, one line each, where a view differs from it; or that pages do not belong together."""
        lines = super().compare()
        stale = None if lines else self._stale()
        return lines if stale is None else [f"file: {stale}"]

    def verify(self, run: bytes | None = None, against: Checkpoint | None = None) -> Report:
        """Say everything that is wrong; see `pluperfect.hooks.Log.verify`."""
        report = super().verify(run, against)
        stale = None if report.findings or run is not None else self._stale()
        if stale is None:
            return report
        from .walking import RESTORE

        return replace(report, findings=(Finding(f"the file is not as it was written: {stale}", RESTORE),))

    def _stale(self) -> str | None:
        with self._open_store().inside() as env:
            stale = env.stale()
        return None if stale is None else f"{stale}: pages of another transaction are in their place"

    def rebuild(self) -> int:
        """Project every view again from the log, in one transaction. Returns the number of records read."""

        def again(txn: Transaction) -> Any:
            txn.replace_views(projected(txn.rows))
            return end_of(txn.rows)

        return self._writable().writer.run(again)

    def prune(self, rule: PruneRule, at: float, *, dry_run: bool = False) -> Pruned:
        """Take whole trees of ended runs out of the log; see `pluperfect.hooks.Log.prune`."""
        from .pruning import prune

        self.flush()
        return prune(self, rule, at, self._open_store().files, dry_run=dry_run)

    def backup(self, path: str) -> Backup:
        """Copy the store into a new folder, while others write; see `pluperfect.hooks.Log.backup`."""
        from .backup import back_up

        self.flush()
        store = self._open_store()

        def copy(folder: Path) -> None:
            with store.rows() as rows:
                rows.copy(folder)  # type: ignore[attr-defined]

        return back_up(copy, store.files, Path(path).expanduser().absolute())

    def compact(self) -> Compacted:
        """Write the file anew without the room that it does not use; see `pluperfect.hooks.Log.compact`."""
        self.flush()
        return self._writable().compact()

    def health(self) -> Health:
        """Look after the store; see `pluperfect.hooks.Log.health`."""
        from .health import examined

        store = self._open_store()
        with store.inside() as env:
            told = {**env.told(), "stale_readers": env.reader_check()}
        with store.rows() as rows:
            return examined(store.folder, rows, store.files, told)

    def close(self) -> None:
        """Commit what is queued and let go of the file. A second call does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._store.users > 1:
            self._store.writer.flush()
        _give_back(self._store)

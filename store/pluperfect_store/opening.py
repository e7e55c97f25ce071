"""
Before a store is opened: whose folder is this, and is its file whole?

LMDB makes a new store of an empty file and dies of SIGBUS on a short one, so the meta pages are read here,
in Python, before it gets to see the path. Whatever is refused is left as it was found.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from pluperfect.errors import NotAStore, StoreDamaged, StoreError, StoreUnwritable

from .mounts import refuse_network
from .pages import free_pages

try:
    import fcntl
except ImportError:  # Windows: one process at a time is then up to the user
    fcntl = None

__all__ = ["DATA", "LOCK", "OWN_LOCK", "alone", "claim", "examine", "release", "remove_leftovers", "sync_folder"]

DATA: Final = "data.mdb"
LOCK: Final = "lock.mdb"  # LMDB's own; opening and closing it by hand would drop LMDB's locks
OWN_LOCK: Final = "store.lock"

_MAGIC: Final = 0xBEEFC0DE
_PATIENCE: Final = 10.0  # seconds to wait for somebody who creates the store at this very moment


def claim(folder: Path, create: Callable[[Path], None]) -> int:
    """
    Make sure that a sound store stands in this folder, and take a shared lock on it.

    Args:
        folder: Made where it is missing.
        create: Makes a new store in the empty folder that it is given.

    Returns:
        A file descriptor that holds the lock; hand it to `release`.

    Raises:
        NotAStore, StoreDamaged, StoreUnwritable: What stands there cannot be opened; it was left as it is.
        StoreError: Somebody works on the store offline.
    """
    if folder.exists() and not folder.is_dir():
        raise NotAStore(
            f"{folder} is a file, not a store; a store is a folder. Give the path of a folder, or of one to be made."
        )
    refuse_network(folder)
    data = folder / DATA
    if data.exists():
        examine(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = os.open(folder / OWN_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (PermissionError, OSError) as error:
        raise _unwritable(folder, error) from error
    try:
        # Whoever makes the store holds the lock alone, and shares it afterwards: others wait for the file or the lock.
        if not data.exists() and _lock(own, folder, exclusive=True, unless=data) and not data.exists():
            _create(folder, create)
        _lock(own, folder, exclusive=False)
        examine(folder)
        for file in (data, folder / LOCK):
            if file.exists() and not os.access(file, os.R_OK | os.W_OK):
                raise _unwritable(file, None)
        if not os.access(folder, os.W_OK):
            raise _unwritable(folder, None)
    except BaseException:
        os.close(own)
        raise
    return own


def release(own: int) -> None:
    """Let go of the shared lock."""
    os.close(own)


def alone(folder: Path) -> int:
    """
    Take the lock of a store for this process alone, to work on its file.

    Returns:
        A file descriptor that holds the lock; hand it to `release`.

    Raises:
        StoreError: Somebody has the store open.
    """
    own = os.open(folder / OWN_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(own)
        raise StoreError(
            f"The store {folder} is open elsewhere. Close it there, and try again; nothing was changed."
            " `pluperfect doctor` says which processes have it open."
        ) from None
    return own


def _unwritable(path: Path, error: OSError | None) -> StoreUnwritable:
    reason = "" if error is None else f" ({error.strerror})"
    return StoreUnwritable(
        f"{path} cannot be written by this user{reason}. A store takes locks even for reading; change the permissions,"
        " or copy the store to a folder of your own."
    )


def _lock(own: int, folder: Path, *, exclusive: bool, unless: Path | None = None) -> bool:
    """Take the lock; False where this file has appeared meanwhile, so that there is no need."""
    if fcntl is None:
        return True
    until = time.monotonic() + _PATIENCE
    kind = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    while True:
        try:
            fcntl.flock(own, kind)
        except BlockingIOError:
            if unless is not None and unless.exists():
                return False
            if time.monotonic() > until:
                doing = "is in use, but has lost its file data.mdb" if exclusive else "is locked for maintenance"
                raise StoreError(f"The store {folder} {doing}. Try again when the other process is done.") from None
            time.sleep(0.005)
        else:
            return True


def remove_leftovers(folder: Path) -> None:
    """Remove files half made by somebody who died; the caller has the lock alone, so that nobody is at it now."""
    for left in folder.glob(".new-*"):
        _clear(left)


def _clear(folder: Path) -> None:
    """Remove what a store that was made there may have left, as far as that can be done."""
    try:
        for name in (DATA, LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:  # mostly there is no more in it, and then shutil is not loaded
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _create(folder: Path, create: Callable[[Path], None]) -> None:
    """A store that is made beside and moved into place: whoever dies halfway leaves no half of one."""
    remove_leftovers(folder)
    beside = folder / f".new-{uuid4().hex}"
    try:
        beside.mkdir()
        create(beside)
        (beside / DATA).rename(folder / DATA)
        sync_folder(folder)
    except PermissionError as error:
        raise _unwritable(folder, error) from error
    finally:
        _clear(beside)


def sync_folder(folder: Path) -> None:
    """Make the entry of a new file in its folder durable."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_free(file: BinaryIO, page: int, root: int, behind: range) -> bool:
    """Whether all of these pages are free, so that nobody misses them."""
    try:
        free = {number for number in free_pages(file, page, root) if number in behind}
        return len(free) == behind.stop - behind.start  # never page by page: how many they are, a damaged file says
    except (ValueError, struct.error, RecursionError):
        return False


def examine(folder: Path) -> None:
    """
    Read the two meta pages of ``data.mdb``.

    Raises:
        NotAStore: It is empty, foreign, or of the other engine that py-lmdb brings along.
        StoreDamaged: It is shorter than it says.
        StoreUnwritable: It may not be read.
    """
    data = folder / DATA
    left = "It was left as it is."
    if not data.is_file():
        raise NotAStore(f"{data} is no file. {left}")
    try:
        with data.open("rb") as file:
            head = file.read(64)
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise NotAStore(f"{data} is empty, which no store ever is. {left} If it is a leftover, remove it.")
            if len(head) >= 28 and struct.unpack_from("=I", head, 24)[0] == _MAGIC:
                raise NotAStore(
                    f"{data} was written by LMDB 1.0; stores are of LMDB 0.9. {left} It may belong to another program."
                )
            if len(head) < 44 or struct.unpack_from("=I", head, 16)[0] != _MAGIC:
                raise NotAStore(f"{data} is no LMDB file. {left} Give another folder.")
            version, page = struct.unpack_from("=I", head, 20)[0], struct.unpack_from("=I", head, 40)[0]
            if version != 1 or not 512 <= page <= 65536:
                raise NotAStore(
                    f"{data} has LMDB data version {version} and pages of {page} bytes, which no store has. {left}"
                )
            if size < 2 * page:
                raise StoreDamaged(
                    f"{data} has {size} bytes, less than its two first pages. {left} Restore it from a backup."
                )
            last = newest = free = -1
            for start in (0, page):
                file.seek(start)
                meta = file.read(152)
                if struct.unpack_from("=I", meta, 16)[0] != _MAGIC:
                    raise StoreDamaged(
                        f"{data}: meta page {start // page} is overwritten. {left} Restore it from a backup."
                    )
                txn = struct.unpack_from("=Q", meta, 144)[0]
                if txn > newest:
                    newest, last, free = txn, *struct.unpack_from("=Q", meta, 136), *struct.unpack_from("=Q", meta, 80)
            size = os.fstat(file.fileno()).st_size  # asked again, after the pages: other processes may be writing
            if (last + 1) * page > size and not _is_free(file, page, free, range(size // page, last + 1)):
                raise StoreDamaged(
                    f"{data} is cut short: it has {size} bytes, and says itself that it has {(last + 1) * page}. {left}"
                    " Restore it from a backup."
                )
    except PermissionError as error:
        raise _unwritable(data, error) from error

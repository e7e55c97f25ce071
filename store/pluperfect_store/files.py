"""
What stands at a path, before LMDB touches it.

LMDB makes a new store of an empty file, and reads beyond the end of a short one until the process dies. So the
two meta pages are read here first, and whatever is not ours is left as it is.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pluperfect.errors import NotAStore, StoreDamaged, StoreUnwritable

__all__ = ["DATA", "LOCK", "examine", "may_write"]

DATA = "data.mdb"
LOCK = "store.lock"

_MAGIC = 0xBEEFC0DE
_META = struct.Struct("=QQ")  # last page, transaction id


def examine(path: Path) -> bool:
    """
    Look at a folder that shall be opened as a store.

    Returns:
        Whether a store is there already.

    Raises:
        NotAStore: Something else is there.
        StoreDamaged: It is a store, but cut short.
    """
    if path.exists() and not path.is_dir():
        raise NotAStore(
            f"{path} is a file, not a store: a store is a folder. Give the path of a new or empty folder, or of a store."
        )
    data = path / DATA
    if not data.exists():
        return False
    if not data.is_file():
        raise NotAStore(f"{data} is not a file, so {path} is no store. Choose another folder.")
    size = data.stat().st_size
    if size == 0:
        raise StoreDamaged(f"{data} is empty: it has lost its content, or a copy was cut short. Restore it, or remove it to begin anew.")
    with data.open("rb") as file:
        head = file.read(152)
        magic = _u32(head, 16)
        if len(head) < 152 or magic != _MAGIC:
            if _u32(head, 24) == _MAGIC:
                raise NotAStore(f"{data} was written by another LMDB format (1.0), which this library does not read. It was left as it is.")
            raise NotAStore(f"{data} is no LMDB file, so {path} is no store. It was left as it is; choose another folder.")
        page = _u32(head, 40)
        if _u32(head, 20) != 1 or page < 512 or page > 65536 or page & (page - 1):
            raise StoreDamaged(f"{data}: its first meta page is damaged. Restore the store from a copy.")
        if size < 2 * page:
            raise StoreDamaged(f"{data} has {size} bytes, less than its two meta pages: it was cut short. Restore it from a copy.")
        file.seek(page)
        second = file.read(152)
    pages = [_META.unpack_from(meta, 136) for meta in (head, second) if len(meta) == 152 and _u32(meta, 16) == _MAGIC]
    if len(pages) < 2:
        raise StoreDamaged(f"{data}: its second meta page is damaged. Restore the store from a copy.")
    last, _ = max(pages, key=lambda pair: pair[1])
    if (last + 1) * page > size:
        raise StoreDamaged(
            f"{data} has {size} bytes where its records need {(last + 1) * page}: it was cut short. Restore it from a copy;"
            " opening it would crash this process."
        )
    return True


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little" if struct.pack("=H", 1)[0] else "big")


def may_write(path: Path) -> None:
    """
    Make the folder, and make sure that this user may write in it.

    Raises:
        StoreUnwritable: Not so.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name in (LOCK, DATA, "lock.mdb"):
            if name == LOCK or (path / name).exists():
                os.close(os.open(path / name, os.O_RDWR | (os.O_CREAT if name == LOCK else 0), 0o666))
    except (NotADirectoryError, FileExistsError) as error:
        raise NotAStore(f"{path} cannot be a folder: {error}.") from error
    except OSError as error:
        raise StoreUnwritable(
            f"{path} cannot be written by this user: {error.strerror}. A store is written also when it is only read from (its"
            " readers are counted there). Give this user the right, or name another folder by its path or PLUPERFECT_HOME."
        ) from error

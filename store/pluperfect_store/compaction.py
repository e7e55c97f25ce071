# pyright: basic
"""
Writing a store's file anew, row by row, without the room that it does not use.

LMDB never gives room back, and does not fill half-empty pages when it copies. Rows that are put in the order of their
keys fill theirs. The old file stands until the new one is durable and was compared with it in every row.
"""

from __future__ import annotations

import errno
import shutil
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import lmdb

from pluperfect.errors import StoreDamaged, StoreError, StoreFull
from pluperfect.hooks import Compacted

from . import opening
from .layout import number, u64

__all__ = ["rewrite"]

_TABLES: Final = 128  # more than any release has: tables of later ones are taken along


def rewrite(folder: Path, map_size: int) -> Compacted:
    """
    Write ``data.mdb`` anew.

    Args:
        folder: The store, which this process has not open.
        map_size: In bytes.

    Raises:
        StoreError: Somebody else has it open.
        StoreFull: There is no room for the new file; the old one stands.
        StoreDamaged: The new file differs; the old one stands.
    """
    own = opening.alone(folder)
    beside = folder / f".new-{uuid4().hex}"
    try:
        opening.remove_leftovers(folder)
        opening.examine(folder)
        beside.mkdir()
        before = (folder / opening.DATA).stat().st_size
        rows = _rewritten(folder, beside, max(map_size, 2 * before))
        after = (beside / opening.DATA).stat().st_size
        (beside / opening.DATA).rename(folder / opening.DATA)
        opening.sync_folder(folder)
        return Compacted(before, after, rows)
    except (lmdb.Error, OSError) as error:
        if isinstance(error, StoreError):
            raise
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StoreFull(
            f"The store {folder} was not compacted: {error}. It needs room for a second file beside the first. It is as it was."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        opening.release(own)


def _rewritten(folder: Path, beside: Path, map_size: int) -> int:
    old = lmdb.open(str(folder), readonly=True, create=False, max_dbs=_TABLES, map_size=map_size)
    new = lmdb.open(str(beside), max_dbs=_TABLES, map_size=map_size)
    try:
        with old.begin() as txn:
            names = [*txn.cursor().iternext(values=False)]
        pairs = [(name, old.open_db(name, create=False), new.open_db(name)) for name in names]
        count = 0
        with old.begin() as source, new.begin(write=True) as target:
            stamp = _stamp(folder, source, {name: there for name, there, _ in pairs}[b"meta"])
            for name, there, here in pairs:
                rows = source.stat(there)["entries"]
                _, put = target.cursor(here).putmulti(source.cursor(there), append=True)
                if put != rows:
                    raise StoreDamaged(f"{folder}: {put} of {rows} rows of {name.decode()!r} could be written anew.")
                count += rows
                if name == b"meta" and stamp is not None:  # the new file counts its transactions anew
                    target.put(b"txn", u64(target.id()), db=here)
        new.sync(True)
        with old.begin() as source, new.begin() as target:
            for name, there, here in pairs:
                for one, other in zip_longest(source.cursor(there), target.cursor(here)):
                    if one != other and not (name == b"meta" and one == (b"txn", stamp)):
                        raise StoreDamaged(
                            f"{folder}: the new file differs in table {name.decode()!r}; it was not kept."
                        )
        return count
    finally:
        new.close()
        old.close()


def _stamp(folder: Path, source: Any, meta: Any) -> bytes | None:
    """The number that the last transaction left, which the new file will have another of: here it has to be right."""
    stamp = source.get(b"txn", db=meta)
    if stamp is not None and number(stamp) != source.id():
        raise StoreDamaged(
            f"{folder}: the file counts {source.id()} transactions, and what it holds was written by transaction {number(stamp)}:"
            " pages of another transaction are in their place. It was not compacted, which would hide this. Restore it from a backup."
        )
    return stamp

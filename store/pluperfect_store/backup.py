"""A copy of a live store, checked before it stands under its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import uuid4

from pluperfect.errors import StoreDamaged, StoreError, StoreUnwritable
from pluperfect.hooks import Backup

from .comparing import differences
from .environment import Environment
from .files import Files
from .layout import decode_head, decode_lease, number, u64
from .ledger import Changes, Rows, end_of
from .opening import DATA, LOCK, OWN_LOCK, sync_folder
from .pruning import named_values
from .tree import Tree

try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["FENCE_STEP", "back_up"]

FENCE_STEP: Final = 1 << 32
"""How far a copy's fence is above every term that was seen: more than could be given while the copy was made or later."""


def back_up(copy: Callable[[Path], None], files: Files, path: Path) -> Backup:
    """
    Make a backup.

    Args:
        copy: Writes one snapshot of the store into the folder that it is given.
        files: The large values.
        path: The folder to make.

    Raises:
        StoreError: There is something at the path.
        StoreDamaged: The copy is not sound; it was not kept.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path} is there already, and not empty. Give the backup a folder of its own.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        part = path.with_name(f".{path.name}.part-{uuid4().hex}")
        part.mkdir()
        at_it = os.open(part, os.O_RDONLY)
    except PermissionError as error:
        raise StoreUnwritable(f"The backup {path} cannot be written by this user ({error.strerror}).") from error
    try:
        if fcntl is not None:
            fcntl.flock(at_it, fcntl.LOCK_EX)  # says that somebody is at it
        with files.shared():  # what the snapshot names is not swept before it is copied
            copy(part)
            made = _finished(part, files, path)
        os.fsync(at_it)
        if path.exists():
            path.rmdir()
        part.rename(path)
        sync_folder(path.parent)
        return made
    finally:
        os.close(at_it)
        shutil.rmtree(part, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Backups of this name whose makers were killed."""
    for part in path.parent.glob(f".{path.name}.part-*"):
        if fcntl is None:
            continue
        at_it = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(at_it, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(part)
        except BlockingIOError:
            pass  # somebody is at it
        finally:
            os.close(at_it)


def _finished(part: Path, files: Files, path: Path) -> Backup:
    """Fence old owners out of the copy, add the large values, check all of it, and make it durable."""
    env = Environment(part)
    try:
        with env.read() as rows:
            changes = _fenced(rows)
        txn = env.write()
        txn.begin()
        txn.apply(changes)
        txn.commit()
        with env.read() as rows:
            named = named_values(rows.scan("log", b"", b""))
            count, size, absent = _copied(rows, named, files, Files(part / "blobs"))
            wrong = [*differences(rows), *_wrong_values(rows)]
            position, tree = end_of(rows), Tree.decode(rows.get("meta", b"tree"))
    finally:
        env.close()
    if wrong:
        raise StoreDamaged(
            f"The backup {path} was not kept, since the copy is not sound in {len(wrong)} places; the first: {wrong[0]}."
            " `pluperfect rebuild` mends views; if the log itself is damaged, go back to an earlier backup."
        )
    for lock in (LOCK, OWN_LOCK):
        (part / lock).unlink(missing_ok=True)
    with (part / DATA).open("rb") as file:
        os.fsync(file.fileno())
    data = (part / DATA).stat().st_size
    return Backup(str(path), position, tree.size, tree.root, data, count, size, absent)


def _fenced(rows: Rows) -> Changes:
    """Nobody carries out anything in a copy, and whoever did may not write there."""
    terms = [decode_head(head).epoch for _, head in rows.scan("head", b"", b"")]
    terms += [decode_lease(lease).epoch for _, lease in rows.scan("lease", b"", b"")]
    terms.append(number(rows.get("meta", b"fence") or b""))
    deletes = [(table, key) for table in ("lease", "owner") for key in rows.keys(table)]
    return Changes({"meta": {b"fence": u64(max(terms) + FENCE_STEP)}}, deletes)


def _copied(rows: Rows, named: set[bytes], files: Files, into: Files) -> tuple[int, int, int]:
    """Copy the files that the records name: how many, their bytes, and how many values are not there any more."""
    count = size = absent = 0
    for digest in sorted(named):
        if rows.has("blob", digest):
            continue
        data = files.get(digest)
        if data is None:
            if files.path(digest).exists():
                raise StoreDamaged(f"The file {files.path(digest)} does not hold what its name says. Restore it.")
            absent += 1
            continue
        into.put(digest, data)
        count, size = count + 1, size + len(data)
    return count, size, absent


def _wrong_values(rows: Rows) -> list[str]:
    return [
        f"blob: row {digest.hex()} holds a value of another digest"
        for digest, data in rows.scan("blob", b"", b"")
        if sha256(data).digest() != digest
    ]

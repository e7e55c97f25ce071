"""Large values as files of their own, named by their SHA-256: written and synced before the record that names them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from .opening import sync_folder

__all__ = ["Files"]


class Files:
    """
    A folder of values.

    Args:
        folder: Made with the first value.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: bytes) -> Path:
        """Where the value with this digest is, or would be."""
        name = digest.hex()
        return self.folder / name[:2] / name

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep a value; durable when this returns."""
        path = self.path(digest)
        if path.exists():
            os.utime(path)  # it is named anew: the sweep of old files has to leave it
            return
        for folder in (self.folder, path.parent):
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                sync_folder(folder.parent)
        beside = path.with_name(f".{uuid4().hex}")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)

    def get(self, digest: bytes) -> bytes | None:
        """The value with this digest; None where there is none, or where the file holds something else."""
        try:
            data = self.path(digest).read_bytes()
        except OSError:
            return None
        return data if sha256(data).digest() == digest else None

    def remove(self, digest: bytes) -> bool:
        """Remove a value; whether it was there."""
        path = self.path(digest)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        sync_folder(path.parent)
        return True

    def all(self) -> Iterator[tuple[bytes, Path]]:
        """Every file here, by its digest."""
        for path in sorted(self.folder.glob("??/*")):
            if len(path.name) == 64:
                yield bytes.fromhex(path.name), path

"""Large values as files of their own, named by their SHA-256: written and synced before the record that names them."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import uuid4

from .opening import sync_folder

try:
    import fcntl
except ImportError:  # Windows: one process at a time is then up to the user
    fcntl = None

__all__ = ["Files"]

_PATIENCE: Final = 2.0  # seconds


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
        self._make(self.folder)
        with self.shared():
            self._put(self.path(digest), data)

    def _put(self, path: Path, data: bytes) -> None:
        if path.exists():
            os.utime(path)  # it is named anew: the sweep of old files has to leave it
            return
        self._make(path.parent)
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

    @staticmethod
    def _make(folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """No file is swept meanwhile."""
        with self._lock() as lock:
            if lock is not None and fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """No file is put or touched meanwhile; False where somebody does, or makes a backup, for some seconds."""
        with self._lock() as lock:
            until = time.monotonic() + _PATIENCE
            while lock is not None and fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until:
                        yield False
                        return
                    time.sleep(0.005)
                else:
                    break
            yield True

    @contextmanager
    def _lock(self) -> Iterator[int | None]:
        if not self.folder.is_dir():
            yield None
            return
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            yield lock
        finally:
            os.close(lock)

    def sweep(self, named: Container[bytes], before: float) -> tuple[int, int]:
        """
        Remove the files that are not named and were not touched since; the caller is `alone`.

        Returns:
            How many values went, and their bytes.
        """
        sizes = [size for path, size in [*self.loose(named, before)] if self._remove(path)]
        for path in self.folder.glob("??/.*"):  # what somebody was writing when he was killed
            if path.stat().st_mtime < before:
                path.unlink()
        return len(sizes), sum(sizes)

    def loose(self, named: Container[bytes], before: float) -> Iterator[tuple[Path, int]]:
        """The files that are not named and were not touched since, with their sizes in bytes."""
        for digest, path in self.all():
            stat = path.stat()
            if digest not in named and stat.st_mtime < before:
                yield path, stat.st_size

    def get(self, digest: bytes) -> bytes | None:
        """The value with this digest; None where there is none, or where the file holds something else."""
        try:
            data = self.path(digest).read_bytes()
        except OSError:
            return None
        return data if sha256(data).digest() == digest else None

    def remove(self, digest: bytes) -> bool:
        """Remove a value, once no backup is being made that may name it; whether it was there."""
        with self._lock() as lock:
            if lock is not None and fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            return self._remove(self.path(digest))

    @staticmethod
    def _remove(path: Path) -> bool:
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

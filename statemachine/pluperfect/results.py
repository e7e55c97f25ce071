"""
Results under keys: reading and writing what tasks find in the cache.

A `ResultStore` is a view of the log at hand and holds nothing itself. What it reads is what a task with that
``result_storage_key`` or ``cache_key_fn`` would be answered with; what it writes stands in the log as a small task run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from msgspec import Struct

from .authoring.logs import OpenLog, nearest_log
from .authoring.tasks import Task

__all__ = ["ResultRecord", "ResultStore", "get_result_store"]


class ResultRecord(Struct, frozen=True):
    """
    One result under its key.

    Attributes:
        key: The key.
        result: The value, decoded.
        expiration: When it stops answering; None: never.
    """

    key: str
    result: Any
    expiration: datetime | None = None


class ResultStore:
    """
    The results of a log by key.

    Args:
        log: An open log; by default the one that a run begun here would be recorded in.
        result_serializer: How ``write`` encodes: a serializer or its word; None: as the log does.
    """

    def __init__(self, log: OpenLog | None = None, *, result_serializer: Any = None) -> None:
        self._log = log
        self.serializer: Any = result_serializer

    @property
    def log(self) -> OpenLog:
        """The log that is read and written."""
        return self._log or nearest_log()

    def _cell(self, key: str) -> Any:
        log = self.log
        log.log.settle_key(key)
        return log.log.cached(key, log.clock.now())

    def exists(self, key: str) -> bool:
        """Whether a result answers under this key now."""
        return self._cell(key) is not None

    def read(self, key: str) -> ResultRecord:
        """
        The result under this key.

        Raises:
            ValueError: None answers, or not any more.
        """
        cell = self._cell(key)
        if cell is None:
            raise ValueError(f"No result answers under the key {key!r} in {self.log.uri}.")
        until = None if cell.expires is None else datetime.fromtimestamp(cell.expires, UTC)
        return ResultRecord(key, self.log.unpack(self.log.recorded_data(cell.run, cell.seq)), until)

    def write(self, obj: Any, key: str | None = None, expiration: datetime | None = None) -> ResultRecord:
        """
        Store a result under a key, in the place of the one that is there.

        Args:
            obj: The value.
            key: By default one that nobody has.
            expiration: When it stops answering, with a time zone.

        Raises:
            ValueError: The expiration is past.
        """
        key = key or uuid4().hex
        after = None if expiration is None else expiration.timestamp() - self.log.clock.now()

        def name(_context: Any, _arguments: Any) -> str:
            return key

        keep: Task[[], Any] = Task(
            lambda: obj,
            name="write-result",
            cache_key_fn=name,
            cache_expiration=after,
            refresh_cache=True,
            persist_result=True,
            result_serializer=self.serializer,
            cache_result_in_memory=True,
        )
        if self._log is None:
            keep()
        else:
            with self._log:
                keep()
        return ResultRecord(key, obj, expiration)

    async def aexists(self, key: str) -> bool:
        """As `exists`, for coroutines."""
        return self.exists(key)

    async def aread(self, key: str) -> ResultRecord:
        """As `read`, for coroutines."""
        return self.read(key)

    async def awrite(self, obj: Any, key: str | None = None, expiration: datetime | None = None) -> ResultRecord:
        """As `write`, for coroutines."""
        return self.write(obj, key, expiration)


def get_result_store() -> ResultStore:
    """The results of the log at hand."""
    return ResultStore()

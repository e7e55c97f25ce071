"""
DBOS on its SQLite system database: steps of one workflow; ``submit`` starts child workflows, ``map`` gathers async steps.

``asis`` is the database as DBOS opens it (a rollback journal), ``wal`` a write-ahead log; both synced at each commit.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# This file is named after the library: it must be found first.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

if sqlite3.sqlite_version_info < (3, 42):  # DBOS uses what this one does not have yet, and does not say so
    import pysqlite3
    import pysqlite3.dbapi2

    sys.modules["sqlite3"], sys.modules["sqlite3.dbapi2"] = pysqlite3, pysqlite3.dbapi2

from dbos import DBOS, SetWorkflowID

sys.path.append(str(Path(__file__).resolve().parent))

import measuring

KEYS = 100
_failed: set[int] = set()


def open_in(folder: str, mode: str) -> None:
    url = f"sqlite:///{folder}/dbos.sqlite"
    config: dict[str, Any] = {
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
        "application_version": "1",
    }
    if mode == "wal":
        import sqlalchemy

        engine = sqlalchemy.create_engine(url, connect_args={"timeout": 30})

        @sqlalchemy.event.listens_for(engine, "connect")
        def prepared(connection: Any, _: Any) -> None:
            connection.isolation_level = "IMMEDIATE"
            for line in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
                connection.execute(f"PRAGMA {line}")

        config["system_database_engine"] = engine
    DBOS(config=config)


@DBOS.step()
def noop(i: int) -> int:
    return i


@DBOS.step()
async def later(i: int) -> int:
    return i


@DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0)
def flaky(i: int) -> int:
    if i not in _failed:
        _failed.add(i)
        raise ValueError(i)
    return i


@DBOS.workflow()
def one(i: int) -> int:
    return i


@DBOS.workflow()
def sequential(n: int) -> None:
    for i in range(n):
        noop(i)


@DBOS.workflow()
def retry(n: int) -> None:
    for i in range(n):
        flaky(i)


@DBOS.workflow()
def submit(n: int) -> int:
    return sum(handle.get_result() for handle in [DBOS.start_workflow(one, i) for i in range(n)])


@DBOS.workflow()
async def gather(n: int) -> int:
    return sum(await asyncio.gather(*[later(i) for i in range(n)]))


def work(flow: Any, mode: str) -> measuring.Ready:
    def ready(n: int, folder: str) -> Callable[[], None]:
        open_in(folder, mode)
        DBOS.launch()

        def lead(count: int) -> None:
            if flow is gather:
                asyncio.run(flow(count))
            else:
                flow(count)

        lead(2)
        return lambda: lead(n)

    return ready


def cached(mode: str) -> measuring.Ready:
    def ready(n: int, folder: str) -> Callable[[], None]:
        open_in(folder, mode)
        DBOS.launch()

        def lead(count: int) -> None:
            for i in range(count):
                with SetWorkflowID(f"k{i % KEYS}"):
                    one(i % KEYS)

        lead(KEYS)
        return lambda: lead(n)

    return ready


def history(n: int, folder: str) -> Callable[[], None]:
    open_in(folder, "wal")
    DBOS.launch()
    with SetWorkflowID("h"):
        sequential(n)

    def act() -> None:
        DBOS.list_workflows(workflow_ids=["h"])
        assert len(DBOS.list_workflow_steps("h")) == n

    return act


def start(_: int, folder: str) -> Callable[[], None]:
    def act() -> None:
        open_in(folder, "asis")
        DBOS.launch()
        sequential(1)

    return act


FLOWS = {
    "sequential": sequential,
    "loop": sequential,
    "submit": submit,
    "map": gather,
    "gather": gather,
    "retry": retry,
}
WORKS: dict[str, measuring.Ready] = {
    **{f"{name}.{mode}": work(flow, mode) for name, flow in FLOWS.items() for mode in ("asis", "wal")},
    **{f"cached.{mode}": cached(mode) for mode in ("asis", "wal")},
    "history": history,
    "start": start,
}

if __name__ == "__main__":
    measuring.main(WORKS, importlib.metadata.version("dbos"))

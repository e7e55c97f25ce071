"""What one writes by hand: a table of events in SQLite (WAL). ``effect`` syncs each commit, ``lazy`` leaves that to the system."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import measuring


class Log:
    def __init__(self, folder: str, synchronous: str) -> None:
        self.base = sqlite3.connect(f"{folder}/events.sqlite", isolation_level=None, check_same_thread=False)
        self.base.execute("PRAGMA journal_mode=WAL")
        self.base.execute(f"PRAGMA synchronous={synchronous}")
        self.base.execute(
            "CREATE TABLE event(seq INTEGER PRIMARY KEY, run TEXT, task INT, kind TEXT, at INT, data BLOB)"
        )
        self.lock = threading.Lock()

    def note(self, i: int, kind: str, data: object) -> None:
        with self.lock:
            row = ("run", i, kind, time.time_ns(), json.dumps(data))
            self.base.execute("INSERT INTO event(run, task, kind, at, data) VALUES(?, ?, ?, ?, ?)", row)

    def task(self, i: int) -> int:
        self.note(i, "begun", [i])
        self.note(i, "ended", i)
        return i


def work(synchronous: str, workers: int = 0) -> measuring.Ready:
    def ready(n: int, folder: str) -> Callable[[], None]:
        log = Log(folder, synchronous)

        def act() -> None:
            if workers:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(log.task, range(n)))
            else:
                for i in range(n):
                    log.task(i)

        return act

    return ready


def start(_: int, folder: str) -> Callable[[], int]:
    return lambda: Log(folder, "FULL").task(1)


WORKS: dict[str, measuring.Ready] = {
    "sequential.effect": work("FULL"),
    "sequential.lazy": work("NORMAL"),
    "submit.effect": work("FULL", 8),
    "submit.lazy": work("NORMAL", 8),
    "map.effect": work("FULL", 8),
    "map.lazy": work("NORMAL", 8),
    "start": start,
}

if __name__ == "__main__":
    measuring.main(WORKS, f"SQLite {sqlite3.sqlite_version}")

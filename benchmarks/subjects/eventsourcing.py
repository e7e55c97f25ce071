"""eventsourcing, an aggregate of its own for each flow run, in SQLite (WAL, synced): two events and one commit for a task."""

from __future__ import annotations

import importlib.metadata
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# This file is named after the library: it must be found first.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

sys.path.append(str(Path(__file__).resolve().parent))

import measuring


class FlowRun(Aggregate):
    @event("Born")
    def __init__(self, name: str) -> None:
        self.name = name

    @event("Begun")
    def begun(self, task: int) -> None: ...

    @event("Failed")
    def failed(self, task: int, error: str) -> None: ...

    @event("Ended")
    def ended(self, task: int, result: int) -> None: ...


class Log:
    def __init__(self, folder: str) -> None:
        base = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": f"{folder}/events.sqlite"}
        self.app = Application(env=base)
        self.run = FlowRun("flow")
        self.app.save(self.run)
        self.lock = threading.Lock()

    def task(self, i: int) -> int:
        with self.lock:
            self.run.begun(i)
            self.run.ended(i, i)
            self.app.save(self.run)
        return i

    def flaky(self, i: int) -> int:
        self.run.begun(i)
        self.run.failed(i, "ValueError")
        self.app.save(self.run)
        return self.task(i)


def work(task: Callable[[Log, int], int], workers: int = 0) -> Callable[[int, str], Callable[[], None]]:
    def ready(n: int, folder: str) -> Callable[[], None]:
        log = Log(folder)

        def act() -> None:
            if workers:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(lambda i: task(log, i), range(n)))
            else:
                for i in range(n):
                    task(log, i)

        return act

    return ready


def history(n: int, folder: str) -> Callable[[], None]:
    log = Log(folder)
    for i in range(n):
        log.run.begun(i)
        log.run.ended(i, i)
    log.app.save(log.run)

    def act() -> None:
        assert len(list(log.app.events.get(log.run.id))) == 2 * n + 1

    return act


def start(_: int, folder: str) -> Callable[[], int]:
    return lambda: Log(folder).task(1)


WORKS = {
    "sequential.effect": work(Log.task),
    "submit.effect": work(Log.task, 8),
    "map.effect": work(Log.task, 8),
    "loop.effect": work(Log.task),
    "retry.effect": work(Log.flaky),
    "history": history,
    "start": start,
}

if __name__ == "__main__":
    measuring.main(WORKS, importlib.metadata.version("eventsourcing"))

"""
Prefect 3 with the server that it starts by itself. A run is over for it before its server has recorded it: that is not waited for.

``asis`` is as installed, ``fast`` with everything switched off that recording does not need.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# This file is named after the library: it must be found first.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

_SERVICES = ("TRIGGERS", "EVENT_PERSISTER", "LATE_RUNS", "SCHEDULER", "FOREMAN", "PAUSE_EXPIRATIONS")
_FAST = {
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_UI_ENABLED": "false",
    **{f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in _SERVICES},
}
_work, _place = sys.argv[1:3]
os.environ |= {
    "PREFECT_HOME": f"{_place}/home" if _work == "start" else tempfile.mkdtemp(),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}
if _work.endswith(".fast"):
    os.environ |= _FAST
sys.stderr = Path(os.devnull).open("w")  # the lines of the console are formatted and written, to nowhere

from prefect import flow, task
from prefect.cache_policies import INPUTS

sys.path.append(str(Path(__file__).resolve().parent))

import measuring

KEYS = 100
_failed: set[int] = set()


@task
def noop(i: int) -> int:
    return i


@task(retries=1, retry_delay_seconds=0)
def flaky(i: int) -> int:
    if i not in _failed:
        _failed.add(i)
        raise ValueError(i)
    return i


@task(cache_policy=INPUTS, persist_result=True)
def known(i: int) -> int:
    return i


@flow
def sequential(n: int) -> None:
    for i in range(n):
        noop(i)


@flow
def submit(n: int) -> int:
    return sum(future.result() for future in [noop.submit(i) for i in range(n)])


@flow
def mapped(n: int) -> int:
    return sum(noop.map(range(n)).result())


@flow
def retry(n: int) -> None:
    for i in range(n):
        flaky(i)


@flow
def cached(n: int) -> None:
    for i in range(n):
        known(i % KEYS)


def work(led: Any) -> measuring.Ready:
    def ready(n: int, folder: str) -> Callable[[], Any]:
        led(KEYS if led is cached else 2)
        _failed.clear()
        return lambda: led(n)

    return ready


FLOWS = {
    "sequential": sequential,
    "loop": sequential,
    "submit": submit,
    "map": mapped,
    "retry": retry,
    "cached": cached,
}
WORKS: dict[str, measuring.Ready] = {
    **{f"{name}.{mode}": work(led) for name, led in FLOWS.items() for mode in ("asis", "fast")},
    "start": lambda _, folder: lambda: sequential(1),
}

if __name__ == "__main__":
    measuring.main(WORKS, importlib.metadata.version("prefect"))

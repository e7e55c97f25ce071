"""
How long it takes to verify a log, to prove a run in it, and to export one.

    python benchmarks/verify.py [RECORDS]    one million where left out
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pluperfect import exports
from pluperfect.states import PLAIN, Completed, Packed, Running
from pluperfect_store.conformance import born, new_id, part
from pluperfect_store.lmdb import LmdbLog

CALLS = 83  # runs of a tree, with 3 records each


def fill(log: LmdbLog, records: int) -> bytes:
    """Append trees until there are so many records. Returns the last root."""
    root = b""
    while log.position() < records:
        for _ in range(20):
            root = new_id()
            runs = [root, *(root[:6] + new_id()[6:] for _ in range(CALLS - 1))]
            value = Packed(PLAIN, b"\xc4\x40" + new_id() * 4)
            parts = [
                part(run, root, 0, born(run, None if run == root else root), Running(), Completed(data=value))
                for run in runs
            ]
            ticket = log.append(parts, epoch=1)
        ticket.wait()
    return root


def timed(what: str, seconds: float, count: int = 1) -> None:
    """Print one line."""
    print(f"{what:<28} {seconds:8.2f} s{f'  {seconds / count * 1e6:8.1f} us each' if count > 1 else ''}", flush=True)


def held() -> float:
    """The memory of this process in MiB, without the pages of the file that it maps; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0.0)


@contextmanager
def watched() -> Iterator[None]:
    """Print the memory that was held at most meanwhile."""
    most, done = [held()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most.append(max(most.pop(), held()))

    thread = threading.Thread(target=watch)
    before = held()
    thread.start()
    yield
    done.set()
    thread.join()
    print(f"{'memory before, and at most':<28} {before:8.0f} MiB {most[0]:8.0f} MiB")


def main() -> None:
    """Make a log in a temporary folder and measure."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        log = LmdbLog(Path(folder) / "runs")
        began = time.perf_counter()
        root = fill(log, records)
        count = log.position()
        timed(f"append {count} records", time.perf_counter() - began, count)
        with watched():
            began = time.perf_counter()
            report = log.verify()
            timed(f"verify {report.records} records", time.perf_counter() - began, report.records)
        assert report.sound, report.findings[:3]
        began = time.perf_counter()
        assert log.prove(root).holds
        timed("prove one run", time.perf_counter() - began)
        began = time.perf_counter()
        assert log.verify(root).sound
        timed("verify one run", time.perf_counter() - began)
        began = time.perf_counter()
        exports.write(log, Path(folder) / "file", [root])
        timed(f"export a tree of {CALLS} runs", time.perf_counter() - began)
        log.close()


if __name__ == "__main__":
    main()

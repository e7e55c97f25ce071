"""
What all subjects of the benchmark share: a work is made ready, then measured, then told in one line of JSON.

Only the standard library is used: each subject runs in an environment of its own.

A time has the waits for a CPU of the measured thread taken out, as the kernel counts them (``schedstat``): on a shared machine
they are the neighbours' work. What is waited for in other threads and processes stays in.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Ready = Callable[[int, str], Callable[[], Any]]
"""Makes a work of so many items ready in a folder, and gives the function to measure."""


def without_cpu() -> float:
    """Seconds for which this thread was ready and had no CPU; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _tree() -> list[int]:
    """This process and all that came of it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text()
                below.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        found.append(todo.pop())
        todo += below.get(found[-1], [])
    return found


def _peak() -> float:
    """The greatest resident size so far, of all processes together, in MB."""
    total = 0
    for pid in _tree():
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    total += int(line.split()[1])
    return total / 1024


def _on_disk(folder: str) -> int:
    """Bytes that the files in a folder take."""
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += os.lstat(f"{root}/{file}").st_blocks * 512
    return total


def main(works: dict[str, Ready], version: str) -> None:
    """Carry out ``SUBJECT.py WORK N`` and print what was measured, or ``SUBJECT.py start FOLDER``: the first task of a process."""
    work, count = sys.argv[1:3]
    if work == "start":
        works[work](1, count)()
        print(time.time(), flush=True)
        _leave()
    # Not above: what a process needs to begin is measured too, and is to be the subject's.
    import json
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        act = works[work](int(count), folder)
        before, at_first = _on_disk(folder), _peak()
        gc.collect()
        waited, cpu, begun = without_cpu(), time.process_time(), time.perf_counter()
        found = act()
        took = time.perf_counter() - begun
        waited, cpu = without_cpu() - waited, time.process_time() - cpu
        told: dict[str, Any] = {"version": version, "work": work, "n": int(count)}
        told |= {"us": (took - waited) / int(count) * 1e6, "cpu_us": cpu / int(count) * 1e6, "waited": waited / took}
        told |= {"peak_mb": _peak(), "idle_mb": at_first, "bytes": (_on_disk(folder) - before) / int(count)}
        if isinstance(found, dict):
            told |= found
        print(json.dumps(told), flush=True)
    _leave()


def _leave() -> None:
    """End, and what was started with it: some subjects leave servers and threads behind."""
    for pid in _tree()[1:]:
        with suppress(OSError):
            os.kill(pid, 15)
    sys.stdout.flush()
    os._exit(0)

"""
The demonstration: a loop, retries, a cache, a timeout, a killed process that goes on where it was.

Everything is recorded in a store in a fresh folder, and shown at the end. `make demo` runs this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path

from fibonacci import fibonacci
from repo_info import get_repo_info
from service import Service

import pluperfect
from pluperfect import flow, task

HERE = Path(__file__).parent


@task(timeout_seconds=0.3)
def read_slow_page(url: str) -> bytes:
    with urllib.request.urlopen(f"{url}/slow", timeout=10) as response:
        return response.read()


@flow
def impatient(url: str) -> bytes:
    return read_slow_page(url)


def title(text: str) -> None:
    print(f"\n=== {text}")


def loops(service: Service) -> None:
    title("(a) A loop whose iterations are retried alone")
    for limit, expected in ((100, 89), (1000, 987)):
        before = service.asked.total()
        found = fibonacci(limit, service.url, f"up to {limit}".replace(" ", "-"))
        print(f"The largest Fibonacci number up to {limit} is {found}; {service.asked.total() - before} requests.")
        assert found == expected


def cached(service: Service) -> None:
    title("(b) Pages fetched side by side, and the second time from the cache")
    for time in ("first", "second"):
        before = service.asked.total()
        get_repo_info(f"{service.url}/repos/demo")
        print(f"The {time} time took {service.asked.total() - before} requests.")
    assert service.asked.total() == before


def times_out(service: Service) -> None:
    title("(c) A task that runs into its timeout")
    state = impatient(service.url, return_state=True)
    print(f"The flow ended as {state}")


def killed(service: Service, store: str) -> None:
    title("(d) The same loop, killed in the middle and resumed")
    script = [sys.executable, str(HERE / "fibonacci.py"), service.url, "killed", "1000", store]
    first = subprocess.Popen(script)
    assert service.reached.wait(30), "the loop never came to its ninth iteration"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    print(f"Killed with {signal.SIGKILL.name} while it waited for number 9.")
    with pluperfect.open(store) as log:
        run = next(run for run in log.runs(name="fibonacci", limit=1))
        print(f"On record: {run!r}, its task {run.children[0]!r}")
        assert not run.state.is_final()
    command = [sys.executable, "-m", "pluperfect", "--store", store, "resume", run.id]
    print(f"$ pluperfect --store ... resume {run.id}")
    subprocess.run(command, check=True)
    with pluperfect.open(store) as log:
        assert log.run(run.id).result() == 987
    asked = {int(what.split("nth=")[1]): n for what, n in service.asked.items() if "client=killed" in what}
    print("How often the service was asked for each number:")
    print("  " + "  ".join(f"{n}:{times}" for n, times in sorted(asked.items())))
    # Every fourth fails once; the ninth was under way when the process died. No other was asked for twice.
    assert asked == {n: 2 if n % 4 == 0 or n == 9 else 1 for n in asked}, asked
    print("Numbers 1 to 8 were not asked for again after the kill.")


def histories(store: str) -> None:
    title("What is on record")
    seen: Counter[str] = Counter()
    with pluperfect.open(store) as log:
        for run in reversed(log.runs(roots=True)):
            print(f"\n{run!r}")
            for transition in run.history:
                print(transition)
            for child in run.children:
                print(f"    {child!r}")
                for transition in child.history:
                    print(f"    {transition}")
        for run in log.runs():
            seen.update(transition.to.kind for transition in run.transitions)
        differences = log.compare()
        newest = log.runs(name="fibonacci")[0]
    title("All eight states")
    print("  ".join(f"{kind} {count}" for kind, count in sorted(seen.items())))
    assert len(seen) == 8, seen
    assert not differences, differences
    print("Every view agrees with the fold of the log.")
    title("Look further")
    path = os.path.relpath(store.removeprefix("lmdb:"))
    command = Path(sys.executable).parent / "pluperfect"
    tool = os.path.relpath(command) if command.exists() else "pluperfect"
    for words in ("runs", f"show {newest.id}", f"why {newest.id}", f"show {newest.id} --json", "rebuild --check"):
        print(f"  {tool} --store {path} {words}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="pluperfect-demo-"))
    store = f"lmdb:{folder / 'runs'}"
    with Service() as service:
        with pluperfect.open(store):
            loops(service)
            cached(service)
            times_out(service)
        killed(service, store)
    histories(store)


if __name__ == "__main__":
    main()

"""kill -9 at any moment: nothing acknowledged is missing, views equal the fold, and the run ends right."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import pluperfect

PROGRAM = """
import os, sys
import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.cache_policies import INPUTS
from pluperfect.runtime import task_run

tries = set()

@task(retries=2)
def fib(limit):
    n, a, b = task_run.loop_result or (1, 0, 1)
    if n % 4 == 0 and task_run.run_count == 1:
        raise ConnectionError
    if b > limit:
        return a
    acknowledge("iteration", limit, n)
    raise LOOP(result=[n + 1, b, a + b])

@task(cache_policy=INPUTS)
def square(x):
    return x * x

@task
def note(x):
    return x

@flow
def job():
    found = [fib(limit) for limit in (100, 1000)]
    squares = square.map(range(20)).result()
    for x in range(10):
        note(x)
        acknowledge("note", x)
    return found + [sum(squares)] + [square(3)]

def acknowledge(*words):
    os.write(3, (" ".join(map(str, words)) + "\\n").encode())

if __name__ == "__main__":
    with pluperfect.open(sys.argv[1]) as log:
        result = job.with_options(idempotency_key=sys.argv[2])()
        acknowledge("result", result)
"""

START = """
import os, runpy, sys
os.dup2({acks}, 3)
sys.argv = sys.argv[1:]
import pluperfect
os.close({begun})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_once(script, store, key, acks, delay=None):
    """
    Start the program and kill it so many seconds after its imports (None: let it end).

    Returns how long it ran of its own accord; None where it was killed.
    """
    with open(acks, "ab") as file:
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", START.format(acks=file.fileno(), begun=write), str(script), store, key],
            pass_fds=[file.fileno(), write],
        )
        os.close(write)
        os.read(read, 1)  # until the other end is closed
        os.close(read)
        began = time.monotonic()
        try:
            process.wait(60 if delay is None else delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert delay is not None, "the run did not end"
            return None
    assert process.returncode == 0
    return time.monotonic() - began


def kill_often(tmp_path, seed, kills):
    chance = random.Random(seed)
    script, store, acks = tmp_path / "job.py", f"lmdb:{tmp_path / 'runs'}", tmp_path / "acks"
    script.write_text(PROGRAM)
    killed, finished = 0, 1
    whole = run_once(script, store, "key-0", acks)
    expected = [89, 987, 2470, 9]
    while killed < kills:
        # Drawn from the time that this machine takes for a whole job: on a quick one it would else mostly end before.
        if run_once(script, store, f"key-{finished}", acks, chance.uniform(0, 0.8 * whole)):
            finished += 1
        else:
            killed += 1
        with pluperfect.open(store, entry_points=False) as log:
            assert log.compare() == []
            for run in log.runs(roots=True):
                if run.state.is_final():
                    assert run.result() == expected
    run_once(script, store, f"key-{finished}", acks)
    with pluperfect.open(store, entry_points=False) as log:
        assert log.compare() == []
        for run in log.runs(roots=True):
            assert run.result() == expected
            check_acknowledged(run)
    lines = acks.read_text().splitlines()
    assert sum(line.startswith("result") for line in lines) >= finished
    print(f"kills: seed {seed}, {killed} kills, {finished + 1} runs ended right")


def check_acknowledged(run):
    """Every task run ended, its history without a gap, no iteration recorded twice."""
    for child in run.children:
        assert child.state.is_completed(), child
        assert [entry.seq for entry in child.history] == list(range(1, len(child.history) + 1))
        counts = [t.to.count for t in child.transitions if t.to.kind == "Looped"]
        assert counts == list(range(1, len(counts) + 1))


def test_a_job_killed_at_random_moments_ends_right(tmp_path):
    kill_often(tmp_path, seed=1, kills=8)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_job_killed_sixty_times_ends_right(tmp_path):
    kill_often(tmp_path, seed=int(os.environ.get("PLUPERFECT_SEED", "2")), kills=60)

"""Many tasks, items and iterations, in memory that does not grow with what is finished."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROLOGUE = """
import sys, threading
import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.runtime import task_run

def own(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) / 1024

def peak_mb():
    # Not `resource`: what it tells was counted before this program began too, when it was a copy of who has started it.
    return own("VmHWM")

def current_mb():
    # Pages of the mapped file are the kernel's to keep or drop; what counts is this process's own memory.
    return own("RssAnon")
"""

SEQUENTIAL = """
@task
def same(x):
    return x

@flow(durability="lazy")
def many(n):
    same(0)
    for i in range(n):
        if i == n // 10:
            begun = current_mb()
        same(i)
    return current_mb() - begun

with pluperfect.open(sys.argv[1]) as log:
    grown = many(int(sys.argv[2]))
    assert len(log.runs(name="same")) == int(sys.argv[2]) + 1
    print(grown)
"""

MAPPED = """
@task
def same(x):
    return x

@flow(durability="lazy")
def many(n):
    assert same.map(range(n)).result() == list(range(n))

with pluperfect.open(sys.argv[1]) as log:
    many(int(sys.argv[2]))
    print(peak_mb())
"""

LOOPED = """
@task
def counts(n):
    if task_run.loop_count == n // 10:
        marks.append(current_mb())
    if task_run.loop_count == n:
        marks.append(current_mb())
        return n
    raise LOOP(result=task_run.loop_count)

@flow(durability="lazy")
def many(n):
    return counts(n)

marks = []
with pluperfect.open(sys.argv[1]) as log:
    assert many(int(sys.argv[2])) == int(sys.argv[2])
    print(marks[1] - marks[0])
"""


def megabytes(program, tmp_path, n):
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program, str(tmp_path / "runs"), str(n)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_ten_thousand_sequential_tasks_take_no_memory_that_stays(tmp_path):
    assert megabytes(SEQUENTIAL, tmp_path, 10_000) < 12


def test_a_map_over_ten_thousand_items_ends(tmp_path):
    assert megabytes(MAPPED, tmp_path, 10_000) < 400


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_loop_of_a_hundred_thousand_iterations_runs_in_constant_memory(tmp_path):
    assert megabytes(LOOPED, tmp_path, 100_000) < 12

"""Runs that go on: after a pause, after a killed process, under a key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, case, task
from pluperfect.classic.engine import signals
from pluperfect.classic.executors import LocalDaskExecutor, LocalExecutor
from pluperfect.errors import UnknownRun

EXECUTORS = [LocalExecutor(), LocalDaskExecutor(num_workers=2)]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_pause_holds_up_what_comes_after_it_alone(log, executor):
    calls = []

    @task
    def notes(name, _=None):
        calls.append(name)
        return name

    @task
    def pauses():
        prefect.utilities.tasks.pause_task()
        return "resumed"

    with Flow("pausing", executor=executor) as flow:
        first = pauses()
        after = notes("after", first)
        beside = notes("beside", notes("first"))
    paused = flow.run()
    assert [type(paused.result[t]).__name__ for t in (first, after, beside)] == ["Paused", "Pending", "Success"]

    done = flow.run(resume=paused.run_id)
    assert (done.is_successful(), done.result[first].result, done.result[beside].result) == (True, "resumed", "beside")
    assert calls == ["first", "beside", "after"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_child_of_a_map_pauses_and_the_others_end(log, executor):
    calls = []

    @task
    def pauses(x):
        if x == 2:
            prefect.utilities.tasks.pause_task()
        calls.append(x)
        return x * 10

    with Flow("pausing", executor=executor) as flow:
        found = pauses.map([1, 2, 3])
    paused = flow.run()
    assert (paused.result[found].is_paused(), sorted(calls)) == (True, [1, 3])

    assert flow.run(resume=paused.run_id).result[found].result == [10, 20, 30]
    assert sorted(calls) == [1, 2, 3]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_run_under_a_key_gives_again_what_every_task_came_to(log, executor):
    calls = []

    @task
    def inverse(x):
        calls.append(x)
        return 1 / x

    @task
    def skips():
        raise signals.SKIP("no", result=None)

    with Flow("keyed", executor=executor) as flow:
        x = Parameter("x")
        many, skipped = inverse.map(x), skips()
        with case(x, [5]):
            branch = inverse(1)
    first = flow.run(x=[1, 0], idempotency_key="one")
    again = flow.run(x=[1, 0], idempotency_key="one")
    for state in (first, again):
        assert (state.is_failed(), state.result[many].is_failed()) == (True, True)
        assert [type(child).__name__ for child in state.result[many].map_states] == ["Success", "Failed"]
        assert [state.result[one].is_skipped() for one in (skipped, branch)] == [True, True]
        assert state.result[x].result == [1, 0]
    assert sorted(calls) == [0, 1]
    assert first.run_id == again.run_id


def test_a_run_that_nobody_knows_cannot_be_resumed(log):
    with Flow("unknown") as flow:
        Parameter("x")()
    with pytest.raises(UnknownRun):
        flow.run(resume="0" * 32)


def test_the_run_of_another_flow_is_not_resumed(log):
    with Flow("one") as one:
        task(prefect.utilities.tasks.pause_task, name="pauses")()
    with Flow("two") as two:
        task(lambda: 1, name="other")()
    paused = one.run()
    with pytest.raises(ValueError, match="is a run of 'one', not of 'two'"):
        two.run(resume=paused.run_id)
    assert log.runs(name="other") == []


KILLED = """
import os, sys
import pluperfect
import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, case, task
from pluperfect.classic.engine.signals import LOOP
from pluperfect.classic.executors import LocalDaskExecutor

@task
def loops(x):
    count, payload = prefect.context.task_loop_count, prefect.context.get("task_loop_result", 0)
    with open(f"lines-{x}", "a") as file:
        file.write(f"{count} {payload}" + chr(10))
    if (x, count) == (2, 2) and not os.path.exists("second"):
        open("second", "w").close()
        os.kill(os.getpid(), 9)
    if count == 3:
        return payload
    raise LOOP(result=payload + x)

@task
def total(xs, extra):
    return sum(xs) + extra

with Flow("killed") as flow:
    with case(Parameter("wanted"), True):
        extra = loops(0)
    found = total(loops.map([1, 2, 3]), extra)

if __name__ == "__main__":
    with pluperfect.open("store"):
        parallel = LocalDaskExecutor(num_workers=1) if sys.argv[1] == "threads" else None
        state = flow.run(wanted=True, idempotency_key="one", executor=parallel)
        print(state.result[found].result)
"""


@pytest.mark.parametrize("executor", ["in order", "threads"])
def test_a_map_in_a_killed_process_goes_on_in_the_child_and_the_iteration_where_it_was(tmp_path, executor):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    run = lambda: subprocess.run(
        [sys.executable, str(script), executor],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert run().returncode == -signal.SIGKILL
    again = run()
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == "12"
    lines = {x: (tmp_path / f"lines-{x}").read_text().splitlines() for x in range(4)}
    assert lines == {
        0: ["1 0", "2 0", "3 0"],
        1: ["1 0", "2 1", "3 2"],
        2: ["1 0", "2 2", "2 2", "3 4"],
        3: ["1 0", "2 3", "3 6"],
    }

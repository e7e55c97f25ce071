"""One body called again: with the inputs, payload and attempt of then, and nothing recorded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import PluperfectError, SideEffect
from pluperfect.places import find_place
from pluperfect.runtime import flow_run, task_run

done = []
now = {"factor": 2}


@pytest.fixture(autouse=True)
def _nothing_was_done():
    del done[:]
    now["factor"] = 2


@task(retries=2)
def shaky(n, *more, key=None, **rest):
    done.append(("shaky", n, more, key, rest, task_run.run_count, flow_run.name))
    if task_run.run_count < 3:
        raise ConnectionError(f"attempt {task_run.run_count}")
    return n * now["factor"]


@task
def count(up_to):
    done.append(("count", task_run.loop_count, task_run.loop_result))
    if task_run.loop_count < up_to:
        raise LOOP("on", result=(task_run.loop_result or 0) + now["factor"])
    return task_run.loop_result


@task
def inner(n):
    done.append(("inner", n))
    return n + 1


@task
def outer(n):
    return inner(n) * 10


@task
async def later(n):
    done.append(("later", n))
    return n


@task
def items(n):
    yield from range(n)


@task(cache_policy=INPUTS)
def kept(n):
    return n


@task
def touch(path):
    with open(path, "w") as file:
        file.write("x")
    return 1


@task
def takes(items, big):
    return len(items) + len(big)


@flow(flow_run_name="whole")
def whole():
    shaky(4, 5, 6, key="k", other=1)
    count(3)
    first = later.submit(1)
    outer.submit(first)
    list(items(2))
    kept(1)
    kept(1)


@pytest.fixture
def run(log):
    whole()
    del done[:]
    return log.run("whole")


def call(run, place):
    return pluperfect.histories.RecordedRun(run.histories, find_place(run.at(len(run.events)), place).id)


def test_the_last_attempt_gets_what_it_got_then_and_nothing_is_recorded(log, run):
    before = log.log.position()
    again = call(run, "shaky").replay_task()

    assert again.same
    assert again.now.result() == 8
    assert (again.attempt, again.inputs) == (
        3,
        {"n": 4, "more": (5, 6), "key": "k", "rest": {"other": 1}},
    ) or again.inputs["more"] == [5, 6]
    assert done == [("shaky", 4, (5, 6), "k", {"other": 1}, 3, "whole")]
    log.flush()
    assert log.log.position() == before


def test_any_attempt_is_called_again_and_compared_with_what_was_asked_for_then(run):
    again = call(run, "shaky").replay_task(attempt=1)

    assert again.same
    assert again.recorded.kind == again.now.kind == "Failed"
    assert again.now.error.message == "attempt 1"


def test_a_changed_body_gives_something_else(run):
    now["factor"] = 3
    again = call(run, "shaky").replay_task()
    assert not again.same
    assert (again.recorded.result(), again.now.result()) == (8, 12)
    loop = call(run, "count").replay_task(iteration=1)
    assert not loop.same


def test_each_iteration_gets_the_payload_of_the_one_before(run):
    for iteration, payload in [(1, None), (2, 2), (3, 4)]:
        del done[:]
        again = call(run, "count").replay_task(iteration=iteration)
        assert done == [("count", iteration, payload)]
        assert again.same


def test_what_a_body_calls_is_answered_from_the_record_and_a_future_by_its_result(run):
    again = call(run, "outer").replay_task()
    assert (again.inputs, again.now.result(), done) == ({"n": 1}, 20, [])
    assert again.same


def test_async_tasks_and_generators_are_called_again(run):
    assert call(run, "later").replay_task().same
    assert call(run, "items").replay_task().now.is_completed()


def test_other_inputs_can_be_handed_in(run):
    again = call(run, "shaky").replay_task(inputs={"n": 100})
    assert (again.now.result(), again.same) == (200, False)
    with pytest.raises(PluperfectError, match="has no input m; it has n, more, key, rest"):
        call(run, "shaky").replay_task(inputs={"m": 1})


def test_a_body_that_acts_outside_is_stopped_unless_it_may(log, tmp_path):
    @flow
    def acts():
        touch(str(tmp_path / "file"))

    acts()
    (tmp_path / "file").unlink()
    run = log.runs(name="touch")[0]
    with pytest.raises(SideEffect, match=r"test_retaking.py.*--no-strict"):
        run.replay_task(task=touch)
    assert not (tmp_path / "file").exists()
    assert run.replay_task(task=touch, strict=False).same
    assert (tmp_path / "file").exists()


def test_what_cannot_be_called_again_is_said(log, run):
    with pytest.raises(LookupError, match="has no attempt 9; it had attempt 1, attempt 2, attempt 3"):
        call(run, "shaky").replay_task(attempt=9)
    with pytest.raises(LookupError, match="has no attempt 2 of iteration 3; it had attempt 1 of iteration 1"):
        call(run, "count").replay_task(attempt=2, iteration=3)
    with pytest.raises(LookupError, match=r"was never called, from run .*: replay that one"):
        call(run, "kept:1").replay_task()
    with pytest.raises(PluperfectError, match="is a flow's: replay it with"):
        run.replay_task()
    with pytest.raises(TypeError, match="task is the task"):
        call(run, "inner" if False else "shaky").replay_task(task=len)

    @flow
    def unrecorded():
        takes([kept.submit(1)], "x" * 100_000)

    unrecorded()
    odd = log.runs(name="takes")[0]
    with pytest.raises(PluperfectError, match="its input 'items' is not there"):
        odd.replay_task(task=takes)
    with pytest.raises(PluperfectError, match="its input 'big' is not there"):
        odd.replay_task(task=takes, inputs={"items": [1]})
    assert odd.replay_task(task=takes, inputs={"items": [1], "big": "ab"}).now.result() == 3


PROGRAM = """
import pluperfect, sys
from pluperfect import flow, task

@task
def divide(a, b):
    share = a / b
    return share

@task
async def later(a):
    double = a * 2
    return double

@flow
def sharing():
    divide(1, 0, return_state=True)

@flow
async def waiting():
    return await later(4)

if __name__ == "__main__":
    import asyncio
    with pluperfect.open(sys.argv[1]) as log:
        if sys.argv[2] == "run":
            sharing(return_state=True)
            asyncio.run(waiting())
        else:
            print(log.runs(name=sys.argv[2])[0].replay_task(debug=True).same)
"""


def test_the_debugger_stops_at_the_first_line_of_the_body_and_where_it_raises(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def debug(what, *lines):
        return subprocess.run(
            [sys.executable, "program.py", "runs", what],
            cwd=tmp_path,
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            env={**os.environ, "PLUPERFECT_LOGGING_LEVEL": "ERROR"},
        )

    assert debug("run").returncode == 0
    told = debug("divide", "p 'a is', a", "c", "p 'b is', b", "q")
    assert "-> share = a / b" in told.stdout
    assert "('a is', 1)" in told.stdout
    assert "ZeroDivisionError: division by zero" in told.stdout
    assert "('b is', 0)" in told.stdout
    assert told.stdout.rstrip().endswith("True"), told.stderr
    told = debug("later", "n", "p 'double is', double", "c")
    assert "-> double = a * 2" in told.stdout
    assert "('double is', 8)" in told.stdout
    assert told.stdout.rstrip().endswith("True"), told.stderr

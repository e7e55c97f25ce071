"""LOOP: iterations on record, each with a budget of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pluperfect import LOOP, flow, task
from pluperfect.runtime import task_run
from pluperfect.testing import kinds


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


@task
def largest_up_to(limit):
    payload = task_run.loop_result or {}
    n, fib = payload.get("n", 1), payload.get("fib", 1)
    following = fibonacci(n)
    if following > limit:
        return fib
    raise LOOP(message=f"Fib {n}={following}", result={"n": n + 1, "fib": following})


@pytest.mark.parametrize(("limit", "found", "calls"), [(100, 89, 12), (1000, 987, 17)])
def test_the_fibonacci_loop_records_each_iteration_with_its_payload(log, limit, found, calls):
    assert largest_up_to(limit) == found

    run = log.runs()[0]
    assert kinds(run) == ["Pending", *["Running", "Looped"] * (calls - 1), "Running", "Completed"]
    looped = [t.to for t in run.transitions if t.to.kind == "Looped"]
    assert [state.count for state in looped] == list(range(1, calls))
    assert log.unpack(looped[0].payload) == {"n": 2, "fib": 1}


def test_mapped_loops_go_each_their_own_way(log):
    @flow
    def mapped(limits):
        return largest_up_to.map(limits).result()

    assert mapped([10, 100, 1000, 1500]) == [8, 89, 987, 987]


def test_each_iteration_has_a_fresh_retry_budget_and_keeps_its_payload(log):
    calls = []

    @task(retries=2)
    def sums():
        payload = task_run.loop_result or 0
        calls.append((task_run.loop_count, task_run.run_count, payload))
        if task_run.loop_count == 3 and task_run.run_count < 3:
            raise ConnectionError("shaky")
        if task_run.loop_count == 4:
            return payload
        raise LOOP(result=payload + task_run.loop_count)

    assert sums() == 6
    assert calls == [(1, 1, 0), (2, 1, 1), (3, 1, 3), (3, 2, 3), (3, 3, 3), (4, 1, 6)]


def test_a_payload_changed_in_place_does_not_reach_the_next_attempt(log):
    seen = []

    @task(retries=1)
    def grows():
        payload = task_run.loop_result
        if payload is None:
            raise LOOP(result=[1, 2])
        seen.append(list(payload))
        payload.append(3)
        if len(seen) == 1:
            raise ValueError("once")
        return payload

    assert grows() == [1, 2, 3]
    assert seen == [[1, 2], [1, 2]]


def test_an_unpackable_payload_fails_the_attempt_naming_the_payload(log):
    @task
    def loops():
        raise LOOP(result=threading.Lock())

    with pytest.raises(ValueError, match="payload of LOOP"):
        loops()


def test_loop_in_the_body_of_a_flow_fails_with_the_reason(log):
    @flow
    def loops():
        raise LOOP()

    with pytest.raises(TypeError, match="only a task loops"):
        loops()


def test_except_exception_lets_loop_pass_and_a_called_function_may_raise_it(log):
    def helper():
        if task_run.loop_count < 3:
            raise LOOP()

    @task
    def careless():
        try:
            helper()
        except Exception:
            return "swallowed"
        return task_run.loop_count

    assert careless() == 3


def test_async_tasks_loop(log):
    @task
    async def counts():
        await asyncio.sleep(0)
        if task_run.loop_count < 5:
            raise LOOP(result=task_run.loop_count)
        return task_run.loop_result

    assert asyncio.run(counts()) == 4


def test_calls_of_one_iteration_are_not_answered_from_another(log):
    made = []

    @task
    def step(i):
        made.append(i)
        return i

    @task
    def loops():
        step(task_run.loop_count)
        step(0)
        if task_run.loop_count < 3:
            raise LOOP()

    loops()
    assert made == [1, 0, 2, 0, 3, 0]

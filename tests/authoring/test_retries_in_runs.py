"""Retries as a program sees them."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.runtime import flow_run, task_run
from pluperfect.tasks import exponential_backoff
from pluperfect.testing import kinds


def failing(times, **options):
    """A task that fails so many times, and the list of its attempts."""
    attempts = []

    @task(**options)
    def shaky():
        attempts.append(task_run.run_count)
        if len(attempts) <= times:
            raise ConnectionError(f"attempt {len(attempts)}")
        return "done"

    return shaky, attempts


def test_a_retry_is_a_transition_of_the_same_run_that_keeps_the_exception_and_who_decided(log):
    shaky, attempts = failing(1, retries=2)

    assert shaky() == "done"
    assert attempts == [1, 2]
    run = log.runs()[0]
    assert kinds(run) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    retrying = run.transitions[2]
    assert (retrying.asked.kind, retrying.by, retrying.to.cause) == ("Failed", "retries", "error")
    assert (retrying.asked.error.type, retrying.asked.error.message) == ("ConnectionError", "attempt 1")


def test_when_the_budget_is_spent_the_last_exception_is_raised(log):
    shaky, attempts = failing(9, retries=2)

    with pytest.raises(ConnectionError, match="attempt 3"):
        shaky()
    assert attempts == [1, 2, 3]
    assert kinds(log.runs()[0]) == ["Pending", *["Running", "Retrying"] * 2, "Running", "Failed"]


@pytest.mark.parametrize(
    ("delay", "slept"),
    [
        (5, [5, 5, 5]),
        ([2, 4], [2, 4, 4]),
        (exponential_backoff(backoff_factor=10), [10, 20, 40]),
        (lambda retries: [retries], [3, 3, 3]),
        (0, []),
        (None, []),
    ],
)
def test_delays_are_slept_as_given(log, clock, delay, slept):
    shaky, _ = failing(3, retries=3, retry_delay_seconds=delay)

    shaky()
    assert clock.slept == slept


def test_jitter_stays_in_its_bounds_is_recorded_and_differs_between_runs(log, clock):
    for _ in range(20):
        shaky, _ = failing(1, retries=1, retry_delay_seconds=10, retry_jitter_factor=0.5)
        shaky()

    assert all(6.2 < delay <= 15 for delay in clock.slept)
    assert len(set(clock.slept)) > 5
    for run in log.runs():
        retrying = run.transitions[2].to
        assert retrying.delay == 10
        assert retrying.draw is not None
        assert retrying.due == pytest.approx(run.transitions[3].at)


def test_the_condition_is_asked_with_the_failed_state_and_its_answer_is_on_record(log):
    asked = []

    def only_connections(task, task_run, state):
        asked.append((task.name, task_run.name, state.kind))
        try:
            state.result()
        except ConnectionError:
            return True
        except Exception:
            return False

    @task(retries=3, retry_condition_fn=only_connections)
    def shaky():
        raise ConnectionError if not asked else ValueError

    with pytest.raises(ValueError):
        shaky()
    assert asked == [("shaky", "shaky", "Failed")] * 2
    assert [t.facts.answers for t in log.runs()[0].transitions if t.facts.answers] == [
        {"retry_condition_fn": True},
        {"retry_condition_fn": False},
    ]


def test_a_condition_that_raises_is_logged_recorded_and_means_no(log, caplog):
    @task(retries=3, retry_condition_fn=lambda task, run, state: 1 / 0)
    def shaky():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        shaky()
    assert log.runs()[0].transitions[-1].facts.answers == {
        "retry_condition_fn": {"raised": "ZeroDivisionError: division by zero"}
    }
    assert "ZeroDivisionError" in caplog.text


def test_an_async_condition_is_awaited_in_sync_and_async_tasks(log):
    async def always(task, task_run, state):
        await asyncio.sleep(0)
        return True

    shaky, attempts = failing(1, retries=1, retry_condition_fn=always)
    assert shaky() == "done"

    tries = []

    @task(retries=1, retry_condition_fn=always)
    async def shaky_later():
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return "done"

    assert asyncio.run(shaky_later()) == "done"
    assert len(attempts) == len(tries) == 2


def test_a_timeout_is_retried_and_recorded_as_the_cause(log):
    tries = []

    @task(retries=1, timeout_seconds=0.05)
    def slow_once():
        tries.append(1)
        if len(tries) == 1:
            time.sleep(2)
        return "in time"

    assert slow_once() == "in time"
    retrying = log.runs()[0].transitions[2]
    assert (retrying.to.cause, retrying.asked.kind) == ("timeout", "TimedOut")
    assert retrying.asked.limit == 0.05


def test_a_timeout_without_retries_is_timed_out_and_raises_a_timeout_error(log):
    @task(timeout_seconds=0.05)
    def slow():
        time.sleep(2)

    @flow
    def submits():
        return slow.submit(return_state=True).kind

    with pytest.raises(TimeoutError, match="0.05"):
        slow()
    assert kinds(log.runs(name="slow")[0]) == ["Pending", "Running", "TimedOut"]
    assert submits() == "TimedOut"


def test_a_timeout_error_of_the_body_itself_is_a_failure_not_timed_out(log):
    @task(timeout_seconds=5)
    def own():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        own()
    assert log.runs()[0].state.kind == "Failed"


def test_async_tasks_are_cancelled_at_their_deadline(log):
    @task(timeout_seconds=0.05)
    async def slow():
        await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        asyncio.run(slow())
    assert log.runs()[0].state.kind == "TimedOut"


def test_nested_limits_end_the_run_whose_time_is_up(log):
    @task(timeout_seconds=5)
    def inner():
        time.sleep(3)

    @task(timeout_seconds=0.1)
    def outer():
        inner()

    with pytest.raises(TimeoutError, match="outer"):
        outer()
    assert log.runs(name="outer")[0].state.kind == "TimedOut"
    assert log.runs(name="inner")[0].state.is_cancelled()


def test_a_flow_whose_time_is_up_is_stopped_at_its_next_call_into_the_engine(log):
    reached = []

    @task
    def step(n):
        reached.append(n)

    @flow(timeout_seconds=0.1)
    def slow():
        step(1)
        time.sleep(0.15)
        step(2)

    with pytest.raises(TimeoutError, match="timed out after 0.1"):
        slow()
    assert reached == [1]
    assert log.runs(roots=True)[0].state.kind == "TimedOut"


def test_a_returned_failure_is_retried_but_a_cancelled_one_is_not(log):
    given = [pluperfect.Failed(message="first"), pluperfect.Completed(message="then")]

    @task(retries=3)
    def returns_states():
        return given.pop(0)

    @task(retries=3)
    def cancels():
        return pluperfect.Failed(message="off", cause="cancelled")

    assert returns_states(return_state=True).message == "then"
    assert log.runs(name="returns_states")[0].transitions[2].to.cause == "returned"
    assert cancels(return_state=True).is_cancelled()
    assert kinds(log.runs(name="cancels")[0]) == ["Pending", "Running", "Failed"]


def test_a_flow_retry_answers_finished_calls_from_the_attempt_before_and_makes_the_others_anew(log):
    made = []

    @task
    def step(n):
        made.append(n)
        return n

    @task(retries=1)
    def shaky():
        made.append("shaky")
        if made.count("shaky") <= 2:
            raise ConnectionError
        return "ok"

    @flow(retries=1)
    def whole():
        first, again = step(1), step(1)
        return first + again, shaky(), flow_run.run_count

    assert whole() == (2, "ok", 2)
    assert made == [1, 1, "shaky", "shaky", "shaky"]
    run = log.runs(roots=True)[0]
    assert kinds(run) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    assert [kinds(child) for child in run.children[3:]] == [["Pending", "Cached"]] * 2 + [
        ["Pending", "Running", "Completed"]
    ]
    assert run.children[3].state.source[0].hex() == run.children[0].id.replace("-", "")
    assert run.children[4].state.source[0].hex() == run.children[1].id.replace("-", "")


@pytest.mark.parametrize("ending", ["returned future", "returned states", "unseen failure"])
def test_a_flow_that_fails_through_its_children_is_retried_and_makes_those_that_failed_anew(log, ending):
    shaky, attempts = failing(1)
    sound = []

    @task
    def well():
        sound.append(1)

    @flow(retries=2)
    def whole():
        well()
        if ending == "returned states":
            return [shaky(return_state=True)]
        future = shaky.submit()
        return future if ending == "returned future" else None

    assert whole(return_state=True).is_completed()
    assert (len(attempts), sound) == (2, [1])
    root = log.runs(name="whole")[0]
    assert kinds(root) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    assert root.transitions[2].to.cause == "returned"
    assert root.folded.spent == 1


class Held:
    """What a body has in its variables."""


@pytest.mark.parametrize("how", ["sync", "async"])
def test_what_a_failed_attempt_held_is_let_go_of_without_the_garbage_collector(log, how):
    """An exception holds the variables of all that it came through: it may be large, and must not hold itself."""
    held = []

    def attempt():
        one = Held()
        held.append(weakref.ref(one))
        if len(held) % 2:
            raise ValueError(one)

    if how == "sync":

        @task(retries=1)
        def flaky():
            attempt()

        @flow
        def runs():
            for _ in range(5):
                flaky()
    else:

        @task(retries=1)
        async def flaky():
            attempt()

        @flow
        async def runs():
            for _ in range(5):
                await flaky()

    gc.collect()
    gc.disable()
    try:
        if how == "sync":
            runs()
        else:
            asyncio.run(runs())
        assert len(held) == 10
        assert [one() for one in held] == [None] * 10
    finally:
        gc.enable()

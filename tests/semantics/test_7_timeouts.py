"""Timeouts: what a limit covers, what becomes of the call, and of those that go on regardless."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.authoring.clock import SystemClock
from pluperfect.errors import RunTimeout
from pluperfect.runtime import task_run
from pluperfect.testing import kinds

LIMIT = 0.05


def spin(seconds=20.0):
    """Be busy where an exception can reach; never to the end in a test that passes."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.001)


async def aspin():
    await asyncio.sleep(20)


def slow(decorate=task, *, is_async=False, **options):
    async def body_async():
        await aspin()

    return decorate(name="slow", timeout_seconds=LIMIT, **options)(body_async if is_async else spin)


def made(call):
    found = call()
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


# --- the limit


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_limit_is_a_number_of_seconds_and_not_negative(decorate):
    for good in (1, 0.5, 0, None):
        decorate(timeout_seconds=good)(lambda: 1)
    with pytest.raises(ValueError, match="timeout_seconds"):
        decorate(timeout_seconds=-1)(lambda: 1)
    with pytest.raises(TypeError, match="timeout_seconds"):
        decorate(timeout_seconds="1")(lambda: 1)


@both
@pytest.mark.parametrize("limit", [0, None, 60])
def test_zero_and_none_are_no_limit_and_who_is_in_time_is_left_alone(log, limit, is_async):
    async def body_async():
        return 1

    one = task(name="one", timeout_seconds=limit)(body_async if is_async else lambda: 1)
    assert made(one) == 1


# --- the state


@both
@pytest.mark.parametrize("decorate", [task], ids=["task"])
def test_a_call_past_its_limit_is_timed_out_and_raises_a_timeout_error(log, decorate, is_async):
    call = slow(decorate, is_async=is_async)

    with pytest.raises(TimeoutError, match="timed out after 0.05 second") as caught:
        made(call)
    assert isinstance(caught.value, RunTimeout)
    state = log.runs()[0].state
    assert (state.kind, state.name, state.type, state.limit) == ("TimedOut", "TimedOut", "FAILED", LIMIT)
    assert state.elapsed >= LIMIT


@both
def test_the_limit_is_for_each_attempt(log, is_async):
    tries = []

    def body():
        tries.append(1)
        if len(tries) < 3:
            spin()
        return "done"

    async def body_async():
        tries.append(1)
        if len(tries) < 3:
            await aspin()
        return "done"

    call = task(name="slow", retries=2, timeout_seconds=LIMIT)(body_async if is_async else body)
    assert made(call) == "done"
    assert kinds(log.runs()[0]) == ["Pending", *["Running", "Retrying"] * 2, "Running", "Completed"]
    assert [t.to.cause for t in log.runs()[0].transitions if t.to.kind == "Retrying"] == ["timeout"] * 2


def test_the_limit_is_for_each_iteration(log):
    from pluperfect.runtime import task_run

    @task(timeout_seconds=0.5)
    def loops():
        spin(0.2)
        if task_run.loop_count < 4:
            raise pluperfect.LOOP

    loops()
    assert log.runs()[0].state.kind == "Completed"


@both
def test_downstream_a_timeout_is_a_failure(log, is_async):
    late = slow(is_async=is_async)
    after = task(lambda x: x, name="after")

    @flow
    def whole():
        return after.submit(late.submit(), return_state=True)

    assert whole(return_state=True).is_failed()
    assert log.runs(name="after")[0].state.name == "NotReady"


@both
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_timeout_error_of_the_bodys_own_is_a_failure_with_that_exception(log, decorate, is_async):
    error = TimeoutError("mine")

    def body():
        raise error

    async def body_async():
        raise error

    call = decorate(name="own", timeout_seconds=60)(body_async if is_async else body)
    with pytest.raises(TimeoutError, match="mine") as caught:
        made(call)
    assert caught.value is error
    assert log.runs()[0].state.kind == "Failed"


# --- where no signal serves


def test_a_submitted_call_is_timed_out_at_its_deadline_although_its_thread_is_blocked(log, caplog):
    gate = threading.Event()
    ended = threading.Event()

    @task(timeout_seconds=LIMIT)
    def blocked():
        try:
            gate.wait(60)  # one call into C: no exception reaches it
        finally:
            ended.set()

    @flow
    def whole():
        blocked.submit().wait()

    began = time.monotonic()
    assert whole(return_state=True).is_failed()
    assert time.monotonic() - began < 30
    assert not ended.is_set()
    assert log.runs(name="blocked")[0].state.kind == "TimedOut"
    gate.set()
    assert ended.wait(30)


def test_a_direct_call_outside_of_the_main_thread_goes_on_at_its_deadline_too(log):
    gate, seen = threading.Event(), []

    @task(timeout_seconds=LIMIT)
    def blocked():
        gate.wait(60)

    def elsewhere():
        with log:
            seen.append(blocked(return_state=True))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(30)
    gate.set()
    assert [state.kind for state in seen] == ["TimedOut"]


def test_a_thread_that_was_given_up_is_asked_to_stop(log):
    stopped = threading.Event()

    @task(timeout_seconds=LIMIT)
    def busy():
        try:
            spin()
        finally:
            stopped.set()

    @flow
    def whole():
        busy.submit().wait()

    whole(return_state=True)
    assert stopped.wait(30)


def test_what_a_thread_gives_after_it_was_given_up_is_dropped_and_logged(log, caplog):
    gate = threading.Event()

    @task(timeout_seconds=LIMIT, retries=1)
    def blocked():
        if task_run.run_count == 1:
            try:
                gate.wait(60)
            except BaseException:
                pass
            return "late"
        return "in time"

    @flow
    def whole():
        future = blocked.submit()
        while len(log.run(future.task_run_id).transitions) < 3:  # until the first attempt is over
            time.sleep(0.001)
        gate.set()
        return future

    assert whole().result() == "in time"
    assert kinds(log.runs(name="blocked")[0]) == ["Pending", "Running", "Retrying", "Running", "Completed"]


# --- flows


@both
def test_a_flow_past_its_limit_is_stopped_at_its_next_call_into_the_engine(log, is_async):
    reached = []
    step = task(lambda: reached.append("step"), name="step")

    @flow(timeout_seconds=LIMIT)
    def whole():
        spin(0.2)
        reached.append("overran")
        step()
        reached.append("beyond")

    @flow(timeout_seconds=LIMIT)
    async def whole_async():
        spin(0.2)
        reached.append("overran")
        step()
        reached.append("beyond")

    with pytest.raises(TimeoutError):
        made(whole_async if is_async else whole)
    assert reached == ["overran"]
    assert log.runs(roots=True)[0].state.kind == "TimedOut"
    assert log.runs(name="step") == []


def test_an_async_flow_is_stopped_at_an_await(log):
    with pytest.raises(TimeoutError):
        asyncio.run(slow(flow, is_async=True)())
    assert log.runs()[0].state.kind == "TimedOut"


def test_a_flow_that_overruns_without_another_call_is_timed_out_at_its_end(log):
    @flow(timeout_seconds=LIMIT)
    def whole():
        spin(0.2)
        return 1

    with pytest.raises(TimeoutError):
        whole()
    assert log.runs()[0].state.kind == "TimedOut"


def test_the_children_of_a_flow_that_timed_out_which_had_not_begun_are_cancelled(log):
    from pluperfect.task_runners import ThreadPoolTaskRunner

    gate = threading.Event()
    holds = task(lambda: gate.wait(60), name="holds")
    waits = task(lambda: 1, name="waits")

    @flow(timeout_seconds=LIMIT, task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        holds.submit()
        waits.submit()
        spin(0.2)
        threading.Timer(0.05, gate.set).start()
        waits.submit()

    with pytest.raises(TimeoutError):
        whole()
    (cancelled,) = log.runs(name="waits")
    assert (cancelled.state.kind, cancelled.state.cause) == ("Failed", "cancelled")
    assert all(run.state.is_final() for run in log.runs())


@both
def test_a_flow_may_be_retried_after_its_timeout(log, is_async):
    tries = []

    def body():
        tries.append(1)
        if len(tries) == 1:
            spin(0.2)
        return len(tries)

    async def body_async():
        tries.append(1)
        if len(tries) == 1:
            await aspin()
        return len(tries)

    call = flow(name="whole", retries=1, timeout_seconds=LIMIT)(body_async if is_async else body)
    assert made(call) == 2


@pytest.mark.parametrize("after", ["returns", "raises"])
def test_a_body_that_swallows_its_timeout_is_timed_out_all_the_same(log, after):
    def end():
        if after == "raises":
            raise ValueError("late")
        return "late"

    @task(timeout_seconds=0.05)
    def stubborn():
        try:
            while True:
                time.sleep(0.001)
        except BaseException:
            return end()

    @task(timeout_seconds=0.05)
    async def stubborn_later():
        try:
            await asyncio.Event().wait()
        except BaseException:
            return end()

    assert stubborn(return_state=True).kind == "TimedOut"
    assert asyncio.run(stubborn_later(return_state=True)).kind == "TimedOut"
    assert [kinds(run) for run in log.runs()] == [["Pending", "Running", "TimedOut"]] * 2


@pytest.mark.parametrize("runner", ["threads", "asyncio"])
def test_an_async_flow_past_its_limit_cancels_the_async_calls_that_it_submitted(log, runner):
    ends = []

    @task
    async def endless(n):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append(n)
            raise

    @flow(timeout_seconds=0.2, task_runner=runner)
    async def limited():
        for n in range(3):
            endless.submit(n)
        await asyncio.Event().wait()

    assert asyncio.run(limited(return_state=True)).is_timed_out()
    assert sorted(ends) == [0, 1, 2]
    for child in log.runs(name="endless"):
        assert child.state.is_cancelled()
        assert "timeout" in child.state.message


def test_a_sync_flow_past_its_limit_cancels_the_async_calls_that_it_submitted(log):
    @task
    async def endless():
        await asyncio.Event().wait()

    @flow(timeout_seconds=0.2)
    def limited():
        return endless.submit().result()

    assert limited(return_state=True).is_timed_out()
    assert log.runs(name="endless")[0].state.is_cancelled()


def test_a_submitted_async_call_that_waits_for_its_retry_is_cancelled_with_its_flow(log):
    @task(retries=1, retry_delay_seconds=3600)
    async def fails():
        raise ValueError

    @flow(timeout_seconds=0.3, task_runner="asyncio")
    async def limited():
        fails.submit()
        await asyncio.Event().wait()

    log.clock = SystemClock()
    assert asyncio.run(limited(return_state=True)).is_timed_out()
    assert log.runs(name="fails")[0].state.is_cancelled()


@pytest.mark.parametrize("together", [False, True])
def test_an_async_call_that_its_flow_awaits_past_its_limit_is_cancelled_and_has_not_crashed(log, together):
    @task
    async def endless():
        await asyncio.Event().wait()

    @flow(timeout_seconds=0.2)
    async def limited():
        if together:
            await asyncio.gather(endless(), endless())
        await endless()

    assert asyncio.run(limited(return_state=True)).is_timed_out()
    assert log.runs(name="endless")
    for child in log.runs(name="endless"):
        assert child.state.is_cancelled(), child.state


def test_a_cancelled_async_flow_cancels_the_async_calls_that_it_submitted(log):
    begun = asyncio.Event()

    @task
    async def endless():
        begun.set()
        await asyncio.Event().wait()

    @flow(task_runner="asyncio")
    async def cancelled():
        endless.submit()
        await asyncio.Event().wait()

    async def main():
        running = asyncio.create_task(cancelled())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert log.runs(name="cancelled")[0].state.is_crashed()
    assert log.runs(name="endless")[0].state.is_cancelled()

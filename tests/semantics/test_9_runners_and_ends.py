"""Runners, how a flow ends with its children, and what ends a run that is no exception."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.runtime import flow_run
from pluperfect.task_runners import ConcurrentTaskRunner, ThreadPoolTaskRunner
from pluperfect.testing import kinds


@task
def same(x=None):
    return x


@pytest.fixture
def gate():
    made = threading.Event()
    yield made
    made.set()


# --- the default


def test_submitted_calls_run_side_by_side_in_threads(log):
    together = threading.Barrier(20)

    @task
    def meets():
        together.wait(60)  # passes only when all twenty are under way
        return threading.get_ident()

    @flow
    def whole():
        return len({future.result() for future in [meets.submit() for _ in range(20)]})

    assert whole() == 20


def test_the_concurrent_runner_is_the_one_of_threads():
    assert ConcurrentTaskRunner is ThreadPoolTaskRunner


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner, ThreadPoolTaskRunner(), ThreadPoolTaskRunner(max_workers=2)])
def test_a_runner_is_given_as_a_class_or_as_an_instance(log, runner):
    whole = flow(task_runner=runner, name="whole")(lambda: same.map([1, 2, 3]).result())
    assert whole() == [1, 2, 3]
    assert whole() == [1, 2, 3]


def test_max_workers_is_how_many_run_at_once(log):
    here, most = [], []

    @task
    def counts():
        here.append(1)
        most.append(len(here))
        here.pop()

    whole = flow(task_runner=ThreadPoolTaskRunner(max_workers=1), name="whole")(
        lambda: [counts.submit() for _ in range(9)] and None
    )
    whole()
    assert max(most) == 1
    assert len(most) == 9


def test_a_setting_gives_the_number_of_workers(log, setting):
    setting(TASKS_RUNNER_THREAD_POOL_MAX_WORKERS=1)
    seen = set()
    name = task(lambda: seen.add(threading.get_ident()), name="name")

    @flow
    def whole():
        for _ in range(5):
            name.submit()

    whole()
    assert len(seen) == 1


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", True])
def test_a_number_of_workers_is_one_or_more(bad):
    with pytest.raises(ValueError, match="max_workers"):
        ThreadPoolTaskRunner(max_workers=bad)


def test_each_run_of_a_flow_has_workers_of_its_own(log):
    made = []

    class Counting(ThreadPoolTaskRunner):
        def duplicate(self):
            made.append(super().duplicate())
            return made[-1]

    given = Counting()
    inner = flow(task_runner=given, name="inner")(lambda: same.submit(1).result())

    @flow(task_runner=given)
    def outer():
        same.submit(0).result()
        return inner()

    outer()
    assert len(made) == 2
    assert not any(one is given for one in made)


def test_context_variables_reach_submitted_calls_and_do_not_come_back(log):
    word = contextvars.ContextVar("word", default="unset")

    @task
    def reads():
        found = word.get()
        word.set("changed inside")
        return found

    @flow
    def whole():
        word.set("from the flow")
        return reads.submit().result(), word.get()

    assert whole() == ("from the flow", "from the flow")


def test_async_tasks_submitted_by_a_sync_flow_have_loops_of_their_own(log):
    @task
    async def loop():
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    @flow
    def whole():
        futures = [loop.submit() for _ in range(3)]
        return all(future.result() for future in futures)

    assert whole()


# --- the end of a flow


def test_all_children_are_final_before_the_flow_is(log, gate):
    waits = task(lambda: gate.wait(60), name="waits")

    @flow
    def whole():
        waits.submit()
        threading.Timer(0.05, gate.set).start()
        return 1

    assert whole() == 1
    child, parent = log.runs(name="waits")[0], log.runs(name="whole")[0]
    assert child.state.is_completed()
    assert child.state.timestamp <= parent.state.timestamp


def test_after_an_exception_queued_calls_are_cancelled_and_running_ones_awaited(log, gate):
    begun = threading.Event()

    @task
    def holds():
        begun.set()
        gate.wait(60)
        return "to the end"

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        holds.submit()
        begun.wait(60)
        for _ in range(3):
            same.submit()
        threading.Timer(0.05, gate.set).start()
        raise ValueError("the flow's own")

    with pytest.raises(ValueError, match="the flow's own"):
        whole()
    assert log.runs(name="holds")[0].result() == "to the end"
    assert [(run.state.kind, run.state.cause) for run in log.runs(name="same")] == [("Failed", "cancelled")] * 3
    assert all(run.state.is_final() for run in log.runs())


def test_the_futures_of_cancelled_calls_become_final_too(log, gate):
    begun, kept = threading.Event(), []

    @task
    def holds():
        begun.set()
        gate.wait(60)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        holds.submit()
        begun.wait(60)
        kept.append(same.submit())
        threading.Timer(0.05, gate.set).start()
        raise ValueError

    whole(return_state=True)
    assert kept[0].done()
    assert kept[0].state.is_cancelled()


@pytest.mark.parametrize("count", [300])
def test_the_history_of_every_child_is_kept(log, count):
    @flow
    def whole():
        for n in range(count):
            same.submit(n)

    whole()
    assert len(log.runs(state="Completed", name="same")) == count


# --- what is no exception

CRASHES = [KeyboardInterrupt, SystemExit, type("Odd", (BaseException,), {})]


@pytest.mark.parametrize("error", CRASHES)
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_base_exception_crashes_the_run_and_is_raised_again(log, decorate, is_async, error):
    raised = error("bang")

    def body():
        raise raised

    async def body_async():
        raise raised

    call = decorate(name="crashes", retries=2)(body_async if is_async else body)
    with pytest.raises(error) as caught:
        asyncio.run(call()) if is_async else call()
    assert caught.value is raised
    run = log.runs()[0]
    assert (run.state.kind, run.state.cause, run.state.name, run.state.type) == (
        "Failed",
        "crashed",
        "Crashed",
        "CRASHED",
    )
    assert kinds(run) == ["Pending", "Running", "Failed"]


def test_with_return_state_too_it_is_raised_again(log):
    @task
    def crashes():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crashes(return_state=True)


def test_a_system_exit_in_a_submitted_call_crashes_the_flow(log):
    @task
    def leaves():
        raise SystemExit(3)

    @flow
    def whole():
        leaves.submit().result()

    with pytest.raises(SystemExit):
        whole()
    assert [run.state.name for run in log.runs()] == ["Crashed", "Crashed"]


def test_a_crash_in_a_child_that_is_not_caught_crashes_its_callers(log):
    @task
    def crashes():
        raise KeyboardInterrupt

    inner = flow(lambda: crashes(), name="inner")
    outer = flow(lambda: inner(), name="outer")
    with pytest.raises(KeyboardInterrupt):
        outer()
    assert {run.state.cause for run in log.runs()} == {"crashed"}


def test_an_asyncio_task_that_is_cancelled_crashes_its_runs(log):
    begun = []

    @task
    async def sleeps():
        begun.append(asyncio.get_running_loop())
        await asyncio.sleep(60)

    @flow
    async def whole():
        await sleeps()

    async def main():
        running = asyncio.ensure_future(whole())
        while not begun:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert [run.state.name for run in log.runs()] == ["Crashed", "Crashed"]


def test_a_crashed_flow_takes_back_what_has_not_begun(log, gate):
    begun = threading.Event()

    @task
    def holds():
        begun.set()
        gate.wait(60)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        holds.submit()
        begun.wait(60)
        same.submit()
        threading.Timer(0.05, gate.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole()
    assert log.runs(name="same")[0].state.is_cancelled()
    assert log.runs(name="holds")[0].state.is_completed()


def test_a_subflow_has_a_runner_of_its_own_and_ends_before_its_caller_goes_on(log):
    seen = []

    @flow
    def inner():
        same.submit(flow_run.name)

    @flow
    def outer():
        inner()
        seen.extend(run.state.is_final() for run in log.runs(name="same"))

    outer()
    assert seen == [True]


def test_a_run_that_cannot_reach_its_result_crashes_nothing_else(log):
    @flow
    def whole():
        bad = task(lambda: 1 / 0, name="bad").submit()
        good = same.submit(1)
        return good.result(), bad.result(raise_on_failure=False).args

    assert whole() == (1, ("division by zero",))
    assert pluperfect.states.Completed().is_final()

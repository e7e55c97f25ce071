"""The same programs under every runner: what is recorded does not depend on where a body was called."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import pluperfect
from pluperfect import flow, tags, task
from pluperfect.errors import MissingContextError, RunnerUnavailable, UnpackableValue, WorkerDied
from pluperfect.task_runners import (
    AsyncioTaskRunner,
    ConcurrentTaskRunner,
    ExecutorTaskRunner,
    ProcessPoolTaskRunner,
    ThreadPoolTaskRunner,
)
from pluperfect.testing import FakeClock, kinds
from pluperfect_dask.task_runners import DaskTaskRunner
from runners import programs

HERE = ("threads", "one thread", "asyncio", "thread executor")
AWAY = ("processes", "dask", "process executor")


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as made:
        yield made


@pytest.fixture(scope="module")
def executors():
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        yield {"thread executor": threads, "process executor": processes}


def made(name, request):
    if name.endswith("executor"):
        return request.getfixturevalue("executors")[name]
    if name == "dask":
        return DaskTaskRunner(cluster=request.getfixturevalue("cluster"))
    return {
        "threads": "threads",
        "one thread": ThreadPoolTaskRunner(max_workers=1),
        "asyncio": AsyncioTaskRunner,
        "processes": ProcessPoolTaskRunner(max_workers=2),
    }[name]


@pytest.fixture(params=[*HERE, *AWAY])
def runner(request):
    return made(request.param, request)


@pytest.fixture(params=AWAY)
def away(request):
    return made(request.param, request)


@pytest.fixture
def log():
    with pluperfect.open("memory:", clock=FakeClock(), entry_points=False) as opened:
        yield opened


def run(runner, body, **options):
    return flow(body, name="program", task_runner=runner, **options)()


def test_results_come_back_in_the_order_of_the_map(log, runner):
    def program():
        plain, awaited = programs.double.map(range(10)), programs.double_async.map(range(10))
        return plain.result(), awaited.result()

    assert run(runner, program) == ([2 * x for x in range(10)],) * 2


def test_an_exception_arrives_with_its_type_and_the_users_lines_are_on_record(log, runner):
    def program():
        with pytest.raises(programs.OddError, match="no 7"):
            programs.fails.submit(7).result()

    run(runner, program)
    error = log.runs(name="fails")[0].state.error
    assert (error.type, error.message) == ("runners.programs.OddError", "no 7")
    assert "raise OddError" in error.traceback


def test_attempts_are_recorded_the_same_and_each_is_made_once(log, runner, tmp_path):
    path = str(tmp_path / "notes")

    def program():
        return programs.flaky.submit(path).result()

    assert run(runner, program) == 3
    assert Path(path).read_text().split() == ["1", "2", "3"]
    recorded = log.runs(name="flaky")[0]
    assert kinds(recorded) == "Pending Running Retrying Running Retrying Running Completed".split()
    assert [t.to.delay for t in recorded.transitions if t.to.is_retrying()] == [1, 2]
    assert [t.asked.message for t in recorded.transitions if t.asked] == [
        "ConnectionError: attempt 1",
        "ConnectionError: attempt 2",
    ]


def test_iterations_are_recorded_the_same_and_each_is_retried_alone(log, runner, tmp_path):
    path = str(tmp_path / "notes")

    def program():
        return programs.loops.submit(path).result()

    assert run(runner, program) == 4
    assert Path(path).read_text().split() == ["1/1", "2/1", "2/2", "3/1", "4/1"]
    recorded = log.runs(name="loops")[0]
    assert [t.to.message for t in recorded.transitions if t.to.is_looped()] == ["did 1", "did 2", "did 3"]
    assert (
        kinds(recorded)
        == "Pending Running Looped Running Retrying Running Looped Running Looped Running Completed".split()
    )


def test_a_body_can_ask_about_its_run_wherever_it_is_called(log, runner):
    def program(day="monday"):
        with tags("here"):
            return programs.about.submit().result()

    told = run(runner, program, flow_run_name="named")
    assert told == {
        "task": "about-0",
        "flow": "named",
        "flow parameters": {"day": "monday"},
        "parameters": {},
        "tags": ["here"],
    }


def test_what_a_body_logs_and_prints_arrives_under_the_name_of_its_run(log, runner, caplog):
    caplog.set_level(logging.INFO, "pluperfect")

    def program():
        programs.speaks.submit().wait()
        programs.prints.submit().wait()
        programs.warns.submit().wait()

    run(runner, program)
    said = {(r.name, r.getMessage(), getattr(r, "run_name", None)) for r in caplog.records}
    assert {
        ("pluperfect.task_runs", "said so", "speaks-0"),
        ("pluperfect.task_runs", "printed", "prints-0"),
        ("pluperfect.mine", "careful", None),
    } <= said


def test_a_generator_that_is_returned_or_submitted_is_listed(log, runner):
    def program():
        return programs.lists.submit().result(), programs.yields.submit().result()

    assert run(runner, program) == ([0, 1, 4, 9], [0, 1, 2])


def test_futures_and_values_of_other_calls_are_resolved_before_the_body_is_called(log, runner):
    def program():
        first = programs.double.submit(2)
        return programs.takes.submit({"deep": [first, programs.double.submit(first)]}).result()

    assert run(runner, program) == {"deep": [4, 8]}


def test_a_result_that_is_not_recorded_still_comes_back(log, runner):
    assert run(runner, lambda: programs.unrecorded.submit().result()) == "seen"


@pytest.mark.parametrize("name", ["threads", "asyncio", "processes", "process executor"])
def test_a_call_past_its_deadline_is_timed_out(log, request, tmp_path, name):
    state = flow(
        lambda: programs.sleeps.submit(str(tmp_path / "notes")).result(),
        task_runner=made(name, request),
        name="program",
    )(return_state=True)
    assert state.is_failed()
    assert kinds(log.runs(name="sleeps")[0]) == ["Pending", "Running", "TimedOut"]


def test_a_process_past_its_deadline_is_killed(log, tmp_path):
    path = str(tmp_path / "notes")

    def program():
        programs.double.submit(1).wait()  # the process is there, and has imported all, before the limit counts
        programs.sleeps.submit(path).wait()

    flow(program, task_runner=ProcessPoolTaskRunner(max_workers=1))(return_state=True)
    pid = int(Path(path).read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_a_worker_that_dies_is_one_attempt_with_its_cause_and_never_a_silent_second_run(log, tmp_path, name):
    path = str(tmp_path / "notes")
    runner = ProcessPoolTaskRunner(max_workers=1) if name == "processes" else DaskTaskRunner(cluster_kwargs=ONE_WORKER)

    def program():
        return programs.dies.submit(path, 1).result()

    assert run(runner, program) == "lived"
    assert Path(path).read_text().split() == ["1", "2"]
    recorded = log.runs(name="dies")[0]
    assert kinds(recorded) == "Pending Running Retrying Running Completed".split()
    assert recorded.transitions[2].asked.error.type == "pluperfect.errors.WorkerDied"


ONE_WORKER = {"n_workers": 1, "threads_per_worker": 1, "silence_logs": logging.CRITICAL}


@pytest.mark.parametrize("name", ["processes", "dask", "an address"])
def test_a_worker_that_dies_in_the_last_attempt_fails_the_call(log, tmp_path, name):
    path = str(tmp_path / "notes")

    def program():
        with pytest.raises(WorkerDied, match="died"):
            programs.dies.with_options(retries=0).submit(path, 9).result()

    if name == "an address":
        import dask.config
        from distributed import LocalCluster

        # A scheduler of somebody else's, which would give the call to one worker after the other.
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 3}),
            LocalCluster(**{**ONE_WORKER, "n_workers": 2}, dashboard_address="127.0.0.1:0") as cluster,
        ):
            run(DaskTaskRunner(address=cluster.scheduler_address), program)
    else:
        run(ProcessPoolTaskRunner(1) if name == "processes" else DaskTaskRunner(cluster_kwargs=ONE_WORKER), program)
    assert Path(path).read_text().split() == ["1"]


def test_bodies_away_are_called_in_other_processes_and_those_here_in_this_one(log, request):
    for name in (*HERE, *AWAY):
        pid = run(made(name, request), lambda: programs.where.submit().result())
        assert (pid == os.getpid()) == (name in HERE)


def test_a_task_in_a_worker_that_calls_another_gets_an_error_that_says_what_to_do(log, away):
    def program():
        with pytest.raises(MissingContextError, match=r"Make that call from the flow"):
            programs.calls_another.submit().result()

    run(away, program)


def test_arguments_that_cannot_travel_fail_the_call_by_name(log, away):
    def program():
        with pytest.raises(UnpackableValue, match="cannot be sent to a worker"):
            programs.takes.submit(threading.Lock()).result()

    run(away, program)


def test_a_result_that_cannot_travel_fails_the_call_by_name(log, away):
    def program():
        with pytest.raises(UnpackableValue, match="cannot be sent back"):
            programs.gives_a_lock.submit().result()

    run(away, program)


def test_an_exception_that_cannot_travel_arrives_as_its_text(log, away):
    def program():
        with pytest.raises(pluperfect.errors.FailedRun, match="Unpicklable: stuck"):
            programs.raises_what_cannot_travel.submit().result()

    run(away, program)


def test_an_executor_stays_open(log, executors):
    executor = executors["thread executor"]
    run(executor, lambda: programs.double.submit(1).result())
    run(executor, lambda: programs.double.submit(1).result())
    assert executor.submit(int, "5").result() == 5
    assert isinstance(ExecutorTaskRunner(executor).duplicate(), ExecutorTaskRunner)


def test_async_flows_submit_to_every_runner(log, runner):
    @flow(task_runner=runner)
    async def program():
        first, second = programs.double_async.submit(1), programs.double.submit(2)
        return await first, await second

    assert asyncio.run(program()) == (2, 4)


def test_in_the_loop_of_its_flow_a_call_must_be_awaited_and_says_so(log):
    @flow(task_runner=AsyncioTaskRunner())
    async def program():
        future = programs.double_async.submit(1)
        with pytest.raises(RuntimeError, match="await future"):
            future.result()
        return await future

    assert asyncio.run(program()) == 2


def test_a_subflow_has_a_runner_of_its_own(log):
    seen = []

    class Watched(ThreadPoolTaskRunner):
        def submit(self, call):
            seen.append(self)
            super().submit(call)

    @flow(task_runner=Watched(max_workers=3))
    def inner():
        return programs.double.submit(2).result()

    @flow(task_runner=Watched)
    def outer():
        programs.double.submit(1).wait()
        return inner(), inner()

    assert outer() == (4, 4)
    assert [r.max_workers for r in seen] == [None, 3, 3]
    assert len({id(r) for r in seen}) == 3


def test_a_class_an_object_and_a_name_make_the_same_runner(log):
    for runner in (ThreadPoolTaskRunner, ThreadPoolTaskRunner(), "threads", ConcurrentTaskRunner(), None):
        assert run(runner, lambda: programs.double.submit(3).result()) == 6
    assert ThreadPoolTaskRunner(max_workers=2) == ThreadPoolTaskRunner(max_workers=2) != ThreadPoolTaskRunner()


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "kind", "extra"),
    [("pebble", lambda: ProcessPoolTaskRunner(), "process"), ("distributed", lambda: DaskTaskRunner(), "dask")],
)
def test_a_runner_that_is_not_installed_says_how_to_install_it(monkeypatch, module, kind, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RunnerUnavailable, match=rf"pip install 'pluperfect\[{extra}\]'"):
        kind()


def test_a_runner_by_an_unknown_name_names_those_that_there_are(log):
    with pytest.raises(RunnerUnavailable, match="'proceses'.*'processes'"):
        run("proceses", lambda: programs.double.submit(1).result())
    assert [run.state.kind for run in log.runs()] == ["Failed"]


@pytest.mark.parametrize("value", [4, object(), [ThreadPoolTaskRunner]])
def test_what_is_no_runner_is_refused_where_it_is_given(value):
    with pytest.raises(TypeError, match="task_runner is a name"):
        flow(task_runner=value)(print)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "4"])
def test_a_number_of_workers_that_cannot_be_is_refused(number):
    with pytest.raises(ValueError, match="max_workers"):
        ThreadPoolTaskRunner(max_workers=number)


def test_settings_of_a_cluster_that_exclude_one_another_are_refused():
    with pytest.raises(ValueError, match="address"):
        DaskTaskRunner(address="tcp://nowhere:1", cluster_kwargs={"n_workers": 1})
    with pytest.raises(ValueError, match="cluster_class"):
        DaskTaskRunner(cluster=object(), cluster_class="distributed.LocalCluster")
    with pytest.raises(ValueError, match="asynchronous"):
        DaskTaskRunner(cluster_kwargs={"asynchronous": True})


@pytest.mark.parametrize("caught", [True, False])
def test_a_call_that_its_runner_does_not_take_has_crashed_and_its_flow_does_not_wait_for_it(log, caught):
    closed = ThreadPoolExecutor(1)
    closed.shutdown()

    @task
    def called():
        return 1

    @flow(task_runner=closed)
    def whole():
        if not caught:
            called.submit()
        with pytest.raises(RuntimeError, match="after shutdown"):
            called.submit()
        return 3

    state = whole(return_state=True)
    assert state.is_completed() is caught
    child = log.runs(name="called")[0]
    assert child.state.is_crashed()
    assert "after shutdown" in child.state.message


def test_an_exception_whose_constructor_takes_other_arguments_arrives_as_what_it_is(log, runner):
    def program():
        with pytest.raises(programs.Refusal, match=r"no \(7\)") as refused:
            programs.refuses.submit().result()
        with pytest.raises(programs.NotReached) as lost:
            programs.does_not_reach.submit().result()
        return refused.value.code, lost.value.port, lost.value.errno, str(lost.value)

    assert run(runner, program) == (7, 25, 111, "[Errno 111] there:25 is not reached")

"""Where tasks are called: the same program gives the same results and the same records everywhere."""

from __future__ import annotations

import os
import threading

import pytest

from classic import programs
from pluperfect.classic import Flow, Parameter, case, task, unmapped
from pluperfect.classic.engine.state import Failed, Skipped, Success
from pluperfect.classic.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from pluperfect.classic.tasks.control_flow import merge
from pluperfect.testing import kinds


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as made:
        yield made


@pytest.fixture(params=["in order", "synchronous", "threads", "processes", "dask"])
def executor(request):
    if request.param == "in order":
        return LocalExecutor()
    if request.param == "dask":
        return DaskExecutor(address=request.getfixturevalue("cluster").scheduler_address)
    return LocalDaskExecutor(scheduler=request.param, num_workers=2)


def test_loops_keep_their_count_payload_and_budget(log, executor):
    with Flow("loops", executor=executor) as flow:
        one = programs.counts_to(4)
        many = programs.counts_to.map([2, 3])
    state = flow.run()
    assert (state.result[one].result, state.result[many].result) == ([1, 2, 3], [[1], [1, 2]])
    (alone,) = [run for run in log.runs(name="counts_to") if run.folded.birth.map_index is None and not run.children]
    looped = ["Running", "Looped"]
    assert kinds(alone) == ["Pending", *looped, "Running", "Retrying", *looped, *looped, "Running", "Completed"]


def test_tasks_find_their_context(log, executor):
    with Flow("context") as flow:
        found = programs.looks.map(
            [7, 8],
        )
        alone = programs.looks(Parameter("p"))
    state = flow.run(p=5, executor=executor)
    assert state.result[alone].result == (5, None, "looks", "context", {"p": 5}, 1)
    assert [row[:2] for row in state.result[found].result] == [(7, 0), (8, 1)]


def test_signals_arrive(log, executor):
    with Flow("signals") as flow:
        made = {what: programs.raises(what) for what in ("skip", "success", "fail", "error")}
        last = programs.after(made["error"])
    state = flow.run(executor=executor)
    ended = {what: state.result[one] for what, one in made.items()}
    assert [type(one) for one in ended.values()] == [Skipped, Success, Failed, Failed]
    assert (ended["success"].result, ended["fail"].result, str(ended["error"].result)) == (5, {"code": 5}, "error")
    assert state.result[last].result == "after a failure"


def test_branches_and_maps_are_the_same_everywhere(log, executor):
    with Flow("graph") as flow:
        x = Parameter("x")
        with case(x, 1):
            one = programs.add(x, 10)
        with case(x, 2):
            two = programs.add(x, 20)
        found = merge(one, two)
        many = programs.add.map([1, 2, 3], unmapped(found))
    for value, given in ((1, 11), (2, 22)):
        assert flow.run(x=value, executor=executor).result[many].result == [1 + given, 2 + given, 3 + given]


def test_tasks_that_wait_for_nothing_are_called_side_by_side(log):
    together = threading.Barrier(2)

    @task
    def meets():
        together.wait(timeout=60)
        return True

    with Flow("together", executor=LocalDaskExecutor(num_workers=2)) as flow:
        a, b = meets(), meets()
    state = flow.run()
    assert (state.result[a].result, state.result[b].result) == (True, True)


def test_the_children_of_a_map_are_called_side_by_side(log):
    together = threading.Barrier(3)

    @task
    def meets(x):
        together.wait(timeout=60)
        return x

    with Flow("together", executor=LocalDaskExecutor(num_workers=3)) as flow:
        found = meets.map([1, 2, 3])
    assert flow.run().result[found].result == [1, 2, 3]


def test_a_looping_child_keeps_its_one_place(log):
    import pluperfect.classic as prefect

    calls = []

    @task
    def loops(x):
        calls.append(x)
        if prefect.context.task_loop_count < 3:
            raise programs.signals.LOOP()

    with Flow("places", executor=LocalDaskExecutor(num_workers=1)) as flow:
        loops.map(["a", "b"])
    assert flow.run().is_successful()
    assert calls in (["a"] * 3 + ["b"] * 3, ["b"] * 3 + ["a"] * 3)


def test_processes_are_others_and_threads_are_not(log):
    with Flow("places") as flow:
        found = programs.where(1)
    assert flow.run(executor=LocalDaskExecutor(scheduler="processes")).result[found].result != os.getpid()
    assert flow.run(executor=LocalDaskExecutor()).result[found].result == os.getpid()


@pytest.mark.parametrize("executor", [LocalExecutor(), LocalDaskExecutor(num_workers=2)])
def test_a_failure_does_not_hold_up_what_does_not_depend_on_it(log, executor):
    with Flow("apart", executor=executor) as flow:
        lost = programs.raises("error")
        found = programs.add(programs.add(1, 2), 3)
    state = flow.run()
    assert (state.is_failed(), state.result[lost].is_failed(), state.result[found].result) == (True, True, 6)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: LocalDaskExecutor(scheduler="greenlets"), ValueError, "'threads', 'processes' or 'synchronous'"),
        (lambda: LocalDaskExecutor(pool=5), TypeError, "has no pool"),
        (lambda: DaskExecutor("tcp://here:1", cluster_kwargs={"n_workers": 1}), ValueError, "leave out cluster_class"),
        (lambda: Flow("wrong", executor="threads"), TypeError, "such as LocalExecutor"),
    ],
)
def test_executors_that_cannot_be_are_refused_where_they_are_given(build, error, says):
    with pytest.raises(error, match=says):
        build()


def test_handlers_can_end_a_task_before_it_begins_and_triggers_skip_it(log, executor):
    def known(_, old, new):
        return Success(result="known") if new.is_running() else None

    def skips(_):
        raise programs.signals.SKIP("not now", result=None)

    with Flow("ended", executor=executor) as flow:
        ended = programs.add(1, 2, task_args={"state_handlers": [known]})
        skipped = programs.add(1, 2, task_args={"trigger": skips})
        after = programs.add(skipped, 1)
    state = flow.run()
    assert (state.result[ended].result, state.result[skipped].is_skipped()) == ("known", True)
    assert (state.result[skipped].message, state.result[after].is_skipped()) == ("not now", True)


@pytest.mark.parametrize("executor", [LocalExecutor(), LocalDaskExecutor(scheduler="processes", num_workers=1)])
def test_handlers_are_shown_the_same_changes_wherever_the_body_is_called(log, changes, executor):
    with Flow("shown", executor=executor) as flow:
        looped = programs.counts_to(3, task_args={"state_handlers": [changes]})
        programs.add(programs.raises("skip", upstream_tasks=[looped]), 1, task_args={"state_handlers": [changes]})
    flow.run()
    assert changes.text == [
        "Pending -> Running",
        "Running -> Looped",
        "Pending -> Running",
        "Running -> Failed",
        "Failed -> Retrying",
        "Retrying -> Running",
        "Running -> Looped",
        "Pending -> Running",
        "Running -> Success",
        "Pending -> Skipped",
    ]

"""Section 2: tasks."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

from pluperfect import Completed, Failed, Running, Task, flow, tags, task
from pluperfect.errors import MissingContextError
from pluperfect.runtime import task_run
from pluperfect.states import AwaitingRetry, Cancelled, Crashed
from pluperfect.testing import kinds


def test_the_name_is_that_of_the_function_and_fn_the_function_itself():
    def my_task():
        return 3

    made = task(my_task)
    assert (made.name, made.fn) == ("my_task", my_task)
    assert made.fn() == 3
    assert Task(fn=my_task, name="x").name == "x"


def test_editing_the_body_does_not_change_the_key():
    def make(body):
        names = {"__name__": "somewhere"}
        exec(f"def work(): return {body}", names)
        return task(names["work"])

    assert make(1).task_key == make(2).task_key


@pytest.mark.parametrize("change", [{"name": "other"}, {"tags": ["t"]}])
def test_name_and_declared_tags_are_part_of_the_key(change):
    def work():
        pass

    assert task(work).task_key != task(**change)(work).task_key
    with tags("more"):
        assert task(work).task_key == task(work).task_key


def test_run_names_are_numbered_per_task_flow_run_and_attempt_in_call_order(log):
    one, two = task(lambda: None, name="one"), task(lambda: None, name="two")
    names = []
    left = [1, 0]

    @flow(retries=1)
    def outer():
        one(), two(), one()
        one.map([]) if False else None
        names.append([r.name for r in log.run("outer").children][-3:])
        if left.pop(0):
            raise ValueError

    outer()
    assert names == [["one-0", "two-0", "one-1"]] * 2


def test_outside_of_flows_the_run_has_the_bare_name(log):
    task(lambda: None, name="bare")()
    assert log.run("bare").name == "bare"


def test_the_run_name_may_read_the_runtime_and_take_the_parameters(log):
    @task(task_run_name=lambda parameters: f"{task_run.task_name} {parameters['x']}")
    def named(x):
        return task_run.name

    assert named(3) == "named 3"


@pytest.mark.parametrize("value", [3, object()])
def test_a_run_name_that_is_neither_template_nor_callable_is_refused(value):
    with pytest.raises(TypeError, match="task_run_name"):
        task(task_run_name=value)(print)


def test_a_run_name_that_is_no_string_fails_the_run(log):
    with pytest.raises(TypeError, match="a string is required"):
        task(lambda: 1, name="t", task_run_name=lambda: 5)()
    assert kinds(log.run("t")) == ["Pending", "Failed"]


def test_a_run_name_over_results_of_other_runs_is_made_when_they_are_there(log):
    @task(task_run_name="with {x}")
    def named(x):
        return task_run.name

    @flow
    def outer():
        return named.submit(task(lambda: 5).submit()).result()

    assert outer() == "with 5"
    assert log.runs(name="named")[0].name == "with 5"
    assert log.run("with 5") == log.runs(name="named")[0]


def test_a_direct_call_runs_in_the_thread_of_its_caller_and_raises_the_original_exception(log):
    import threading

    error = ValueError("mine")

    @task
    def fails():
        assert threading.current_thread() is here
        raise error

    here = threading.current_thread()
    with pytest.raises(ValueError) as raised:
        fails()
    assert raised.value is error


@pytest.mark.parametrize("method", ["submit", "map"])
def test_submit_and_map_need_a_flow(log, method):
    with pytest.raises(RuntimeError, match=f"{method}.*needs a flow") as raised:
        getattr(task(lambda x: x, name="t"), method)([1])
    assert isinstance(raised.value, MissingContextError)


def test_with_options_replaces_tags_and_asks_a_delay_callable_with_the_new_retries(log, clock):
    def delays(retries):
        return [retries] * retries

    @task(tags=["a"], retries=1, retry_delay_seconds=delays)
    def fails():
        raise ValueError

    other = fails.with_options(tags=["b"], retries=3)
    assert (other.tags, fails.tags) == ({"b"}, {"a"})
    with pytest.raises(ValueError):
        other()
    assert clock.slept == [3, 3, 3]


def test_a_returned_failed_state_is_retried_and_then_raised_with_its_cause(log):
    calls = []

    @task(retries=1)
    def gives_up():
        calls.append(1)
        return Failed("given up")

    with pytest.raises(Exception, match="given up"):
        gives_up()
    state = gives_up(return_state=True)
    assert (state.kind, state.cause, state.message) == ("Failed", "returned", "given up")
    assert len(calls) == 4


def test_a_returned_completed_state_is_used_as_it_is(log):
    state = task(lambda: Completed("well", data=3, name="Mine"))(return_state=True)
    assert (str(state), state.result()) == ("Mine('well', type=COMPLETED)", 3)


@pytest.mark.parametrize(("made", "cause"), [(Cancelled, "cancelled"), (Crashed, "crashed")])
def test_a_returned_cancelled_or_crashed_state_ends_the_run_without_a_retry(log, made, cause):
    calls = []

    @task(retries=3)
    def ends():
        calls.append(1)
        return made("so")

    state = ends(return_state=True)
    assert (state.kind, state.cause, len(calls)) == ("Failed", cause, 1)


@pytest.mark.parametrize("made", [Running, AwaitingRetry])
def test_a_returned_state_that_is_not_final_fails_the_run_with_the_reason(log, made):
    with pytest.raises(TypeError, match="not final"):
        task(lambda: made())()


def test_async_tasks_give_awaitables_and_sync_ones_run_inline(log):
    @task
    async def awaited():
        return 1

    @task
    def inline():
        return 2

    @flow
    async def both():
        return await awaited() + inline()

    assert asyncio.run(both()) == 3


def test_a_task_calls_tasks_and_flows_under_it(log):
    inner, below = task(lambda: 1, name="inner"), flow(lambda: 2, name="below")
    outer = task(lambda: inner() + below(), name="outer")
    assert flow(lambda: outer(), name="top")() == 3
    (run,) = log.run("top").children
    assert [(r.kind, r.folded.birth.name) for r in run.children] == [("task", "inner"), ("flow", "below")]


@task
def importable(x):
    return x + 1


def test_a_task_is_pickled_by_reference_where_it_can_be_imported():
    assert pickle.loads(pickle.dumps(importable)) is importable
    assert copy.deepcopy(importable) is importable


def test_a_task_made_elsewhere_travels_by_value():
    import cloudpickle

    made = task(lambda x: x * 2, name="made", retries=4)
    again = pickle.loads(cloudpickle.dumps(made))
    assert (again.name, again.retries, again.fn(3)) == ("made", 4, 6)


def test_upstream_runs_of_plain_values_are_known_while_the_value_is_the_very_object(log):
    @task
    def makes():
        return {"rows": [1, 2]}

    @task
    def takes(x):
        return None

    @flow
    def outer():
        value = makes()
        takes(value), takes({"rows": [1, 2]}), takes([value])

    outer()
    made = log.runs(name="makes")[0].folded.id
    assert [r.folded.birth.upstream for r in log.runs(name="takes")[::-1]] == [(made,), (), (made,)]


@pytest.mark.parametrize("value", [None, True, 0, 5, "word", ""])
def test_values_that_programs_share_never_make_false_parents(log, value):
    gives, takes = task(lambda: value, name="gives"), task(lambda x: x, name="takes")

    @flow
    def outer():
        gives()
        takes(value)

    outer()
    assert log.runs(name="takes")[0].folded.birth.upstream == ()

"""What programs do with runs, states, hooks and definitions, as Prefect's users write it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from pluperfect import Flow, Task, allow_failure, flow, get_run_logger, task
from pluperfect.client.schemas.objects import FlowRun, State, StateDetails, StateType, TaskRun
from pluperfect.context import FlowRunContext, TaskRunContext, get_run_context
from pluperfect.errors import InvalidNameError, MissingContextError, ParameterTypeError, ReservedArgumentError
from pluperfect.logging import get_logger
from pluperfect.runtime import flow_run as flow_run_at_hand
from pluperfect.settings import get_current_settings, temporary_settings
from pluperfect.states import Cancelled, Completed, Crashed, Failed, Pending, Retrying, Running, Scheduled
from pluperfect.utilities.hashing import file_hash

# --- runs, as hooks, contexts, conditions and keys show them


def shown_by_a_hook(authored_by, **options):
    seen = []
    authored = authored_by(on_completion=[lambda authored, run, state: seen.append((run, state))], **options)
    return authored, seen


def test_a_hook_of_a_flow_is_shown_a_flow_run_with_prefects_fields(log):
    decorate, seen = shown_by_a_hook(flow, version="3", tags=["b", "a"])

    @decorate
    def whole(n, word="default"):
        log.clock.sleep_until(log.clock.now() + 2)

    whole(4)
    ((run, state),) = seen
    assert isinstance(run, FlowRun)
    assert isinstance(run.id, UUID)
    assert str(run.id) == log.run("whole").id
    assert run.name == log.run("whole").name
    assert run.parameters == {"n": 4, "word": "default"}
    assert (run.tags, run.run_count, run.flow_version) == (["a", "b"], 1, "3")
    assert (run.state, run.state_name, run.state_type) == (state, "Completed", StateType.COMPLETED)
    assert run.start_time == run.created == run.expected_start_time
    assert run.end_time - run.start_time == run.total_run_time == timedelta(seconds=2)


def test_a_hook_of_a_task_is_shown_a_task_run_that_names_its_flow_run(log):
    decorate, seen = shown_by_a_hook(task, version="7")

    @decorate
    def step():
        return 1

    @task
    def between():
        return step()

    @flow
    def whole():
        between()

    whole()
    ((run, _),) = seen
    assert isinstance(run, TaskRun)
    assert str(run.flow_run_id) == log.run("whole").id
    assert (run.name, run.dynamic_key, run.task_version, run.task_key) == ("step-0", "0", "7", step.task_key)


def test_a_task_outside_of_flows_has_no_flow_run_id(log):
    decorate, seen = shown_by_a_hook(task)
    decorate(lambda: 1)()

    assert seen[0][0].flow_run_id is None


def test_two_views_of_one_run_are_equal_and_hash_alike(log):
    @flow
    def whole():
        return FlowRunContext.get().flow_run, get_run_context().flow_run

    one, two = whole()
    assert one == two
    assert len({one, two}) == 1


def test_contexts_show_runs_with_uuids_and_the_start_time(log):
    @task
    def step():
        here = TaskRunContext.get()
        return here.task_run.id, here.task_run.flow_run_id, here.start_time

    @flow
    def whole():
        here = FlowRunContext.get()
        return here.flow_run.id, here.start_time, step()

    flow_id, begun, (task_id, over, task_begun) = whole()
    assert (str(flow_id), str(task_id)) == (log.run("whole").id, log.run("step").id)
    assert over == flow_id
    assert begun == task_begun == datetime.fromtimestamp(log.clock.now(), UTC)


def test_a_retry_condition_is_shown_the_task_run_and_a_key_function_the_flow_run_id(log):
    seen = []

    @task(retries=1, retry_condition_fn=lambda _task, run, state: seen.append((run.name, run.run_count, state.name)))
    def fails():
        raise ValueError

    @task(cache_key_fn=lambda context, _: str(context.task_run.flow_run_id))
    def keyed(n):
        return n

    @flow
    def whole():
        fails(return_state=True)
        return keyed(1), keyed(2)

    state = whole(return_state=True)
    assert state.result() == (1, 1)
    assert seen == [("fails-0", 1, "Failed")]
    assert log.run("whole").children[-1].state.state_details.cache_key == log.run("whole").id


# --- state_details


def test_a_state_of_a_run_has_the_ids_around_it_also_when_it_is_read_from_the_log(log):
    @task
    def step():
        return 1

    @flow
    def whole():
        return step(return_state=True)

    state = whole(return_state=True)
    inner = state.result()
    for one, two in ((inner, log.run("step").state), (state, log.run("whole").state)):
        assert one.state_details == two.state_details
    assert str(inner.state_details.task_run_id) == log.run("step").id
    assert str(inner.state_details.flow_run_id) == log.run("whole").id
    assert str(state.state_details.flow_run_id) == log.run("whole").id
    assert state.state_details.task_run_id is None


def test_a_hit_names_its_key_and_a_wait_its_time(log):
    seen = []

    @task(cache_key_fn=lambda *_: "the key")
    def keyed():
        return 1

    @task(retries=1, retry_delay_seconds=5)
    def late():
        if not seen:
            seen.append(log.clock.now())
            raise ValueError
        return 1

    keyed(), late()
    (due,) = (t.to.state_details.scheduled_time for t in log.run("late").transitions if isinstance(t.to, Retrying))

    assert keyed(return_state=True).state_details.cache_key == "the key"
    assert due == datetime.fromtimestamp(seen[0] + 5, UTC)


def test_a_state_made_by_hand_has_empty_details():
    assert Completed().state_details == StateDetails()


# --- states by their type


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        (StateType.COMPLETED, Completed("m", 5)),
        (StateType.FAILED, Failed("m", data=5)),
        (StateType.CRASHED, Crashed("m", data=5)),
        (StateType.CANCELLED, Cancelled("m", data=5)),
        (StateType.RUNNING, Running("m")),
        (StateType.PENDING, Pending("m")),
        (StateType.SCHEDULED, Scheduled(message="m")),
        ("COMPLETED", Completed("m", 5)),
    ],
)
def test_a_state_is_made_by_its_type(type, expected):
    made = State(type=type, message="m", data=5)

    assert made == expected
    assert made.type == type
    assert State(type=type, name="Mine").name == "Mine"


def test_a_flow_ends_in_the_state_that_it_made_by_type_and_its_hooks_are_told(log):
    told = []

    @flow(on_crashed=[lambda *given: told.append(given[2].name)])
    def whole():
        return State(type=StateType.CRASHED, message="power cut")

    assert whole(return_state=True).is_crashed()
    assert told == ["Crashed"]


# --- hooks


def test_a_hook_stands_in_the_context_of_its_run(log, caplog):
    caplog.set_level(logging.INFO)
    seen = []

    def hook(authored, run, state):
        get_run_logger().info("said by %s", run.name)
        seen.append((get_run_context().flow_run == run, flow_run_at_hand.name == run.name))

    async def awaited(authored, run, state):
        await asyncio.sleep(0)
        hook(authored, run, state)

    flow(on_completion=[hook, awaited])(lambda: 1)()

    @flow(on_completion=[hook, awaited])
    async def whole():
        return 1

    asyncio.run(whole())
    assert seen == [(True, True)] * 4
    assert sum("said by" in line for line in caplog.messages) == 4


def test_what_a_hook_calls_is_a_run_of_its_own_with_a_context_of_its_own(log):
    seen = []

    @task
    def notify():
        seen.append(get_run_context().task_run.name)

    flow(on_completion=[lambda *_: notify()], name="whole")(lambda: 1)()

    assert seen == ["notify"]
    assert log.run("notify").parent is None


def test_the_failure_hook_is_told_of_parameters_that_do_not_fit(log):
    told = []

    def hook(authored, run, state):
        told.append(state.name)

    @flow(on_failure=[hook])
    def whole(n: int): ...

    @flow(on_failure=[hook])
    async def awaited(n: int): ...

    assert whole("x", return_state=True).is_failed()
    assert asyncio.run(awaited("x", return_state=True)).is_failed()
    assert told == ["Failed", "Failed"]


# --- definitions


def test_an_option_that_is_set_on_a_definition_counts_from_the_next_call(log):
    calls = []

    @task
    def fails():
        calls.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    fails.retries = 2
    with pytest.raises(ValueError):
        fails()

    assert (fails.retries, len(calls)) == (2, 4)
    with pytest.raises(TypeError):
        fails.retries = "many"


def test_bound_methods_are_flows_and_tasks_to_isinstance():
    class Holder:
        @flow
        def whole(self): ...

        @task
        def step(self): ...

    assert isinstance(Holder().whole, Flow)
    assert isinstance(Holder().step, Task)
    assert not isinstance(Holder().step, Flow)


@dataclasses.dataclass
class Point:
    x: int


@dataclasses.dataclass
class Box:
    items: list[int]


def test_a_default_that_can_be_made_to_fit_its_annotation_is(log):
    @flow
    def whole(a: int = "1", *, point: Point = {"x": 2}, odd: int = None):  # noqa: B006, RUF013
        return a, point, odd

    assert whole() == (1, Point(2), None)
    assert whole(5) == (5, Point(2), None)
    assert whole(point=Point(3)) == (1, Point(3), None)


def test_each_call_is_given_a_default_of_its_own(log):
    @flow
    def whole(box: Box = {"items": []}):  # noqa: B006
        box.items.append(1)
        return box.items

    assert (whole(), whole()) == ([1], [1])


def test_a_flow_has_the_hash_of_its_file_as_version():
    assert flow(test_a_flow_has_the_hash_of_its_file_as_version).version == file_hash(__file__)
    assert flow(version="2")(print).version == "2"
    assert task(print).version is None


def test_a_setting_takes_a_path(tmp_path):
    with temporary_settings({"PREFECT_HOME": tmp_path}):
        assert get_current_settings().home == str(tmp_path)


def test_a_coroutine_that_an_async_flow_returns_is_awaited(log):
    @task
    async def step():
        return 5

    @flow
    async def whole():
        return step()

    assert asyncio.run(whole()) == 5
    assert log.run("whole").result() == 5


# --- futures


@pytest.mark.parametrize("times", [1, 3])
def test_a_list_that_collects_the_very_futures_that_wait_for_it_is_no_deadlock(log, times):
    @task
    def step(n):
        return n

    @flow
    def whole():
        before = []
        for n in range(times):
            before.append(step.submit(n, wait_for=before))
        return [future.result(timeout=20) for future in before]

    assert whole() == list(range(times))


def test_a_future_in_its_own_arguments_is_an_error_and_no_deadlock(log):
    @task
    def step(given):
        return given

    @task
    def holds(event):
        assert event.wait(20)

    @flow
    def whole():
        import threading

        event, given = threading.Event(), []
        given.append(holds.submit(event))
        future = step.submit(given)  # it waits for the first one, and so has not looked at the second yet
        given.append(future)
        event.set()
        return future.result(timeout=20)

    with pytest.raises(ValueError, match="depends on itself.*deadlock"):
        whole()


def test_map_gives_each_call_the_exception_of_a_failure_that_is_allowed(log):
    @task
    def fails():
        raise ValueError("once")

    @task
    def step(n, error):
        return n, str(error)

    @flow
    def whole():
        return step.map([1, 2], allow_failure(fails.submit())).result()

    assert whole() == [(1, "once"), (2, "once")]


# --- words that programs match on


def refused(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: flow(name="a/b")(print), InvalidNameError, "contains an invalid character"),
        (lambda: flow(name=1)(print), TypeError, "Expected string for flow parameter 'name'; got int instead."),
        (lambda: flow(name=len)(print), TypeError, "Perhaps you meant to call it?"),
        (lambda: flow(flow_run_name=3)(print), TypeError, "Expected string or callable for 'flow_run_name'; got int"),
        (lambda: task(task_run_name=3)(print), TypeError, "Expected string or callable for 'task_run_name'; got int"),
        (lambda: task(on_failure=len)(print), TypeError, "Expected iterable for 'on_failure'; got builtin_function"),
        (lambda: task(on_failure=["x"])(print), TypeError, "Expected callables in 'on_failure'; got str instead."),
        (lambda: task(retry_delay_seconds=[1] * 51)(print), ValueError, "Can not configure more than 50 retry delays"),
        (lambda: task(retry_jitter_factor=-1)(print), ValueError, "`retry_jitter_factor` must be >= 0"),
        (lambda: task(lambda wait_for: 1), ReservedArgumentError, "'wait_for' is a reserved argument name"),
        (lambda: flow(validated)("x"), ParameterTypeError, "Flow run received invalid parameters"),
        (get_run_logger, MissingContextError, "no active flow or task run context"),
        (lambda: get_run_logger("mine"), TypeError, "Received unexpected type 'str' for context."),
        (get_run_context, MissingContextError, "No run context available"),
        (lambda: flow(lambda: 1, flow_run_name=lambda: 3)(), TypeError, "returned type int but a string is required"),
    ],
)
def test_an_error_has_the_words_that_programs_match_on(log, call, error, words):
    found = refused(call)

    assert isinstance(found, error)
    assert words in str(found)


def validated(n: int):
    return n


def test_a_passed_limit_is_told_in_prefects_words(log):
    @task(timeout_seconds=0.05)
    def slow():
        import time

        time.sleep(5)

    state = slow(return_state=True)
    assert "exceeded timeout of 0.05 second(s)" in state.message
    assert "timed out after 0.05 second(s)" in str(state.result(raise_on_failure=False))
    assert task(timeout_seconds=0)(print).timeout_seconds is None


def test_a_record_of_a_run_has_the_fields_that_prefects_formats_name(log, caplog):
    caplog.set_level(logging.INFO)

    @task
    def step():
        get_run_logger().info("here")

    @flow(name="whole")
    def whole():
        step()
        get_run_logger().info("there")

    whole()
    (of_task,) = (record for record in caplog.records if record.message == "here")
    (of_flow,) = (record for record in caplog.records if record.message == "there")
    assert (of_task.task_name, of_task.task_run_name) == ("step", "step-0")
    assert of_task.task_run_id == log.run("step").id
    assert (of_flow.flow_name, of_flow.flow_run_name) == ("whole", log.run("whole").name)
    assert of_flow.flow_run_id == log.run("whole").id


@pytest.mark.parametrize("name", [None, "", "pluperfect"])
def test_a_logger_without_a_name_is_the_one_at_the_top(name):
    assert get_logger(name).name == "pluperfect"


def test_the_modules_of_runtime_are_modules():
    from pluperfect.runtime import deployment, task_run

    assert all(map(inspect.ismodule, (flow_run_at_hand, task_run, deployment)))
    assert "parameters" in dir(flow_run_at_hand)
    with pytest.raises(AttributeError, match="flow_run has no attribute 'nothing'"):
        _ = flow_run_at_hand.nothing

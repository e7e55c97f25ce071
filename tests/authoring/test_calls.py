"""Calls of flows and tasks, direct, submitted and mapped, sync and async."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading

import pytest

import pluperfect
from pluperfect import flow, tags, task, unmapped, wait
from pluperfect.authoring.children import Children
from pluperfect.errors import (
    FailedRun,
    MappingLengthMismatch,
    MappingMissingIterable,
    MissingContextError,
    ParameterBindError,
    ReservedArgumentError,
    UpstreamFailed,
)
from pluperfect.futures import Future, as_completed
from pluperfect.runtime import flow_run, task_run
from pluperfect.testing import kinds


@task
def add(a, b=1):
    return a + b


@task
async def add_later(a, b=1):
    await asyncio.sleep(0)
    return a + b


@task
def fail(text="no"):
    raise ValueError(text)


def test_a_call_returns_the_very_object_and_records_born_running_completed(log):
    @task
    def same(x):
        return x

    value = [1, 2]

    assert same(value) is value
    assert kinds(log.runs()[0]) == ["Pending", "Running", "Completed"]
    assert log.runs()[0].result() == [1, 2]


def test_a_failing_call_raises_the_original_exception_and_records_it(log):
    with pytest.raises(ValueError, match="^no$"):
        fail()

    state = log.runs()[0].state
    assert kinds(log.runs()[0]) == ["Pending", "Running", "Failed"]
    assert (state.error.type, state.error.message) == ("ValueError", "no")
    assert "test_calls.py" in state.error.traceback
    assert "pluperfect/authoring" not in state.error.traceback
    with pytest.raises(ValueError, match="^no$"):
        state.result()


def test_return_state_gives_the_final_state_and_raises_nothing(log):
    assert add(1, return_state=True).result() == 2
    state = fail(return_state=True)

    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), ValueError)


def test_calls_inside_of_a_flow_are_its_children_in_call_order(log):
    @flow
    def two_steps(n):
        return add(add(n), b=10)

    assert two_steps(1) == 12

    run = log.runs(roots=True)[0]
    assert [child.name for child in run.children] == ["add-0", "add-1"]
    assert run.children[0].parent == run
    assert run.parameters == {"n": 1}


def test_submitted_calls_run_in_threads_and_give_futures(log):
    main = threading.get_ident()

    @task
    def where():
        return threading.get_ident()

    @flow
    def fan_out():
        first, second = where.submit(), add.submit(2)
        assert wait([first, second]).not_done == set()
        assert {f.result() for f in as_completed([second])} == {3}
        return first.result()

    assert fan_out() != main


def test_a_future_as_argument_is_awaited_and_replaced_by_its_result(log):
    @flow
    def chained():
        a = add.submit(1)
        b = add.submit(a, b=[a, {"x": a}][0])
        return add(b, 1)

    assert chained() == 5


def test_map_makes_a_run_for_each_item_with_unmapped_constants(log):
    @task
    def plus_sum(a, b):
        return a + sum(b)

    @flow
    def mapped(xs, ys):
        return plus_sum.map(xs, unmapped(ys)).result()

    assert mapped([4, 5, 6], [1, 2, 3]) == [10, 11, 12]
    children = log.runs(roots=True)[0].children
    assert [child.name for child in children] == ["plus_sum-0", "plus_sum-1", "plus_sum-2"]
    assert [child.folded.birth.map_index for child in children] == [0, 1, 2]


@pytest.mark.parametrize(
    ("args", "error"),
    [(([1, 2], [1]), MappingLengthMismatch), (([], [1]), MappingLengthMismatch), ((1, "abc"), MappingMissingIterable)],
)
def test_map_refuses_what_does_not_go_side_by_side(log, args, error):
    @flow
    def mapped():
        add.map(*args)

    with pytest.raises(error, match=r"add\.map\(\)"):
        mapped()


def test_map_over_nothing_is_an_empty_list_and_over_generators_and_futures_works(log):
    @task
    def three():
        return [1, 2, 3]

    @flow
    def mapped():
        assert add.map([]) == []
        return add.map(x for x in (1, 2)).result() + add.map(three.submit()).result()

    assert mapped() == [2, 3, 2, 3, 4]


def test_submit_and_map_outside_of_a_flow_say_what_is_missing(log):
    for attempt in (add.submit, add.map):
        with pytest.raises(MissingContextError, match="needs a flow around it"):
            attempt([1])


def test_async_flows_gather_async_tasks_on_one_loop(log):
    @flow
    async def gathered(n):
        return await asyncio.gather(*[add_later(i) for i in range(n)])

    assert asyncio.run(gathered(20)) == list(range(1, 21))
    assert {tuple(kinds(child)) for child in log.runs(roots=True)[0].children} == {("Pending", "Running", "Completed")}


def test_async_tasks_can_be_submitted_from_sync_and_async_flows(log):
    @flow
    def from_sync():
        return add_later.submit(1).result()

    @flow
    async def from_async():
        return await add_later.submit(1) + add_later.submit(2).result()

    assert from_sync() == 2
    assert asyncio.run(from_async()) == 5


def test_subflows_are_children_and_have_a_runner_of_their_own(log):
    @flow
    def inner(n):
        return add.submit(n).result()

    @flow
    def outer(n):
        return inner(n) + inner(n)

    assert outer(1) == 4
    run = log.runs(roots=True)[0]
    assert [(c.kind, len(c.children)) for c in run.children] == [("flow", 1), ("flow", 1)]


def test_a_call_whose_upstream_failed_is_not_made(log):
    @flow
    def broken():
        bad = fail.submit()
        state = add.submit(bad, return_state=True)
        assert (state.name, state.cause) == ("NotReady", "upstream")
        add(bad)

    with pytest.raises(UpstreamFailed) as caught:
        broken()
    assert isinstance(caught.value.__cause__, ValueError)
    assert kinds(log.runs(name="add")[0]) == ["Pending", "Failed"]


def test_a_flow_ends_after_its_children_and_is_judged_by_them(log):
    gate = threading.Event()

    @task
    def waits():
        gate.wait(10)

    @flow
    def leaves_early():
        waits.submit()
        threading.Timer(0.05, gate.set).start()

    state = leaves_early(return_state=True)

    assert state.message == "All states completed."
    child, run = log.runs(name="waits")[0], log.runs(roots=True)[0]
    assert child.state.is_completed()
    assert child.folded.updated <= run.folded.updated


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (lambda: None, "Completed", ""),
        (lambda: (add(1), None)[1], "Completed", "All states completed."),
        (lambda: (fail.submit(), None)[1], "Failed", "1/1 states failed."),
        (lambda: (fail.submit(), 5)[1], "Failed", "1/1 states failed."),
        (lambda: (fail(return_state=True), add(1), None)[2], "Completed", "1/2 states completed."),
        (lambda: (fail.submit().result(raise_on_failure=False), None)[1], "Completed", "0/1 states completed."),
        (lambda: [add.submit(1), fail.submit()], "Failed", "1/2 states failed."),
        (lambda: {"a": fail.submit(), "b": 1}, "Failed", "1/1 states failed."),
        (lambda: [add.submit(1)], "Completed", "All states completed."),
        (lambda: pluperfect.Completed(message="by hand"), "Completed", "by hand"),
        (lambda: pluperfect.Failed(message="by hand"), "Failed", "by hand"),
        (lambda: pluperfect.Running(), "Failed", None),
    ],
)
def test_the_final_state_of_a_flow_follows_from_value_and_children(log, body, kind, message):
    state = flow(name="judged")(body)(return_state=True)

    assert state.kind == kind
    if message is not None:
        assert state.message == message


def test_returned_futures_become_states_and_are_found_again_in_the_log(log):
    @flow
    def gives():
        return [add.submit(1), add.submit(2)]

    assert [state.result() for state in gives()] == [2, 3]
    assert [state.result() for state in log.runs(roots=True)[0].result()] == [2, 3]


def test_a_plain_call_of_a_flow_with_a_failed_child_raises_the_first_failure(log):
    @flow
    def gives():
        return [add.submit(1), fail.submit()]

    with pytest.raises(ValueError, match="no"):
        gives()


def test_a_returned_failed_state_raises_in_a_plain_call(log):
    @task
    def refuses():
        return pluperfect.Failed(message="I would rather not")

    with pytest.raises(FailedRun, match="rather not"):
        refuses()
    assert log.runs()[0].state.cause == "returned"


def test_a_keyboard_interrupt_is_recorded_as_crashed_and_raised_again(log):
    @task
    def interrupted():
        raise KeyboardInterrupt

    @flow
    def whole():
        interrupted()

    with pytest.raises(KeyboardInterrupt):
        whole()
    assert [run.state.name for run in log.runs()] == ["Crashed", "Crashed"]


def test_arguments_that_do_not_fit_make_no_run_and_show_the_signature(log):
    with pytest.raises(ParameterBindError, match=r"missing 1 required positional argument: 'a'.*add\(a, b=1\)"):
        add()
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        add(1, c=2)
    assert log.runs() == []


def test_reserved_parameter_names_are_refused_at_definition():
    with pytest.raises(ReservedArgumentError, match="wait_for"):

        @task
        def takes(wait_for):
            return wait_for


def test_decorated_functions_keep_name_doc_signature_and_raw_function():
    @task(name="named")
    def documented(a: int, *, b: str = "x") -> int:
        """Say something."""
        return a

    assert (documented.name, documented.__doc__, documented.__name__) == ("named", "Say something.", "documented")
    assert list(inspect.signature(documented).parameters) == ["a", "b"]
    assert documented.fn(3) == 3


def test_methods_can_be_tasks(log):
    class Greeter:
        def __init__(self, word):
            self.word = word

        @task
        def greet(self, name):
            return f"{self.word} {name}"

        @classmethod
        @task
        def made(cls):
            return cls.__name__

        @staticmethod
        @task
        def plain():
            return "plain"

    a, b = Greeter("Hello"), Greeter("Bye")
    greet_a, _ = a.greet, b.greet

    assert (greet_a("x"), b.greet("y")) == ("Hello x", "Bye y")
    assert (Greeter.made(), a.plain()) == ("Greeter", "plain")


def test_tags_of_decorator_and_blocks_are_united_and_found(log):
    @task(tags=["b"])
    def tagged():
        return task_run.tags

    with tags("a"), tags("c"):
        assert tagged() == ["a", "b", "c"]
    assert tagged() == ["b"]
    assert len(log.runs(tag="b")) == 2
    assert len(log.runs(tag="a")) == 1


def test_run_names_come_from_templates_and_callables(log):
    def by_runtime():
        return f"{flow_run.flow_name}-{task_run.task_name}-{task_run.parameters['limit']}"

    @task(task_run_name="hello-{name}-{n:03}")
    def templated(name, n=7):
        return task_run.name

    @task(task_run_name=by_runtime, name="my-task")
    def called(limit=100):
        return task_run.name

    @flow(flow_run_name="run-of-{x}")
    def my_flow(x):
        return templated("marvin"), called(), flow_run.name

    assert my_flow(1) == ("hello-marvin-007", "my-flow-my-task-100", "run-of-1")


def test_an_error_in_a_run_name_fails_the_run_before_it_begins(log):
    @task(task_run_name="{nobody}")
    def templated():
        raise AssertionError("never called")

    with pytest.raises(KeyError):
        templated()
    assert kinds(log.runs()[0]) == ["Pending", "Failed"]


def test_the_runtime_is_empty_outside_of_runs():
    assert (flow_run.id, flow_run.name, task_run.id, task_run.loop_count, task_run.parameters) == (
        None,
        None,
        None,
        0,
        {},
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"retrys": 3}, TypeError, "Did you mean 'retries'"),
        ({"timeout_second": 3}, TypeError, "timeout_seconds"),
        ({"timeout_seconds": -1}, ValueError, "0 or more"),
        ({"retries": -1}, ValueError, "retries"),
        ({"name": "a/b"}, ValueError, "a/b"),
        ({"name": 3}, TypeError, "Expected string for (flow|task) parameter"),
        ({"tags": "abc"}, TypeError, "list of strings"),
        ({"durability": "never"}, ValueError, "effect"),
        ({"on_interrupt": "fail", "durability": "lazy"}, ValueError, "at most once"),
        ({"task_run_name": 3}, TypeError, "template"),
        ({"on_completion": [3]}, TypeError, "on_completion"),
        ({"retry_condition_fn": 3}, TypeError, "retry_condition_fn"),
    ],
)
def test_a_bad_option_is_refused_where_it_is_given(options, error, words):
    with pytest.raises(error, match=words):
        task(**options)(lambda: None)


def test_an_option_that_nobody_declares_is_refused_at_the_first_call_naming_the_known_ones(log):
    @task(glow_in_the_dark=True)
    def odd():
        return 1

    with pytest.raises(TypeError, match="glow_in_the_dark.*Known: .*retries"):
        odd()


def test_with_options_counts_whatever_is_passed():
    base = task(retries=3, tags=["x"], name="base")(lambda: 1)
    changed = base.with_options(retries=0, tags=[])

    assert changed.given["retries"] == 0
    assert (changed.tags, changed.name, base.given["retries"]) == (frozenset(), "base", 3)


def test_a_worker_waiting_for_its_own_small_pool_does_not_deadlock(log):
    from pluperfect.task_runners import ThreadPoolTaskRunner

    @task
    def nested(depth):
        return depth if depth == 0 else nested.submit(depth - 1).result() + 1

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def deep():
        return nested.submit(4).result()

    assert deep() == 4


def test_an_unpackable_result_completes_with_the_live_object_and_the_reason_on_record(log, caplog):
    @task
    def gives_lock():
        return threading.Lock()

    assert gives_lock().acquire()
    run = log.runs()[0]
    assert run.state.kind == "Completed"
    assert "is not recorded" in caplog.text
    with pytest.raises(pluperfect.exceptions.MissingResult, match="lock"):
        run.result()


def test_a_call_interrupted_while_it_waits_ends_with_its_flow(uri):
    from pluperfect.testing import FakeClock

    class Interrupting(FakeClock):
        def sleep_until(self, due):
            raise KeyboardInterrupt

    @task(retries=1, retry_delay_seconds=60)
    def shaky():
        raise ConnectionError

    @flow
    def whole():
        shaky()

    with pluperfect.open(uri, clock=Interrupting(), entry_points=False) as log:
        with pytest.raises(KeyboardInterrupt):
            whole()
        child, run = log.runs(name="shaky")[0], log.runs(name="whole")[0]
        assert kinds(child) == ["Pending", "Running", "Retrying", "Failed"]
        assert (child.state.cause, run.state.cause) == ("cancelled", "crashed")


def test_the_runs_that_a_call_waited_for_stand_in_its_birth(log):
    @flow
    def chained():
        first = add.submit(1)
        return add.submit([first][0], b=2).result()

    assert chained() == 4
    first, second = log.runs(roots=True)[0].children
    assert second.folded.birth.upstream == (bytes.fromhex(first.id.replace("-", "")),)


def test_tasks_made_by_the_thousand_are_not_kept(log):
    import gc
    import weakref

    made = weakref.WeakSet()

    @flow
    def whole():
        for i in range(50):
            one = add.with_options(name=f"add-{i}")
            made.add(one)
            one(i)

    whole()
    gc.collect()
    assert len(made) <= 1


@pytest.mark.parametrize("make", [lambda work: work.submit(1), lambda work: work.map([1, 2])])
def test_a_runner_that_cannot_be_made_is_said_by_submit_and_leaves_nothing_open(log, make):
    said = []

    @flow(task_runner="nope")
    def whole():
        try:
            make(add)
        except Exception as error:
            said.append(str(error))
        return 1

    assert whole() == 1
    assert "nope" in said[0]
    assert [run.folded.birth.name for run in log.runs()] == ["whole"]
    assert log.runs()[0].state.is_completed()


@pytest.mark.parametrize("leaf", [add, add_later], ids=["sync", "async"])
def test_an_async_task_that_awaits_its_own_small_pool_does_not_deadlock(log, leaf):
    from pluperfect.task_runners import ThreadPoolTaskRunner

    @task
    async def one(n):
        return await leaf.submit(n)

    @task
    async def both(n):
        return sum(await asyncio.gather(leaf.submit(n), leaf.submit(n)))

    @task
    async def leaves(n):
        leaf.submit(n)  # is awaited at the end of the body
        return n

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        return [made.submit(1).result() for made in (one, both, leaves)]

    assert whole() == [2, 4, 1]
    assert all(run.state.is_completed() for run in log.runs())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_in_a_submitted_task_that_nobody_awaits_is_recorded_as_crashed_and_raised(log, kind):
    @task
    def leaves():
        raise kind(3)

    @flow(retries=1)
    def whole():
        fail.submit()
        leaves.submit()

    with pytest.raises(kind):
        whole()
    root = log.runs(roots=True)[0]
    assert (root.state.kind, root.state.cause, root.state.name) == ("Failed", "crashed", "Crashed")
    assert kinds(root) == ["Pending", "Running", "Failed"]


def test_a_key_on_a_flow_inside_of_another_is_refused_naming_both_and_the_way_out(log):
    @flow(idempotency_key="inner")
    def inner():
        return 1

    @flow
    def outer():
        return inner()

    with pytest.raises(ValueError, match=r"'inner' has an idempotency_key and is called inside .*idempotency_key=None"):
        outer()
    assert [run.state.kind for run in log.runs()] == ["Failed"]

    @flow
    def well():
        return inner.with_options(idempotency_key=None)()

    assert well() == 1


def test_the_result_of_a_state_takes_the_arguments_that_prefect_has(log):
    state = add(1, return_state=True)

    assert state.result(raise_on_failure=True, retry_result_failure=True, fetch=True) == 2
    assert asyncio.run(state.aresult(retry_result_failure=False, fetch=True)) == 2


@pytest.mark.parametrize("returned", ["flow", "task"])
def test_a_returned_final_state_keeps_its_kind_and_label_where_the_table_allows(log, returned):
    made = flow if returned == "flow" else task
    timed_out = made(name="late")(lambda: pluperfect.TimedOut(message="too late"))(return_state=True)
    cached = made(name="known")(lambda: pluperfect.Cached(data=3))(return_state=True)

    assert (timed_out.kind, timed_out.name, timed_out.message) == ("TimedOut", "TimedOut", "too late")
    assert (cached.kind, cached.name, cached.result()) == ("Completed", "Cached", 3)
    assert log.runs(name="late")[0].state.kind == "TimedOut"


def test_the_loop_count_of_the_first_iteration_can_stand_in_a_run_name(log):
    @task(task_run_name="part {part}, time {task_loop_count}")
    def loops(part):
        if task_run.loop_count == 1:
            raise pluperfect.LOOP
        return part

    assert loops(7) == 7
    assert log.runs()[0].folded.name == "part 7, time 1"


@pytest.mark.parametrize(
    ("decorate", "option", "words"),
    [
        (flow, "cache_policy", "@flow has no option 'cache_policy', which belongs to @task. Did you mean"),
        (
            flow,
            "task_run_name",
            "@flow has no option 'task_run_name', which belongs to @task. Did you mean 'flow_run_name'",
        ),
        (task, "idempotency_key", "@task has no option 'idempotency_key', which belongs to @flow. Did you mean"),
        (
            task,
            "task_runner",
            "@task has no option 'task_runner', which belongs to @flow. Did you mean 'task_run_name'",
        ),
    ],
)
def test_an_option_of_the_other_kind_is_refused_where_it_is_given(decorate, option, words):
    with pytest.raises(TypeError, match=words):
        decorate(**{option: None})(lambda: None)


def test_a_call_that_is_cancelled_after_its_flow_has_ended_ends_quietly(log, caplog):
    @task
    async def bad():
        raise ValueError("bad")

    @task
    async def slow():
        await asyncio.Event().wait()

    @flow
    async def whole():
        await asyncio.gather(bad(), slow())

    with pytest.raises(ValueError, match="bad"):
        asyncio.run(whole())
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    assert log.runs(name="slow")[0].state.cause == "cancelled"


@pytest.mark.parametrize("amid", ["count", "wait"])
def test_a_call_that_comes_amid_another_ones_bookkeeping_in_the_same_thread_is_made(log, amid):
    """As the end of a generator does that the garbage collector finds, and the handler of a signal may."""
    code = getattr(Children if hasattr(Children, amid) else Future, amid).__code__
    gaps, made = set(), []

    def come_in(frame, event, argument):
        if frame.f_code is not code:
            return None
        gap = event, frame.f_lineno
        if gap not in gaps:
            gaps.add(gap)
            sys.settrace(None)  # else this would come amid itself
            try:
                made.append(add(len(made)))
            finally:
                sys.settrace(come_in)
        return come_in

    @flow
    def calls():
        sys.settrace(come_in)
        try:
            return [add(1), add.submit(2).result(10), *add.map([3, 4]).result(10)]
        finally:
            sys.settrace(None)

    answers = []
    here = contextvars.copy_context()
    thread = threading.Thread(target=lambda: answers.append(here.run(calls)), daemon=True)
    thread.start()
    thread.join(60)
    assert answers == [[2, 3, 4, 5]]
    assert made == [*range(1, len(made) + 1)]

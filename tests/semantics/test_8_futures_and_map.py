"""Futures, what a call waits for, and calls side by side."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import itertools
import sys
import threading
import weakref

import pytest
from pydantic import BaseModel

import pluperfect
from pluperfect import allow_failure, as_completed, flow, opaque, quote, task, unmapped, wait
from pluperfect.authoring.futures import Future
from pluperfect.errors import (
    CancelledRun,
    MappingLengthMismatch,
    MappingMissingIterable,
    MissingContextError,
    UpstreamFailed,
    UpstreamTaskError,
)
from pluperfect.futures import PrefectFuture, PrefectFutureList, resolve_futures_to_results, resolve_futures_to_states
from pluperfect.states import Completed
from pluperfect.task_runners import ThreadPoolTaskRunner
from pluperfect.testing import kinds
from waiting import until


@task
def same(x=None):
    return x


@task
def fails(x=None):
    raise ValueError("no")


@task
async def same_async(x=None):
    return x


class Gate(threading.Event):
    """Opened at the end of a test at the latest, so that nothing waits for ever."""


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.set()


@pytest.fixture
def gated(gate):
    @task
    def gated(x=None):
        gate.wait(60)
        return x

    return gated


def inside(body, **options):
    """What a body gives that runs in a flow; the flow's own judgement of it aside."""
    given = []

    @flow(name="inside", **options)
    def whole():
        given.append(body())

    whole(return_state=True)
    return given[0]


# --- 8.1 one future


def test_wait_never_raises_neither_for_a_failure_nor_for_a_passed_time(log, gate, gated):
    def body():
        assert fails.submit().wait() is None
        late = gated.submit()
        assert late.wait(timeout=0.01) is None
        assert not late.done()
        gate.set()
        late.wait()
        assert late.done()
        return True

    assert inside(body)


def test_result_raises_a_timeout_error_when_waiting_too_long_and_the_call_goes_on(log, gate, gated):
    def body():
        late = gated.submit(5)
        with pytest.raises(TimeoutError):
            late.result(timeout=0.01)
        gate.set()
        return late.result(timeout=60)

    assert inside(body) == 5


def test_result_raises_the_failure_or_gives_it(log):
    def body():
        bad = fails.submit()
        with pytest.raises(ValueError, match="no"):
            bad.result()
        return bad.result(raise_on_failure=False)

    assert isinstance(inside(body), ValueError)


def test_a_future_has_a_state_an_id_and_tells_when_it_is_done(log, gate, gated):
    told = []

    def body():
        future = gated.submit()
        assert isinstance(future, PrefectFuture)
        assert not future.state.is_final()
        future.add_done_callback(told.append)
        assert told == []
        gate.set()
        future.wait()
        assert future.state.is_completed()
        assert log.run(str(future.task_run_id)).name == "gated-0"
        future.add_done_callback(told.append)
        return future

    future = inside(body)
    assert told == [future, future]


def test_submit_with_return_state_waits(log):
    assert inside(lambda: same.submit(1, return_state=True)).result() == 1
    assert inside(lambda: fails.submit(return_state=True)).is_failed()


def test_submit_is_a_plain_call_for_async_tasks_too(log):
    assert inside(lambda: same_async.submit(3).result()) == 3

    @flow
    async def whole():
        future = same_async.submit(4)
        assert isinstance(future, PrefectFuture)
        return await future

    assert asyncio.run(whole()) == 4


@pytest.mark.parametrize("call", [lambda: same.submit(1), lambda: same.map([1])], ids=["submit", "map"])
def test_outside_of_a_flow_there_is_no_runner_and_the_error_says_so(log, call):
    with pytest.raises(RuntimeError, match="flow"):
        call()
    with pytest.raises(MissingContextError):
        call()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_waits_for_its_own_pool_makes_the_call_itself(log, workers):
    @task
    def outer(n):
        return same.submit(n).result() + 1

    assert inside(lambda: outer.map([1, 2, 3]).result(), task_runner=ThreadPoolTaskRunner(workers)) == [2, 3, 4]


# --- 8.1 several futures


def test_a_list_of_futures_waits_and_gives_results_in_the_order_of_the_inputs(log):
    def body():
        futures = same.map([3, 1, 2])
        assert isinstance(futures, PrefectFutureList)
        futures.wait()
        return futures.result()

    assert inside(body) == [3, 1, 2]


def test_a_list_raises_at_the_first_failure_or_gives_exceptions_in_place(log):
    @task
    def odd(n):
        if n % 2 == 0:
            raise ValueError(n)
        return n

    def body():
        futures = odd.map([1, 2, 3, 4])
        with pytest.raises(ValueError, match="2"):
            futures.result()
        return futures.result(raise_on_failure=False)

    one, two, three, four = inside(body)
    assert (one, three) == (1, 3)
    assert (two.args, four.args) == ((2,), (4,))


def test_a_list_raises_a_timeout_error_when_waiting_too_long(log, gate, gated):
    def body():
        futures = gated.map([1, 2])
        with pytest.raises(TimeoutError):
            futures.result(timeout=0.01)
        gate.set()
        return True

    assert inside(body)


def test_wait_gives_who_is_done_and_who_is_not(log, gate, gated):
    def body():
        quick, slow = same.submit(1), gated.submit(2)
        quick.wait()
        done, not_done = wait([quick, slow], timeout=0.01)
        assert (done, not_done) == ({quick}, {slow})
        gate.set()
        found = wait([quick, slow])
        assert (found.done, found.not_done) == ({quick, slow}, set())
        return True

    assert inside(body)


def test_as_completed_gives_each_once_in_the_order_of_completion(log):
    gates = [threading.Event() for _ in range(3)]

    @task
    def in_turn(i):
        gates[i].wait(60)
        return i

    def body():
        seen = []
        gates[2].set()
        for future in as_completed(in_turn.map([0, 1, 2])):
            seen.append(future.result())
            if seen[-1]:
                gates[seen[-1] - 1].set()
        return seen

    assert inside(body) == [2, 1, 0]


def test_as_completed_gives_a_future_once_that_is_named_twice(log):
    def body():
        future = same.submit(1)
        return len(list(as_completed([future, future])))

    assert inside(body) == 1


def test_as_completed_raises_with_counts_when_waiting_too_long(log, gate, gated):
    def body():
        quick = same.submit(1)
        quick.wait()
        with pytest.raises(TimeoutError, match="1.* of 2"):
            list(as_completed([quick, gated.submit()], timeout=0.01))
        gate.set()
        return True

    assert inside(body)


@pytest.mark.parametrize("call", [lambda f: wait(f, timeout=-1), lambda f: list(as_completed(f, timeout=-1))])
def test_a_negative_timeout_is_refused(log, call):
    def body():
        with pytest.raises(ValueError, match="-1"):
            call([same.submit(1)])
        return True

    assert inside(body)


@dataclasses.dataclass
class Pair:
    left: object
    right: object


class Model(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    part: object


WRAPS = {
    "bare": (lambda x: x, lambda x: x),
    "list": (lambda x: [1, x], lambda x: x[1]),
    "tuple": (lambda x: (1, x), lambda x: x[1]),
    "set": (lambda x: {x}, lambda x: next(iter(x))),
    "dict": (lambda x: {"a": x}, lambda x: x["a"]),
    "key": (lambda x: {x: "a"}, lambda x: next(iter(x))),
    "dataclass": (lambda x: Pair(1, x), lambda x: x.right),
    "pydantic": (lambda x: Model(part=x), lambda x: x.part),
    "deep": (lambda x: {"a": [({"b": x},)]}, lambda x: x["a"][0][0]["b"]),
}
wraps = pytest.mark.parametrize("shape", WRAPS)


@wraps
def test_futures_are_resolved_to_results_and_to_states_wherever_they_stand(log, shape):
    wrap, unwrap = WRAPS[shape]

    def body():
        future = same.submit(7)
        return unwrap(resolve_futures_to_results(wrap(future))), unwrap(resolve_futures_to_states(wrap(future)))

    result, state = inside(body)
    assert result == 7
    assert state.is_completed()
    assert state.result() == 7


def test_resolving_to_results_raises_where_a_future_failed(log):
    def body():
        with pytest.raises(UpstreamTaskError, match="At least one result did not complete successfully") as caught:
            resolve_futures_to_results([same.submit(1), fails.submit()])
        assert isinstance(caught.value.__cause__, ValueError)
        return resolve_futures_to_states([fails.submit()])

    assert inside(body)[0].is_failed()


# --- 8.2 upstream


@wraps
@pytest.mark.parametrize("what", ["future", "state"])
def test_a_run_anywhere_in_the_arguments_is_awaited_and_replaced(log, shape, what):
    wrap, unwrap = WRAPS[shape]
    take = task(lambda x: unwrap(x), name="take")

    def body():
        run = same.submit(7) if what == "future" else same(7, return_state=True)
        return take(wrap(run)), take.submit(wrap(run)).result(), take.submit(x=wrap(run)).result()

    assert inside(body) == (7, 7, 7)


def test_generators_and_other_objects_are_not_entered(log):
    def body():
        future = same.submit(1)
        held = type("Held", (), {"future": future})()
        assert same(held).future is future
        return same.submit(held).result().future is future

    assert inside(body)


def test_wait_for_is_awaited_and_hands_nothing_over(log, gate, gated):
    order = []
    note = task(lambda: order.append("after"), name="note")

    def body():
        first = gated.submit()
        first.add_done_callback(lambda _: order.append("first"))
        second = note.submit(wait_for=[first])
        gate.set()
        return second.result()

    inside(body)
    assert order == ["first", "after"]


def test_a_call_that_waits_for_a_failure_is_not_made(log):
    def body():
        return same.submit(1, wait_for=[fails.submit()], return_state=True)

    assert inside(body).name == "NotReady"
    assert kinds(log.runs(name="same")[0]) == ["Pending", "Failed"]


def test_a_failed_upstream_makes_failed_upstream_and_cascades(log):
    made = []
    noted = task(lambda x: made.append(x), name="noted", retries=3)

    def body():
        return noted.submit(noted.submit(noted.submit(fails.submit())), return_state=True)

    state = inside(body)
    assert (state.kind, state.cause, state.name) == ("Failed", "upstream", "NotReady")
    assert made == []
    assert [kinds(run) for run in log.runs(name="noted")] == [["Pending", "Failed"]] * 3


def test_the_error_names_the_upstream_run_and_is_chained_to_its_cause(log):
    def body():
        bad = fails.submit()
        with pytest.raises(UpstreamFailed, match="fails-0") as direct:
            same(bad)
        with pytest.raises(UpstreamTaskError) as submitted:
            same.submit(bad).result()
        return direct.value, submitted.value

    for error in inside(body):
        assert isinstance(error.__cause__, ValueError)


def test_with_return_state_a_direct_call_gives_the_state(log):
    assert inside(lambda: same(fails.submit(), return_state=True)).name == "NotReady"


def test_a_failed_state_as_argument_stands_in_the_way_too(log):
    def body():
        return same(fails(return_state=True), return_state=True)

    assert inside(body).name == "NotReady"


# --- marks


def test_allow_failure_hands_over_the_exception(log):
    assert isinstance(inside(lambda: same(allow_failure(fails.submit()))), ValueError)
    assert isinstance(inside(lambda: same.submit(allow_failure(fails.submit())).result()), ValueError)
    assert inside(lambda: same(allow_failure(same.submit(1)))) == 1


def test_allow_failure_holds_in_lists_and_in_wait_for(log):
    one, error = inside(lambda: same(allow_failure([same.submit(1), fails.submit()])))
    assert one == 1
    assert isinstance(error, ValueError)
    assert isinstance(inside(lambda: same([allow_failure(fails.submit())]))[0], ValueError)
    assert inside(lambda: same(2, wait_for=[allow_failure(fails.submit())])) == 2


def test_of_an_upstream_failure_allow_failure_hands_over_the_upstream_failed(log):
    assert isinstance(inside(lambda: same(allow_failure(same.submit(fails.submit())))), UpstreamFailed)


@pytest.mark.parametrize("make", [pluperfect.states.Crashed, pluperfect.states.Cancelled])
def test_allow_failure_does_not_let_a_crash_or_a_cancellation_pass(log, make):
    ends = task(lambda: make("over"), name="ends")
    assert inside(lambda: same(allow_failure(ends.submit()), return_state=True)).name == "NotReady"


@pytest.mark.parametrize("nest", [lambda x: unmapped(allow_failure(x)), lambda x: allow_failure(unmapped(x))])
def test_allow_failure_and_unmapped_nest_both_ways(log, nest):
    take = task(lambda n, x: (n, type(x).__name__), name="take")
    assert inside(lambda: take.map([1, 2], nest(fails.submit())).result()) == [(1, "ValueError"), (2, "ValueError")]


def test_quote_is_neither_awaited_nor_entered(log, gate, gated):
    def body():
        future = gated.submit()
        given = same(quote([future]))
        gate.set()
        return given[0] is future

    assert inside(body)


def test_opaque_is_resolved_at_its_top_and_not_entered(log):
    def body():
        inner = same.submit(1)
        outer = same.submit(quote([inner]))
        assert same(opaque(outer))[0] is inner
        return same(opaque([inner]))[0] is inner

    assert inside(body)


def test_the_parents_of_a_call_are_the_runs_that_its_arguments_come_from(log):
    def body():
        first, second = same.submit([1]), same.submit([2])
        third = same.submit([first, {"k": second}])
        fourth = same.submit(third.result())
        return first, second, third, fourth

    first, second, third, fourth = (log.load(future.run_id) for future in inside(body))
    assert set(third.birth.upstream) == {first.id, second.id}
    assert third.id in fourth.birth.upstream


def test_equal_plain_values_are_no_parents(log):
    def body():
        same(1)
        return same.submit(1)

    assert log.load(inside(body).run_id).birth.upstream == ()


def test_a_future_awaited_elsewhere_that_was_cancelled_raises(log):
    def body():
        with pytest.raises((CancelledRun, UpstreamFailed)):
            same.submit(task(lambda: pluperfect.states.Cancelled("off"), name="off").submit()).result()
        return True

    assert inside(body)


# --- 8.3 map


@task
def add(a, b=10, *more, **named):
    return (a, b, *more, *sorted(named.items()))


def test_iterables_go_side_by_side_and_defaults_are_not_mapped(log):
    assert inside(lambda: add.map([1, 2], [3, 4]).result()) == [(1, 3), (2, 4)]
    assert inside(lambda: add.map([1, 2]).result()) == [(1, 10), (2, 10)]
    assert inside(lambda: add.map(a=[1, 2], b=[3, 4]).result()) == [(1, 3), (2, 4)]

    listed = task(lambda a, b=(1, 2, 3): b, name="listed")
    assert inside(lambda: listed.map([1]).result()) == [(1, 2, 3)]


def test_with_return_state_map_gives_states(log):
    states = inside(lambda: same.map([1, 2], return_state=True))
    assert isinstance(states, list)
    assert [state.result() for state in states] == [1, 2]


ITERABLES = [
    ([1, 2], [1, 2]),
    ((1, 2), [1, 2]),
    ({1}, [1]),
    (range(2), [0, 1]),
    ({"a": 1, "b": 2}, ["a", "b"]),
    ({"a": 1}.values(), [1]),
]


@pytest.mark.parametrize(("given", "items"), ITERABLES, ids=[type(row[0]).__name__ for row in ITERABLES])
def test_whatever_can_be_iterated_over_is_listed(log, given, items):
    assert inside(lambda: same.map(given).result()) == items


def test_generators_are_listed(log):
    assert inside(lambda: same.map(n * n for n in range(3)).result()) == [0, 1, 4]


@pytest.mark.parametrize("plain", ["text", b"bytes", 5, None, 1.5])
def test_texts_bytes_and_plain_values_are_the_same_for_every_call(log, plain):
    assert inside(lambda: add.map([1, 2], plain).result()) == [(1, plain), (2, plain)]


def test_a_file_is_not_iterated_over(log, tmp_path):
    path = tmp_path / "lines"
    path.write_text("a\nb\n")
    with path.open() as file:
        second = task(lambda a, b: b is file, name="second")
        assert inside(lambda: second.map([1, 2], file).result()) == [True, True]


def test_further_keywords_are_mapped_one_by_one(log):
    assert inside(lambda: add.map([1, 2], 0, c=[5, 6], d="x").result()) == [
        (1, 0, ("c", 5), ("d", "x")),
        (2, 0, ("c", 6), ("d", "x")),
    ]


@pytest.mark.parametrize(
    ("args", "lengths"), [(([1, 2], [1]), "2.*1"), (([], [1]), "0.*1"), (([1], [1, 2], [1, 2, 3]), "1.*2.*3")]
)
def test_lengths_that_differ_are_an_error_that_tells_them(log, args, lengths):
    def body():
        with pytest.raises(MappingLengthMismatch, match=lengths):
            add.map(*args)
        return True

    assert inside(body)
    assert log.runs(name="add") == []


@pytest.mark.parametrize("args", [(1,), ("text",), (unmapped([1, 2]),), ()])
def test_with_nothing_to_iterate_over_there_is_an_error(log, args):
    def body():
        with pytest.raises(MappingMissingIterable):
            same.map(*args)
        return True

    assert inside(body)


def test_all_empty_gives_an_empty_list(log):
    assert inside(lambda: same.map([])) == []
    assert inside(lambda: add.map([], []).result()) == []


def test_unmapped_is_the_same_for_every_call_even_where_it_could_be_iterated_over(log):
    total = task(lambda a, b: a + sum(b), name="total")
    assert inside(lambda: total.map([4, 5, 6], unmapped([1, 2, 3])).result()) == [10, 11, 12]


def test_a_future_as_argument_is_iterated_over_and_deeper_ones_are_resolved_in_the_children(log):
    def body():
        listed = same.submit([1, 2])
        parts = [same.submit(1), [same.submit(2)]]
        return same.map(listed).result(), same.map(parts).result()

    assert inside(body) == ([1, 2], [1, [2]])


def test_the_futures_of_one_map_are_mapped_over_by_the_next(log):
    assert inside(lambda: same.map(same.map([1, 2])).result()) == [1, 2]


def test_a_failed_future_as_argument_raises_upstream_failed_in_the_body(log):
    def body():
        with pytest.raises(UpstreamFailed):
            same.map(fails.submit())
        return True

    assert inside(body)


def test_of_a_list_that_holds_failed_ones_only_those_children_fail(log):
    states = inside(lambda: same.map([same.submit(1), fails.submit()], return_state=True))
    assert [state.name for state in states] == ["Completed", "NotReady"]


def test_with_allow_failure_those_children_get_the_exception(log):
    one, error = inside(lambda: same.map(allow_failure([same.submit(1), fails.submit()])).result())
    assert one == 1
    assert isinstance(error, ValueError)


def test_wait_for_holds_for_each_child(log):
    states = inside(lambda: same.map([1, 2], wait_for=[fails.submit()], return_state=True))
    assert [state.name for state in states] == ["NotReady"] * 2


def test_each_child_is_a_run_with_its_own_name_retries_and_cache(log):
    from pluperfect.cache_policies import INPUTS

    tries = []

    @task(retries=1, cache_policy=INPUTS)
    def shaky(n):
        tries.append(n)
        if tries.count(n) == 1:
            raise ValueError
        return n

    assert inside(lambda: shaky.map([1, 2]).result()) == [1, 2]
    runs = log.runs(name="shaky")
    assert {run.name for run in runs} == {"shaky-0", "shaky-1"}
    assert [kinds(run) for run in runs] == [["Pending", "Running", "Retrying", "Running", "Completed"]] * 2
    assert inside(lambda: shaky.map([2, 3]).result()) == [2, 3]
    assert sorted(tries) == [1, 1, 2, 2, 3, 3]


def test_async_tasks_are_mapped_in_sync_and_async_flows(log):
    assert inside(lambda: same_async.map([1, 2]).result()) == [1, 2]

    @flow
    async def whole():
        return await asyncio.gather(*same_async.map([1, 2]))

    assert asyncio.run(whole()) == [1, 2]


def test_who_is_interrupted_anywhere_as_he_begins_to_wait_leaves_a_future_for_which_others_can_wait(log):
    lines = {line for _, _, line in Future.wait.__code__.co_lines() if line is not None}
    interrupted = []

    def interrupt_at(line):
        def local(frame, event, arg):
            if event == "line" and frame.f_lineno == line:
                sys.settrace(None)
                interrupted.append(line)
                raise KeyboardInterrupt
            return local

        return lambda frame, event, arg: local if frame.f_code is Future.wait.__code__ else None

    @task
    def slow(gate):
        assert gates[gate].wait(20)
        return 7

    @flow
    def work():
        for number, line in enumerate(sorted(lines)):
            gates.append(threading.Event())
            future, ended = slow.submit(number), []
            sys.settrace(interrupt_at(line))
            try:
                future.wait(0.01)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            future.add_done_callback(lambda _, ended=ended: ended.append(True))
            gates[number].set()
            assert future.result(20) == 7
            assert ended == [True]

    gates = []
    work()
    assert len(interrupted) > 5


class Thing:
    """Something that can be referred to weakly."""


_seen = contextvars.ContextVar("_seen", default=None)


@task
def looks_at(thing):
    _seen.set(thing)
    return 1


@task
async def looks_at_async(thing):
    _seen.set(thing)
    return 1


@pytest.mark.parametrize("looking", [looks_at, looks_at_async])
@pytest.mark.parametrize("durability", ["effect", "lazy"])
def test_a_future_that_has_ended_holds_nothing_of_its_call_but_the_result(log, durability, looking):
    @flow(durability=durability)
    def body():
        thing = Thing()
        held, future = weakref.ref(thing), looking.submit(thing)
        assert future.result() == 1
        del thing
        until(lambda: held() is None)
        assert (future.run_name, str(future.state.state_details.task_run_id)) == (
            f"{looking.name}-0",
            future.task_run_id,
        )
        return future

    assert body().result() == 1


@dataclasses.dataclass
class Point:
    x: int


GIVEN = {
    "none": lambda: None,
    "number": lambda: 7,
    "list": lambda: [7],
    "tuple": lambda: (7, "a"),
    "object": lambda: Point(7),
    "large": lambda: b"x" * 10_000,
    "closure": lambda: lambda: 7,
    "state": lambda: Completed("as it should be", [7], name="Fine"),
}


@pytest.mark.parametrize("what", GIVEN)
@pytest.mark.parametrize("options", [{}, {"cache_result_in_memory": False}, {"persist_result": False}], ids=str)
def test_the_state_of_a_future_that_has_ended_is_the_recorded_one_and_the_same_each_time(log, what, options):
    made = GIVEN[what]()

    @task(**options)
    def gives():
        return made

    def body():
        future = gives.submit()
        future.wait()
        return future

    future = inside(body)
    value = future.result()
    state, recorded = future.state, log.run(future.task_run_id).state
    assert future.state is state
    assert repr(future) == "<Future gives-0 Completed>"
    assert (state, state.name, state.message) == (recorded, recorded.name, recorded.message)
    assert (state.of_run, state.timestamp, state.attempt) == (recorded.of_run, recorded.timestamp, recorded.attempt)
    assert state.state_details == recorded.state_details
    if what == "state":
        assert value == state.result() == [7]
    elif options.get("cache_result_in_memory", True):
        assert value is made
        assert state.result() is future.result() is made
    elif what == "closure":
        assert value() == state.result()() == 7
    else:
        assert value == state.result() == made
        assert what in ("none", "number", "large") or value is not made


def interrupted_at(nth):
    """Whether the end of a submitted call was interrupted at its n-th line, and whoever waited for it heard of the end."""
    lines, hits = itertools.count(1), []
    codes = {Future.settle.__code__, Future.tell.__code__}

    def trace(frame, event, argument):
        if frame.f_code not in codes:
            return None
        if event == "line" and next(lines) == nth:
            hits.append(nth)
            raise KeyboardInterrupt
        return trace

    waits = threading.Event()

    @task
    def one():
        assert waits.wait(20)
        sys.settrace(trace)
        return 1

    @flow
    def body():
        future = one.submit()
        threading.Timer(0.0, waits.set).start()
        future.wait()
        future.look()
        return future.done()

    heard = []

    def led():
        with pluperfect.open("memory:", entry_points=False):
            try:
                heard.append(body())
            except BaseException as error:
                heard.append(error)

    leads = threading.Thread(target=led, daemon=True)
    leads.start()
    leads.join(20)
    assert heard, f"nobody heard of a call whose end was interrupted at line {nth}"
    return bool(hits)


def test_who_waits_hears_of_an_end_that_was_interrupted_anywhere():
    assert interrupted_at(1)
    assert len([*itertools.takewhile(interrupted_at, range(2, 100))]) > 10

"""Section 10: async functions, generators, methods, nesting, subflows."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import threading

import pytest

from pluperfect import LOOP, flow, task
from pluperfect.errors import ParameterBindError, UpstreamFailed
from pluperfect.runtime import flow_run, task_run
from pluperfect.testing import kinds

# --- generators -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", [flow, task])
def test_a_generator_is_running_while_it_yields_and_completed_when_it_is_exhausted(log, decorator):
    @decorator
    def numbers():
        yield 1
        yield 2
        return "the end"

    items = numbers()
    assert log.runs() == []
    assert next(items) == 1
    assert kinds(log.runs()[0]) == ["Pending", "Running"]
    assert next(items) == 2
    with pytest.raises(StopIteration) as stop:
        next(items)
    assert stop.value.value == "the end"
    assert log.runs()[0].result() == "the end"


@pytest.mark.parametrize("decorator", [flow, task])
def test_an_asynchronous_generator_likewise_and_its_result_is_none(log, decorator):
    @decorator
    async def numbers():
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def consume():
        return [item async for item in numbers()]

    assert asyncio.run(consume()) == [1, 2]
    assert log.runs()[0].state.is_completed()
    assert log.runs()[0].result() is None


def test_an_error_fails_the_run_and_is_raised_to_the_consumer(log):
    @task
    def breaks():
        yield 1
        raise LookupError("gone")

    seen = []
    with pytest.raises(LookupError, match="gone"):
        for item in breaks():
            seen += [item]
    assert seen == [1]
    assert log.run("breaks").state.is_failed()


def test_a_retry_yields_the_earlier_items_again(log):
    @task(retries=1)
    def breaks():
        yield 1
        if task_run.run_count == 1:
            raise LookupError("gone")
        yield 2

    assert list(breaks()) == [1, 1, 2]
    assert kinds(log.run("breaks")) == "Pending Running Retrying Running Completed".split()


@pytest.mark.parametrize("how", ["close", "break", "del"])
def test_a_generator_that_is_closed_early_completed_with_none(log, how):
    finished = []

    @task
    def numbers():
        try:
            yield from range(10)
        finally:
            finished.append(task_run.name)

    items = numbers()
    if how == "break":
        for item in items:
            if item == 3:
                break
        items.close()
    else:
        next(items)
        if how == "close":
            items.close()
        else:
            del items
            gc.collect()
    assert finished == ["numbers"]
    assert kinds(log.run("numbers")) == ["Pending", "Running", "Completed"]
    assert log.run("numbers").result() is None


def test_an_asynchronous_generator_that_is_closed_early_completed_with_none(log):
    @task
    async def numbers():
        for i in range(10):
            yield i

    async def consume():
        items = numbers()
        assert await items.__anext__() == 0
        await items.aclose()

    asyncio.run(consume())
    assert kinds(log.run("numbers")) == ["Pending", "Running", "Completed"]


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_generator_that_a_flow_leaves_ends_before_the_flow(log, ends):
    @task
    def numbers():
        yield from range(10)

    @flow
    def outer():
        items = numbers()
        next(items)
        if ends == "raises":
            raise ValueError
        return 1

    outer(return_state=True)
    left = log.run("outer").children[0]
    assert left.state.is_completed()
    assert left.folded.updated <= log.run("outer").folded.updated


def test_an_asynchronous_generator_that_a_flow_leaves_ends_before_the_flow(log):
    @task
    async def numbers():
        for i in range(10):
            yield i

    @flow
    async def outer():
        async for _ in numbers():
            break
        return 1

    assert asyncio.run(outer()) == 1
    assert log.run("outer").children[0].state.is_completed()


def test_between_two_items_the_consumer_is_where_it_was(log):
    @task
    def numbers():
        for i in range(2):
            assert task_run.task_name == "numbers"
            yield i

    @flow
    def outer():
        seen = []
        for _ in numbers():
            seen.append((task_run.task_name, flow_run.name == log.run("outer").name))
        return seen

    assert outer() == [(None, True)] * 2


def test_calls_that_a_generator_makes_are_its_children_and_consumers_have_it_upstream(log):
    inner = task(lambda x: [x], name="inner")
    consume = task(lambda x: x, name="consume")

    @task
    def numbers():
        for i in range(2):
            yield inner(i)

    @flow
    def outer():
        for item in numbers():
            consume(item)

    outer()
    generator = log.runs(name="numbers")[0]
    assert [r.folded.birth.name for r in generator.children] == ["inner", "inner"]
    # The value came out of `inner` and, on its way, out of the generator: both are its sources.
    assert all(generator.folded.id in r.folded.birth.upstream for r in log.runs(name="consume"))


def test_who_consumes_a_generator_is_cancelled_as_the_loop_says_and_does_not_see_it_end(log, caplog):
    seen = []

    @task
    async def endless():
        for n in itertools.count():
            await asyncio.sleep(0)
            yield n

    @task
    async def fails():
        await asyncio.sleep(0)
        raise ValueError("meanwhile")

    @flow
    async def whole():
        async def consume():
            try:
                async for _ in endless():
                    pass
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            seen.append("ended")

        await asyncio.gather(consume(), fails())

    with pytest.raises(ValueError, match="meanwhile"):
        asyncio.run(whole())
    assert seen == ["cancelled"]
    assert log.runs(name="endless")[0].state.is_cancelled()
    assert not [record for record in caplog.records if record.exc_info]


def test_what_is_sent_and_thrown_reaches_the_generator(log):
    @task
    def echo():
        said = yield "ready"
        while True:
            try:
                said = yield f"heard {said}"
            except KeyError:
                said = "an error"

    items = echo()
    assert next(items) == "ready"
    assert items.send("hello") == "heard hello"
    assert items.throw(KeyError("x")) == "heard an error"
    items.close()


def test_a_generator_has_no_return_state(log):
    @task
    def numbers():
        yield 1

    with pytest.raises(TypeError, match="return_state"):
        numbers(return_state=True)


def test_a_submitted_generator_is_listed(log):
    @task
    def numbers():
        yield from range(3)

    @task
    async def anumbers():
        for i in range(3):
            yield i

    assert flow(lambda: (numbers.submit().result(), anumbers.submit().result()))() == ([0, 1, 2], [0, 1, 2])


def test_a_loop_signal_in_a_generator_fails_with_the_reason(log):
    @task
    def loops():
        yield 1
        raise LOOP(result=2)

    with pytest.raises(TypeError, match="generator"):
        list(loops())


def test_a_generator_is_not_cached(log):
    from pluperfect.cache_policies import INPUTS

    @task(cache_policy=INPUTS)
    def numbers(n):
        yield from range(n)

    assert list(numbers(2)) == list(numbers(2)) == [0, 1]


def test_the_limit_of_a_generator_is_that_of_its_attempt(log):
    import time

    @task(timeout_seconds=0.05)
    def slow():
        yield 1
        until = time.monotonic() + 5
        while time.monotonic() < until:
            pass
        yield 2

    with pytest.raises(TimeoutError):
        list(slow())
    assert log.run("slow").state.is_timed_out()


def test_an_asynchronous_generator_past_its_limit_is_timed_out(log):
    @task(timeout_seconds=0.02)
    async def slow():
        yield 1
        await asyncio.sleep(60)

    async def consume():
        return [item async for item in slow()]

    with pytest.raises(TimeoutError):
        asyncio.run(consume())
    assert log.run("slow").state.is_timed_out()


def test_a_returned_generator_is_listed_and_the_caller_has_the_list(log):
    assert task(lambda: (i for i in range(3)))() == [0, 1, 2]


def test_an_error_in_a_returned_generator_fails_the_run(log):
    with pytest.raises(ZeroDivisionError):
        task(lambda: (1 // i for i in (1, 0)))()


def test_a_yielded_generator_is_left_alone(log):
    consumed = []

    def inner():
        consumed.append(1)
        yield 1

    @task
    def outer():
        yield inner()

    item = next(outer())
    assert consumed == []
    assert inspect.isgenerator(item)


def test_a_resumed_flow_makes_a_finished_generator_again_since_its_items_are_not_on_record(tmp_path):
    import pluperfect

    made = []

    @task
    def numbers():
        made.append(1)
        yield from range(2)

    left = [True, False]

    with pluperfect.open("memory:", entry_points=False) as log:

        @flow(retries=1)
        def outer():
            items = list(numbers())
            if left.pop(0):
                raise ValueError
            return items

        assert outer() == [0, 1]
        assert len(made) == 2
        assert len(log.runs(name="numbers")) == 2


# --- methods --------------------------------------------------------------------------------------------------


class Thing:
    def __init__(self, name):
        self.name = name

    @task
    def instance_task(self, x):
        return self.name, x

    @flow
    def instance_flow(self, x):
        return self.name, x

    @task
    async def async_task(self, x):
        return self.name, x

    @classmethod
    @task
    def class_task(cls, x):
        return cls.__name__, x

    @task
    @classmethod
    def task_class(cls, x):
        return cls.__name__, x

    @classmethod
    @flow
    def class_flow(cls, x):
        return cls.__name__, x

    @flow
    @classmethod
    def flow_class(cls, x):
        return cls.__name__, x

    @staticmethod
    @task
    def static_task(x):
        return "static", x

    @task
    @staticmethod
    def task_static(x):
        return "static", x

    @staticmethod
    @flow
    def static_flow(x):
        return "static", x

    @flow
    @staticmethod
    def flow_static(x):
        return "static", x


class Sub(Thing):
    pass


@pytest.mark.parametrize("name", ["class_task", "task_class", "class_flow", "flow_class"])
def test_a_class_method_that_lost_its_class_takes_nothing_else_for_it(log, name):
    found = vars(Thing)[name]
    lost = found.__func__ if isinstance(found, classmethod) else found

    with pytest.raises(ParameterBindError, match="above @classmethod"):
        lost(5, 6)


@pytest.mark.parametrize("name", ["instance_task", "instance_flow"])
def test_instance_methods(log, name):
    one, two = Thing("one"), Thing("two")
    x, y = getattr(one, name), getattr(two, name)
    assert (x(1), y(2)) == (("one", 1), ("two", 2))
    assert getattr(Thing, name)(one, 3) == ("one", 3)


def test_bound_methods_keep_their_own_object_across_threads(log):
    things = [Thing(str(i)) for i in range(8)]
    bound = [thing.instance_task for thing in things]
    barrier, results = threading.Barrier(8), {}

    def call(i):
        barrier.wait()
        results[i] = bound[i](i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: (str(i), i) for i in range(8)}


@pytest.mark.parametrize("name", ["class_task", "task_class", "class_flow", "flow_class"])
def test_class_methods_in_both_orders(log, name):
    assert getattr(Thing, name)(1) == ("Thing", 1)
    assert getattr(Thing("x"), name)(2) == ("Thing", 2)
    assert getattr(Sub, name)(3) == ("Sub", 3)


@pytest.mark.parametrize("name", ["static_task", "task_static", "static_flow", "flow_static"])
def test_static_methods_in_both_orders(log, name):
    assert getattr(Thing, name)(1) == ("static", 1)
    assert getattr(Thing("x"), name)(2) == ("static", 2)


def test_methods_are_submitted_mapped_awaited_and_given_options(log):
    thing = Thing("t")

    @flow
    def outer():
        renamed = thing.instance_task.with_options(name="renamed")
        return (
            thing.instance_task.submit(1).result(),
            thing.instance_task.map([2, 3]).result(),
            Thing.task_class.submit(4).result(),
            renamed(5),
            thing.async_task.submit(6).result(),
        )

    assert outer() == (("t", 1), [("t", 2), ("t", 3)], ("Thing", 4), ("t", 5), ("t", 6))
    assert asyncio.run(thing.async_task(7)) == ("t", 7)
    assert log.runs(name="renamed")


# --- subflows -------------------------------------------------------------------------------------------------


def test_a_subflow_blocks_resolves_futures_and_its_birth_names_its_parent(log):
    double = task(lambda x: 2 * x, name="double")

    @flow
    def inner(x):
        return x + 1

    @flow
    def outer():
        return inner(double.submit(4))

    assert outer() == 9
    assert log.run("inner").parent == log.run("outer")
    assert [r.folded.birth.name for r in log.run("outer").children] == ["double", "inner"]


def test_a_failure_of_a_subflow_is_raised_in_its_parent(log):
    @flow
    def inner():
        raise LookupError("inner")

    @flow
    def outer():
        inner()

    with pytest.raises(LookupError, match="inner"):
        outer()


def test_a_subflow_that_is_given_a_failed_run_is_not_called(log):
    fails = task(lambda: 1 / 0, name="fails")

    @flow
    def inner(x):
        return x

    @flow
    def outer():
        with pytest.raises(UpstreamFailed):
            inner(fails.submit())
        return "went on"

    assert outer() == "went on"
    assert kinds(log.run("inner")) == ["Pending", "Failed"]


def test_when_a_parent_is_retried_completed_children_are_reused_and_failed_ones_made_anew(log):
    calls = []

    @flow
    def good():
        calls.append("good")
        return 1

    @flow
    def bad():
        calls.append("bad")
        if calls.count("bad") == 1:
            raise ValueError
        return 2

    @flow(retries=1)
    def outer():
        return good() + bad()

    assert outer() == 3
    assert calls == ["good", "bad", "bad"]

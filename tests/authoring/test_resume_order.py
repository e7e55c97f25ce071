"""Answers from the record come in the order in which the record has them: what went on side by side goes on alike."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pluperfect
from dying import Dies
from pluperfect import flow, hookimpl, task
from pluperfect.authoring import cues
from pluperfect.errors import Divergence, RuleError
from pluperfect.futures import as_completed
from pluperfect.testing import FakeClock


def lives(store, call, deaths):
    """Carry this out by processes that die after so many proposals each, and by one that does not."""
    for after in deaths:
        with pluperfect.open(store, plugins=[Dies(after)], clock=FakeClock(), entry_points=False):
            try:
                return call()
            except RuleError:
                pass
    with pluperfect.open(store, clock=FakeClock(1_800_000_100.0), entry_points=False) as log:
        answer = call()
        assert log.compare() == []
        return answer


@pytest.fixture
def store(tmp_path):
    return f"lmdb:{tmp_path / 'runs'}"


def lanes_of(lanes):
    """A flow of coroutines side by side, each of which calls one and the same task again and again; what it made."""
    made = []

    @task
    async def step(x, rounds):
        for _ in range(rounds):
            await asyncio.sleep(0)
        made.append(x)
        return x

    @flow(idempotency_key="lanes")
    async def whole():
        async def lane(number, rounds):
            return [await step(number * 100 + n, r) for n, r in enumerate(rounds)]

        return await asyncio.gather(*(lane(number, rounds) for number, rounds in enumerate(lanes)))

    expected = [[number * 100 + n for n in range(len(rounds))] for number, rounds in enumerate(lanes)]
    return whole, expected, made


@settings(deadline=None, max_examples=60)
@given(
    lanes=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=2, max_size=4),
    deaths=st.lists(st.integers(2, 40), min_size=1, max_size=3),
)
def test_coroutines_side_by_side_that_call_one_task_resume_wherever_their_process_died(lanes, deaths, tmp_path_factory):
    whole, expected, made = lanes_of(lanes)
    store = f"lmdb:{tmp_path_factory.mktemp('store') / 'runs'}"
    assert lives(store, lambda: asyncio.run(whole()), deaths) == expected
    with pluperfect.open(store, entry_points=False) as log:
        calls = log.runs(name="step")
        assert len(calls) == sum(map(len, lanes)), "no call was recorded twice"
        attempts = sum(run.folded.attempt for run in calls)
        assert len(made) <= attempts, "what ended on record is not made again"


def test_coroutines_go_on_in_the_recorded_order_and_not_in_that_of_their_start(store):
    order = []

    @task
    async def step(x, rounds):
        for _ in range(rounds):
            await asyncio.sleep(0)
        return x

    @flow(idempotency_key="order")
    async def whole(dies):
        async def lane(number, rounds):
            for n in range(3):
                await step(number * 10 + n, rounds)
                order.append(number * 10 + n)

        await asyncio.gather(lane(0, 9), lane(1, 5), lane(2, 1))
        return list(order)

    deaths = [3 * 9 + 2]  # of the flow's own end
    lives(store, lambda: asyncio.run(whole(True)), deaths)
    half = len(order) // 2
    assert len(order) == 18
    assert order[:half] == order[half:] != sorted(order[:half])


def test_futures_that_had_ended_are_yielded_in_the_order_in_which_they_ended(store):
    gates = [threading.Event() for _ in range(6)]
    order = [4, 1, 5, 0, 3, 2]
    gates[order[0]].set()

    @task
    def gated(n):
        assert gates[n].wait(30)
        return n

    @task
    def after(n):
        later = order[order.index(n) + 1 :]
        if later:
            gates[later[0]].set()
        return n

    @flow(idempotency_key="ended")
    def whole():
        return [after(future.result()) for future in as_completed(gated.submit(n) for n in range(6))]

    with pluperfect.open(store, plugins=[Last("whole")], clock=FakeClock(), entry_points=False):
        with pytest.raises(RuleError, match="dead"):
            whole()
    with pluperfect.open(store, clock=FakeClock(), entry_points=False) as log:
        assert whole() == order
        assert len(log.runs(name="after")) == 6


class Last:
    """Stands for the death of a process at the end of this flow."""

    name = "last"

    def __init__(self, flow):
        self.flow = flow

    @hookimpl
    def review(self, run, proposal, definition):
        if definition.name == self.flow and proposal.to.final:
            raise RuntimeError("this process is dead")


def died_at_its_end(store, name, call):
    with pluperfect.open(store, plugins=[Last(name)], clock=FakeClock(), entry_points=False):
        with pytest.raises(RuleError, match="dead"):
            call()


def test_awaited_futures_that_had_ended_wake_their_coroutines_in_the_recorded_order(store):
    order = []

    @task
    async def after(x):
        while x != 2 and x + 1 not in order:
            await asyncio.sleep(0)
        return x

    @flow(idempotency_key="submitted", task_runner="asyncio")
    async def whole():
        async def lane(future):
            order.append(await future)

        await asyncio.gather(*(lane(after.submit(n)) for n in range(3)))
        return len(order)

    died_at_its_end(store, "whole", lambda: asyncio.run(whole()))
    with pluperfect.open(store, clock=FakeClock(), entry_points=False):
        asyncio.run(whole())
    assert order[:3] == order[3:] == [2, 1, 0]


@pytest.mark.parametrize("calls", ["directly", "by submit"])
def test_an_answer_that_was_not_on_record_comes_after_all_calls_that_were(store, calls):
    dead = [True]
    seen = []

    @task
    async def step(lane, n, until):
        if until is not None:
            await until.wait()
        return n

    @flow(idempotency_key="new", durability="lazy", task_runner="asyncio")
    async def whole():
        over = asyncio.Event()

        async def lane(name, count):
            for n in range(count):
                until = over if dead[0] and name == "new" else None  # under way as its process dies
                await (step.submit(name, n, until) if calls == "by submit" else step(name, n, until))
                seen.append((name, n))

        async def old():
            try:
                await lane("old", 5)
            finally:
                over.set()

        await asyncio.gather(lane("new", 2), old())

    with pluperfect.open(store, plugins=[Dies(2 + 2 + 4 * 3)], clock=FakeClock(), entry_points=False) as log:
        with pytest.raises(RuleError):
            asyncio.run(whole())
        recorded = len(log.runs(name="step"))
    assert recorded == 5
    dead[0] = False
    seen.clear()
    with pluperfect.open(store, clock=FakeClock(), entry_points=False) as log:
        asyncio.run(whole())
        assert len(log.runs(name="step")) == 7
    assert seen[:3] == [("old", 0), ("old", 1), ("old", 2)]  # the fourth of them was called before the new answer


def test_a_call_that_was_not_on_record_comes_after_all_that_were(store):
    dead = [True]

    @task
    async def step(lane, n):
        return lane

    @flow(idempotency_key="new", durability="lazy")
    async def whole():
        async def quick():
            await step("quick", 0)
            for _ in range(50 if dead[0] else 0):  # the loop took longer to come back to it
                await asyncio.sleep(0)
            return await step("quick", 1)

        async def slow():
            for n in range(3):
                await step("slow", n)
                for _ in range(3):
                    await asyncio.sleep(0)

        return await asyncio.gather(quick(), slow())

    with pluperfect.open(store, plugins=[Dies(2 + 4 * 3)], clock=FakeClock(), entry_points=False) as log:
        with pytest.raises(RuleError):
            asyncio.run(whole())
        assert len(log.runs(name="step")) == 4
    dead[0] = False
    with pluperfect.open(store, clock=FakeClock(), entry_points=False) as log:
        assert asyncio.run(whole()) == ["quick", None]
        names = sorted(run.folded.birth.run_name for run in log.runs(name="step"))
    assert names == [f"step-{n}" for n in range(5)]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(cues, "PATIENCE", 0.02)


@pytest.mark.usefixtures("impatient")
def test_other_inputs_in_an_async_flow_are_refused_as_ever(store):
    argument = [1]

    @task
    async def step(x):
        return x

    @flow(idempotency_key="changed")
    async def whole():
        await step(0)
        return await step(argument[0])

    died_at_its_end(store, "whole", lambda: asyncio.run(whole()))
    argument[0] = 2
    with pluperfect.open(store, clock=FakeClock(), entry_points=False), pytest.raises(Divergence):
        asyncio.run(whole())


@pytest.mark.usefixtures("impatient")
def test_a_flow_that_no_longer_makes_a_recorded_call_does_not_wait_for_it(store):
    both = [True]

    @task
    async def one():
        for _ in range(20):
            await asyncio.sleep(0)
        return 1

    @task
    async def other():
        return 2

    @flow(idempotency_key="fewer")
    async def whole():
        calls = [one(), other()] if both[0] else [one()]
        return await asyncio.gather(*calls)

    died_at_its_end(store, "whole", lambda: asyncio.run(whole()))
    both[0] = False
    with pluperfect.open(store, clock=FakeClock(), entry_points=False):
        assert asyncio.run(whole()) == [1]


def test_an_answer_waits_for_one_that_was_there_before_it_also_where_that_call_is_just_being_made(store):
    @task
    async def slow(gate):
        await gate.wait()

    @task
    async def quick(gate):
        gate.set()

    @flow
    async def whole():
        gate = asyncio.Event()
        await asyncio.gather(slow(gate), quick(gate))

    with pluperfect.open(store, entry_points=False) as log:
        asyncio.run(whole())
        root = log.run("whole").folded.id
        first, second = log.log.children(root)
        order, recorded = [], cues.Cues(log, root, 0)

        async def made(run):
            recorded.call(run)
            await recorded.answer(run)
            order.append(run)

        async def again():
            waits = asyncio.create_task(made(first))
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)  # by now it has looked, and waits for the call that has not come
            await made(second)
            await waits

        asyncio.run(again())
    assert order == [second, first]

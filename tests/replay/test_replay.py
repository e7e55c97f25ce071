"""Code replay: the code of today beside a record, by every way that a run can go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time

import pytest

import pluperfect
from pluperfect import LOOP, Verdict, allow_failure, as_completed, flow, hookimpl, patched, tags, task
from pluperfect.authoring.replaying import Script
from pluperfect.errors import Divergence, PluperfectError, RuleError
from pluperfect.testing import FakeClock


class Dies:
    """Stands for the death of a process: from a certain proposal on, nothing more is recorded by this one."""

    name = "dies"

    def __init__(self, when):
        self.when, self.dead = when, False

    @hookimpl
    def review(self, run, proposal, definition):
        self.dead = self.dead or self.when(run, proposal, definition)
        if self.dead:
            raise RuntimeError("this process is dead")


@pytest.fixture
def store(tmp_path):
    return f"lmdb:{tmp_path / 'runs'}"


def left_behind(store, when, call):
    """What a process leaves that died at this moment."""
    with pluperfect.open(store, plugins=[Dies(when)], clock=FakeClock(), entry_points=False):
        with contextlib.suppress(RuleError):
            call()


def begins(name, number=0):
    return lambda run, proposal, definition: (
        definition.name == name and proposal.to.kind == "Running" and run.birth.index == number
    )


def ends(name):
    return lambda run, proposal, definition: definition.name == name and proposal.to.kind == "Completed"


def replayed(log, made, **options):
    """The replay of the youngest run of a flow; what it is done by leaves no trace."""
    before = log.log.position()
    found = log.replay(made.name, made, **options)
    assert log.log.position() == before
    assert all(section.why or section.outcome != "unanswered" for section in found.sections)
    return found


def outcome(log, made, **options):
    found = replayed(log, made, **options)
    return found.outcome if found.first is None else (found.outcome, found.first.part)


@task
def add(a, b=1):
    return a + b


@task
async def later(a, delay=0.0):
    await asyncio.sleep(delay)
    return a


def test_no_body_runs_and_nothing_is_recorded(log):
    made = []

    @task
    def noted(x):
        made.append(x)
        return x

    @flow
    def whole(n):
        return [noted(x) for x in range(n)] + noted.map([7, 8]).result() + [noted.submit(9).result()]

    whole(3)
    del made[:]

    found = replayed(log, whole)

    assert (found.outcome, found.sections[-1].calls, made) == ("same", 6, [])


def test_a_flow_that_failed_by_its_own_or_by_a_task_replays_the_same(log):
    @task
    def breaks():
        raise KeyError("gone")

    @flow
    def by_task():
        add(1)
        breaks()

    @flow
    def by_itself():
        add(1)
        raise ValueError("no")

    @flow
    def unseen():
        breaks.submit()
        return 1

    for failing in (by_task, by_itself, unseen):
        failing(return_state=True)
        assert outcome(log, failing) == "same"


def test_every_attempt_of_a_flow_is_replayed_with_its_own_calls(log):
    tries = []

    @flow(retries=2, retry_delay_seconds=100)
    def stubborn():
        tries.append(add(1, len(tries)))
        if len(tries) % 3:
            raise ConnectionError(len(tries))
        return "at last"

    stubborn()
    del tries[:]

    found = replayed(log, stubborn)

    assert (found.outcome, found.sections[-1].calls) == ("same", 3)


def test_an_attempt_that_goes_another_way_than_recorded_is_found(log):
    tries = []

    @flow(retries=1)
    def stubborn():
        tries.append(add(1))
        if len(tries) == 1:
            raise ConnectionError("first")

    stubborn()

    assert outcome(log, stubborn) == ("diverged", "state")  # the list is full now: the first attempt succeeds


def test_subflows_are_sections_of_their_own_and_answer_as_recorded(log):
    factor = [2]

    @flow
    def inner(x):
        return add(x) * factor[0]

    @flow
    def outer():
        return add(inner(1), inner(2))

    outer()
    assert [section.name for section in replayed(log, outer).sections] == ["inner", "inner", "outer"]
    factor[0] = 3

    found = replayed(log, outer)

    assert [section.outcome for section in found.sections] == ["diverged", "diverged", "same"]
    assert (found.first.part, found.first.recorded.parts, found.first.replayed.parts) == (
        "result",
        {"result": "4"},
        {"result": "6"},
    )


def test_loops_of_tasks_are_answered_by_their_ends_and_compared_with_bodies(log):
    step = [1]

    @task
    def counting(n):
        at = (pluperfect.runtime.task_run.loop_result or 0) + step[0]
        if at >= n:
            return at
        raise LOOP(result=at)

    @flow
    def whole():
        return counting(4)

    whole()
    assert outcome(log, whole) == "same"
    assert outcome(log, whole, bodies=True) == "same"
    step[0] = 2

    assert outcome(log, whole) == "same"
    found = replayed(log, whole, bodies=True)
    assert (found.outcome, found.first.part) == ("diverged", "payload")
    assert (found.first.recorded.parts["payload"], found.first.replayed.parts["payload"]) == ("1", "2")


def test_bodies_of_tasks_are_compared_attempt_by_attempt(log):
    tries = []
    words = ["busy"]

    @task(retries=1)
    def flaky(x):
        tries.append(x)
        if len(tries) % 2:
            raise ConnectionError(words[0])
        return x

    @flow
    def whole():
        return flaky(5)

    whole()
    assert outcome(log, whole, bodies=True) == "same"
    words[0] = "away"

    assert outcome(log, whole, bodies=True) == ("diverged", "state")


def test_the_body_of_a_task_that_acts_outside_is_not_judged(log, tmp_path):
    @task
    def writes():
        (tmp_path / "out").write_text("x")
        return 1

    @flow
    def whole():
        return writes()

    whole()
    (tmp_path / "out").unlink()

    found = replayed(log, whole, bodies=True)

    assert found.outcome == "unanswered"
    assert "write the file" in found.sections[0].why
    assert not (tmp_path / "out").exists()
    assert outcome(log, whole) == "same"


def test_a_flow_that_acts_outside_of_tasks_is_stopped_and_its_line_named(log, tmp_path):
    @flow
    def careless():
        x = add(1)
        (tmp_path / "out").write_text("x")
        return add(x)

    careless()
    (tmp_path / "out").unlink()

    found = replayed(log, careless)

    assert (found.outcome, found.first.part) == ("diverged", "side effect")
    assert found.first.replayed.source == '(tmp_path / "out").write_text("x")'
    assert not (tmp_path / "out").exists()
    assert outcome(log, careless, strict=False) == "same"
    assert (tmp_path / "out").exists()


def test_a_run_that_is_under_way_is_extended_by_code_that_agrees_with_what_is_there(store):
    @flow(idempotency_key="k")
    def whole():
        return [add(n) for n in range(4)]

    left_behind(store, begins("add", 2), whole)
    with pluperfect.open(store, clock=FakeClock(), entry_points=False) as log:
        assert outcome(log, whole) == "extended"

        @flow(name="whole")
        def other():
            return [add(n) for n in (0, 5)]

        assert outcome(log, other) == ("diverged", "inputs")

        @flow(name="whole")
        def shorter():
            return add(0)

        assert outcome(log, shorter) == ("diverged", "call")


def test_a_run_that_was_interrupted_and_resumed_replays_the_same(store):
    @flow(idempotency_key="k")
    def whole():
        return [add(n) for n in range(4)]

    left_behind(store, ends("add"), whole)
    with pluperfect.open(store, clock=FakeClock(1_800_000_100.0), entry_points=False) as log:
        assert whole() == [1, 2, 3, 4]
        assert "Retrying" in [entry.to.kind for entry in log.run("whole").transitions]
        assert outcome(log, whole) == "same"
        assert outcome(log, whole, bodies=True) == "same"


def test_a_flow_that_ran_into_its_timeout_is_extended(log):
    over = threading.Event()

    @task
    def stands():
        over.wait(30)

    @flow(timeout_seconds=0.05)
    def slow():
        add(1)
        stands.submit()
        passed = time.monotonic() + 0.05
        while time.monotonic() <= passed:
            pass
        over.set()
        add(2)

    slow(return_state=True)

    assert log.run("slow").state.is_timed_out()
    assert outcome(log, slow) == "extended"


def test_calls_made_again_on_divergence_replay_by_what_was_made_last(store):
    given = [1]

    @flow(idempotency_key="k", on_divergence="rerun")
    def whole():
        first = add(given[0])
        return [add(first), add(7)]

    left_behind(store, begins("add", 2), whole)
    given[0] = 5
    with pluperfect.open(store, clock=FakeClock(1_800_000_100.0), entry_points=False) as log:
        assert whole() == [7, 8]
        assert outcome(log, whole) == "same"
        given[0] = 1
        assert replayed(log, whole).outcome == "diverged"


def test_cached_calls_and_allowed_failures_are_answered_as_recorded(log):
    from pluperfect.cache_policies import INPUTS

    @task(cache_policy=INPUTS)
    def square(x):
        return x * x

    @task
    def breaks():
        raise ValueError("no")

    @task
    def told(error, *more):
        return f"{type(error).__name__}"

    @flow
    def whole():
        failed = breaks.submit()
        return [square(2), square(2), told(allow_failure(failed))]

    assert whole() == [4, 4, "ValueError"]

    assert outcome(log, whole) == "same"
    assert outcome(log, whole, bodies=True) == "same"


def test_what_generators_yield_is_not_on_record_and_with_bodies_they_are_led_again(log):
    @task
    def numbers(n):
        yield from range(n)

    @flow
    def whole():
        return [add(x) for x in numbers(3)]

    @flow
    def yielding(n):
        for x in range(n):
            yield add(x)

    whole()
    list(yielding(3))

    assert outcome(log, whole) == "unanswered"
    assert outcome(log, whole, bodies=True) == "same"
    assert outcome(log, yielding) == "same"


def test_a_result_that_is_not_on_record_leaves_the_rest_unanswered(log):
    @task(persist_result=False)
    def secret():
        return 5

    @flow
    def whole():
        return add(secret())

    whole()

    assert outcome(log, whole) == "unanswered"
    assert outcome(log, whole, bodies=True) == "same"


def test_what_a_call_waits_for_is_compared(log):
    @flow
    def whole():
        first, second = add.submit(10), add.submit(20)
        return add.submit(3, wait_for=[first, second]).result()

    @flow(name="whole")
    def other():
        first, second = add.submit(10), add.submit(20)
        return add.submit(3, wait_for=[first]).result()

    whole()
    assert outcome(log, whole) == "same"
    found = replayed(log, other)
    assert (found.outcome, found.first.part) == ("diverged", "upstream")
    assert found.first.recorded.parts == {"waits for": "add-1"}


def test_tags_around_a_call_count_and_tags_around_the_flow_do_not_stop_a_replay(log):
    words = ["a"]

    @flow(tags=["own"])
    def whole():
        with tags(words[0]):
            return add(1)

    with tags("ambient"):
        whole()

    assert outcome(log, whole) == ("diverged", "tags")  # the call has "ambient" on record


def test_a_version_counts_where_it_was_given(log):
    @flow(version="1")
    def whole():
        return add(1)

    whole()

    assert outcome(log, whole) == "same"
    assert outcome(log, whole.with_options(version="2")) == ("diverged", "version")
    assert outcome(log, whole.with_options(version=None)) == ("diverged", "version")


def test_the_futures_of_as_completed_come_as_they_came(log):
    gates = [threading.Event() for _ in range(3)]

    @task
    def waits(n):
        gates[n].wait(30)
        return n

    @flow
    def whole():
        futures = [waits.submit(n) for n in range(3)]
        gates[2].set()
        found = []
        for future in as_completed(futures):
            found.append(add(future.result()))
            gates[(future.result() + 2) % 3].set()
        return found

    assert whole() == [3, 2, 1]

    assert outcome(log, whole) == "same"


@pytest.mark.parametrize("delays", [(0.03, 0.0, 0.02), (0.0, 0.02, 0.01), (0.0, 0.0, 0.0)])
def test_coroutines_interleave_as_they_did(delays, tmp_path):
    @flow
    async def whole():
        async def strand(n):
            first = await later(n, delays[n])
            await asyncio.sleep(delays[n - 1])
            return add(await later(first + 10, delays[n - 2]))

        return await asyncio.gather(*(strand(n) for n in range(3)))

    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as log:
        asyncio.run(whole())
        assert outcome(log, whole) == "same"
        assert outcome(log, whole, bodies=True) == "same"


def test_async_replays_wait_for_nothing_and_know_timeouts_task_groups_and_threads(tmp_path):
    @flow
    async def whole():
        found = []
        await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(0.02):
                await later(1, 60)
        except TimeoutError:
            found.append("late")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(later(n, 0.01 * (3 - n))) for n in range(3)]
        found += [made.result() for made in tasks]
        found += await asyncio.gather(*[later.submit(n) for n in range(3)])
        return [*found, await asyncio.to_thread(add.fn, 1)]

    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as log:
        asyncio.run(whole())
        assert outcome(log, whole) == "same"

        async def within():
            return outcome(log, whole)

        assert asyncio.run(within()) == "same"


def test_a_coroutine_that_waits_for_what_never_comes_is_named(log):
    opened = [True]

    @flow
    async def whole():
        gate = asyncio.Event()
        if opened[0]:
            gate.set()
        await gate.wait()
        return await later(1)

    asyncio.run(whole())
    opened[0] = False

    found = replayed(log, whole)

    assert (found.outcome, found.first.replayed.what) == ("diverged", "waits for ever")


def test_an_async_run_under_way_is_extended_when_every_strand_agrees(store):
    @flow(idempotency_key="k")
    async def whole(n=3):
        async def strand(k):
            return await later(await later(k) + 10)

        return await asyncio.gather(*(strand(k) for k in range(n)))

    left_behind(store, begins("later", 4), lambda: asyncio.run(whole()))
    with pluperfect.open(store, clock=FakeClock(), entry_points=False) as log:
        assert outcome(log, whole) == "extended"

        @flow(name="whole")
        async def other(n=3):
            return await later(0)

        assert outcome(log, other) == ("diverged", "call")


def test_the_classic_room_replays_too(log):
    from pluperfect.classic import Flow, Parameter
    from pluperfect.classic import task as classic_task

    @classic_task
    def plus(x, y):
        return x + y

    with Flow("sums") as sums:
        x = Parameter("x")
        plus(plus(x, 1), plus(x, 2))

    sums.run(x=1)

    assert outcome(log, sums.__pluperfect_flow__) == "same"


def test_rules_are_not_asked_and_callbacks_not_told(clock):
    told = []

    @flow(on_completion=[lambda *given: told.append("flow")])
    def whole():
        return add(1)

    class Refuses:
        name = "refuses"
        on = False

        @hookimpl
        def review(self, run, proposal, definition):
            return Verdict(refuse="no") if self.on else None

    rule = Refuses()
    with pluperfect.open("memory:", clock=clock, plugins=[rule], entry_points=False) as log:
        whole()
        rule.on = True
        del told[:]
        assert (outcome(log, whole), told) == ("same", [])


def test_a_thread_of_the_flows_own_can_reach_the_log_as_little(log):
    def stray():
        with contextlib.suppress(BaseException):
            add(5)

    @flow
    def whole():
        add(1)
        if wild_now:
            thread = threading.Thread(target=stray)
            thread.start()
            thread.join()

    wild_now = False
    whole()
    wild_now = True

    assert replayed(log, whole).outcome == "same"  # and `replayed` has seen that nothing was recorded


def test_what_cannot_be_replayed_says_why(log):
    @flow
    def whole(x):
        return add(x)

    @flow
    def another(x):
        return add(x)

    whole(1)
    with pytest.raises(PluperfectError, match="is a run of flow 'whole'; the flow 'another' was given"):
        log.replay("whole", another)
    with pytest.raises(PluperfectError, match="belongs to <Run whole.*: replay that one"):
        log.replay("add", whole)
    with pytest.raises(TypeError, match="flow is the flow that made <Run whole"):
        log.replay("whole", print)
    with pytest.raises(PluperfectError, match="was defined inside of a function"):
        log.replay("whole")
    assert [one.outcome for one in log.replays()] == ["unloadable"]

    @flow(name="whole")
    def narrower():
        return 1

    assert outcome(log, narrower) == ("diverged", "inputs")


def test_many_runs_are_replayed_by_what_is_asked_for(clock):
    @flow
    def whole(n):
        if n == 2:
            raise ValueError
        return add(n)

    @flow
    def another():
        return add(1)

    with pluperfect.open("memory:", clock=clock, entry_points=False) as log:
        for n in range(3):
            whole(n, return_state=True)
            clock.advance(100)
        another()
        begun = [run.folded.born for run in log.runs(name="whole")]

        assert [one.outcome for one in log.replays(flow=whole)] == ["same"] * 3
        assert len(list(log.replays(flow=whole, state="failed"))) == 1
        assert len(list(log.replays(flow=whole, since=begun[1]))) == 2
        assert {one.name for one in log.replays()} == {"whole", "another"}


def test_a_patch_is_taken_by_new_runs_and_not_by_those_that_were_there_before(store):
    @flow(idempotency_key="old")
    def whole():
        return [add(1), add(2)]

    left_behind(store, begins("add", 1), whole)

    @flow(name="whole", idempotency_key="old")
    def newer():
        first = add(0) if patched("begin at zero") else add(1)
        return [first, add(2)]

    with pluperfect.open(store, clock=FakeClock(1_800_000_100.0), entry_points=False) as log:
        assert outcome(log, newer) == "extended"
        assert replayed(log, newer).patches == {"begin at zero": False}
        assert newer() == [2, 3]
        assert newer.with_options(idempotency_key="new")() == [1, 3]
        found = replayed(log, newer)
        assert (found.outcome, found.patches) == ("same", {"begin at zero": True})
        assert newer.with_options(idempotency_key="new")() == [1, 3]

        @flow(name="whole")
        def settled():
            return [add(0), add(2)]

        assert [one.outcome for one in log.replays(flow=settled)] == ["same", "diverged"]


def test_a_check_says_which_runs_may_go_on_and_which_patches_can_go(store):
    @flow
    def whole():
        return [add(1), add(2)]

    left_behind(store, begins("add", 1), whole.with_options(idempotency_key="a"))

    @flow(name="whole")
    def careless():
        return [add(0), add(2)]

    @flow(name="whole")
    def careful():
        return [add(0) if patched("zero") else add(1), add(2)]

    with pluperfect.open(store, clock=FakeClock(1_800_000_100.0), entry_points=False) as log:
        whole.with_options(idempotency_key="b")()
        under_way = log.run("whole").id
        found = log.check(careless)
        assert [one.outcome for one in found.replays] == ["diverged", "diverged"]
        assert len(found.blocked) == 1

        found = log.check(careful)
        assert found.blocked == ()
        assert [len(found.patches["zero"]), len(found.retained["zero"])] == [1, 1]

        careful.with_options(idempotency_key="a")()
        found = log.check(careful)
        assert [len(found.patches["zero"]), len(found.retained["zero"])] == [0, 2]
        assert under_way


def test_outside_of_runs_the_new_branch_is_taken_and_a_patch_has_a_name():
    assert patched("anything")
    for bad in ("", None, 5):
        with pytest.raises(ValueError, match="A patch has a name"):
            patched(bad)


def test_resume_refuses_what_a_replay_has_found(store):
    @flow(idempotency_key="k")
    def whole():
        return [add(1), add(2)]

    left_behind(store, begins("add", 1), whole)

    @flow(name="whole", idempotency_key="k")
    def other():
        return [add(5), add(2)]

    with pluperfect.open(store, clock=FakeClock(1_800_000_100.0), entry_points=False) as log:
        assert len(log.check(other).blocked) == 1
        with pytest.raises(Divergence):
            other()


def test_a_fork_replays_with_what_it_shares(log):
    @flow
    def inner(x):
        return add(add(x))

    @flow
    def whole():
        return [add(1), inner(2), add(3), add(4)]

    assert whole() == [2, 4, 4, 5]
    last = next(event.number for event in log.run("whole").events if event.run.name == "add-2" and event.state.final)
    fork = log.fork("whole", last, {"add:2": 70}, flow=whole)
    assert 70 in fork.result()

    assert log.replay(fork, whole).outcome == "same"

    @flow(name="whole")
    def other():
        return [add(1), inner(2), add(5), add(4)]

    found = log.replay(fork, other)
    assert (found.outcome, found.first.recorded.parts) == ("diverged", {"a": "3"})


def test_an_imported_file_and_the_code_are_enough(tmp_path, clock):
    @flow
    def whole(n):
        return [add(k) for k in range(n)]

    with pluperfect.open(f"lmdb:{tmp_path / 'here'}", clock=clock, entry_points=False) as here:
        whole(3)
        here.export(tmp_path / "run.plu", ["whole"])
    with pluperfect.open(f"lmdb:{tmp_path / 'there'}", clock=clock, entry_points=False) as there:
        there.import_runs(tmp_path / "run.plu")
        assert outcome(there, whole) == "same"
        with pytest.raises(PluperfectError, match="its history names the module to load"):
            there.replay("whole")


def test_a_record_of_an_unknown_type_is_left_out_and_named(log):
    @flow
    def whole():
        return add(1)

    whole()
    assert replayed(log, whole).warnings == ()
    account = log.log.placed

    class Later:
        def __getattr__(self, name):
            return getattr(inner, name)

        def placed(self, run):
            import msgspec

            rows = account(run)
            unknown = [bytes(run), len(rows) + 1, 5, 0, "dist/later", 7, bytes(32), {}, {}]
            return [*rows, (10**6, msgspec.msgpack.encode([msgspec.msgpack.encode(unknown), ()]))]

    inner, log.log = log.log, Later()
    try:
        found = log.replay("whole", whole)
    finally:
        log.log = inner

    assert found.outcome == "same"
    assert "1 records of" in found.warnings[0]


def test_a_long_replay_makes_no_call(tmp_path):
    made = []

    @task
    def one(n):
        made.append(n)
        return n

    @flow
    def many(n):
        return sum(one(k) for k in range(n))

    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as log:
        many.with_options(durability="lazy")(1000)
        del made[:]
        found = log.replay("many", many.with_options(durability="lazy"))

    assert (found.outcome, found.sections[0].calls, made) == ("same", 1000, [])


def test_a_replay_leaves_nothing_behind_once_garbage_was_collected(log):
    @task
    def one(x):
        return [x]

    @flow
    def whole():
        return [one(number) for number in range(3)]

    def scripts():
        gc.collect()
        return {id(kept) for kept in gc.get_objects() if isinstance(kept, Script)}

    whole()
    before = scripts()  # of tests before, which are looked at here no more
    replayed(log, whole)
    assert scripts() <= before

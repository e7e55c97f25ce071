"""Going on where a run was: what is finished is answered from the log, what is in doubt is decided."""

from __future__ import annotations

import asyncio
import threading

import pytest

import pluperfect
from pluperfect import LOOP, Verdict, allow_failure, flow, hookimpl, task
from pluperfect.errors import Divergence, Fenced, RuleError
from pluperfect.hooks import Option
from pluperfect.runtime import task_run
from pluperfect.testing import FakeClock, kinds
from runners import programs


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


def first_process(store, when, call):
    """Run this until the moment of death; the log is what a killed process leaves."""
    with pluperfect.open(store, plugins=[Dies(when)], clock=FakeClock(), entry_points=False):
        with pytest.raises(RuleError, match="this process is dead"):
            call()


def second_process(store, clock=None):
    return pluperfect.open(store, clock=clock or FakeClock(1_800_000_100.0), entry_points=False)


def test_finished_children_are_answered_from_the_log_and_the_one_in_doubt_is_made_again(store):
    made = []

    @task
    def step(n):
        made.append(n)
        return n

    @flow(idempotency_key="order-42")
    def order():
        return [step(n) for n in range(4)]

    first_process(store, lambda run, p, d: p.to.kind == "Completed" and made == [0, 1, 2], order)
    with second_process(store) as log:
        assert order() == [0, 1, 2, 3]
        assert made == [0, 1, 2, 2, 3]
        root = log.runs(roots=True)[0]
        assert kinds(root) == ["Pending", "Running", "Retrying", "Running", "Completed"]
        assert root.transitions[2].to.cause == "interrupted"
        assert [len(child.history) for child in root.children] == [3, 3, 5, 3]
        assert kinds(root.children[2]) == ["Pending", "Running", "Retrying", "Running", "Completed"]
        assert log.compare() == []


def test_a_finished_run_is_answered_without_calling_anything(store):
    made = []

    @flow(idempotency_key="once")
    def once(n):
        made.append(n)
        return n * 2

    for _ in range(3):
        with second_process(store) as log:
            assert once(4) == 8
            assert len(log.runs()) == 1
    assert made == [4]


def test_a_failed_run_is_answered_with_its_exception(store):
    @flow(idempotency_key="bad")
    def bad():
        raise ValueError("as recorded")

    for _ in range(2):
        with second_process(store), pytest.raises(ValueError, match="as recorded"):
            bad()


def test_a_loop_goes_on_at_its_iteration_with_its_payload(store):
    calls = []

    @task
    def loops():
        total = task_run.loop_result or 0
        calls.append((task_run.loop_count, total))
        if task_run.loop_count == 6:
            return total
        raise LOOP(result=total + task_run.loop_count)

    @flow(idempotency_key="loop")
    def whole():
        return loops()

    first_process(store, lambda run, p, d: run.loop_count == 4 and p.to.kind == "Looped", whole)
    assert calls[-1] == (4, 6)
    with second_process(store):
        assert whole() == 15
    assert calls == [(1, 0), (2, 1), (3, 3), (4, 6), (4, 6), (5, 10), (6, 15)]


def test_a_retry_goes_on_with_its_budget_and_its_due_time(store):
    attempts = []

    @task(retries=2, retry_delay_seconds=60)
    def shaky():
        attempts.append(task_run.run_count)
        raise ConnectionError(str(len(attempts)))

    @flow(idempotency_key="shaky")
    def whole():
        shaky()

    first_process(store, lambda run, p, d: d.kind == "task" and p.to.kind == "Running" and len(attempts) == 1, whole)
    clock = FakeClock(1_800_000_001.0)
    with second_process(store, clock) as log:
        with pytest.raises(ConnectionError, match="3"):
            whole()
        assert attempts == [1, 2, 3]
        # The first wait began in the process that died: it ends when that one said, minute by minute.
        assert clock.slept[0] <= 119.0
        assert kinds(log.runs(name="shaky")[0]) == ["Pending", *["Running", "Retrying"] * 2, "Running", "Failed"]


def test_on_interrupt_fail_is_at_most_once(store):
    made = []

    @task(on_interrupt="fail")
    def pays():
        made.append(1)

    @flow(idempotency_key="pay")
    def whole():
        pays()

    first_process(store, lambda run, p, d: bool(made), whole)
    with second_process(store) as log:
        with pytest.raises(pluperfect.exceptions.InDoubt, match="not known"):
            whole()
        assert made == [1]
        assert log.runs(name="pays")[0].state.cause == "in_doubt"


def test_on_interrupt_can_be_asked_and_its_answer_is_recorded(store):
    made = []

    def look(task, run, state):
        made.append(("asked", run.name, state.kind))
        return "retry"

    @task(on_interrupt=look)
    def pays():
        made.append("paid")
        return 1

    @flow(idempotency_key="pay")
    def whole():
        return pays()

    first_process(store, lambda run, p, d: made == ["paid"], whole)
    with second_process(store):
        assert whole() == 1
    assert made == ["paid", ("asked", "pays-0", "Running"), "paid"]


def test_mapped_children_resume_at_the_frontier(store):
    made = []
    enough = threading.Event()

    @task
    def step(n):
        made.append(n)
        if len(made) >= 7:
            enough.set()
        return n

    @flow(idempotency_key="map")
    def whole():
        return step.map(range(10)).result()

    first_process(store, lambda run, p, d: p.to.kind == "Completed" and enough.is_set(), whole)
    with second_process(store) as log:
        done = {c.folded.birth.map_index for c in log.runs(roots=True)[0].children if c.state.is_completed()}
        before = len(made)
        assert whole() == list(range(10))
        assert not done.intersection(made[before:])


def test_a_call_with_other_inputs_at_the_same_place_is_refused_with_both_calls(store):
    inputs = [1, 2]

    @task
    def step(n):
        return n

    @flow(idempotency_key="moved")
    def whole():
        return step(inputs.pop(0)), step(9)

    first_process(
        store, lambda run, p, d: run.state is not None and run.birth.index == 1 and p.to.kind == "Completed", whole
    )
    with second_process(store) as log:
        with pytest.raises(Divergence, match=r"recorded: step\(n=1\)\n  called:   step\(n=2\)") as caught:
            whole()
        assert "test_resume.py" in str(caught.value)
        assert not log.runs(roots=True)[0].state.is_final()  # nothing is lost: mended code may go on


def test_on_divergence_rerun_makes_the_call_anew_beside_the_recorded_one(store):
    inputs, made = [1, 2, 2], []

    @task
    def step(n):
        made.append(n)
        return n

    @flow(idempotency_key="moved", on_divergence="rerun")
    def whole():
        return step(inputs.pop(0)), step(9)

    first_process(store, lambda run, p, d: made == [1, 9], whole)
    with second_process(store) as log:
        assert whole() == (2, 9)
        assert made == [1, 9, 2, 9]
        assert len(log.runs(name="step")) == 3


def test_another_call_under_the_same_key_is_refused(store):
    @flow(idempotency_key="one")
    def whole(n):
        return n

    with second_process(store):
        assert whole(1) == 1
        with pytest.raises(Divergence, match="another idempotency_key"):
            whole(2)


def test_an_unrecordable_result_is_computed_again_on_resume(store):
    made = []

    @task
    def connects():
        made.append("connects")
        return threading.Lock()

    @task
    def uses(lock):
        made.append("uses")
        return 5

    @flow(idempotency_key="lock")
    def whole():
        connection = connects()
        return uses(1) + connection.acquire()

    first_process(store, lambda run, p, d: made == ["connects", "uses"] and p.to.kind == "Completed", whole)
    with second_process(store):
        assert whole() == 6
    assert made == ["connects", "uses", "connects", "uses"]


def test_async_flows_resume_alike(store):
    made = []

    @task
    async def step(n):
        made.append(n)
        return n

    @flow(idempotency_key="async")
    async def whole():
        return [await step(n) for n in range(3)]

    first_process(store, lambda run, p, d: made == [0, 1] and p.to.kind == "Completed", lambda: asyncio.run(whole()))
    with second_process(store):
        assert asyncio.run(whole()) == [0, 1, 2]
    assert made == [0, 1, 1, 2]


def test_two_threads_under_one_key_share_one_run(store):
    made = []

    @task
    def step():
        made.append(1)
        return len(made)

    @flow(idempotency_key="shared")
    def whole():
        return step()

    answers = []
    with second_process(store):
        threads = [threading.Thread(target=lambda: answers.append(whole())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [1] * 8


def test_a_writer_whose_run_was_taken_over_is_fenced(store):
    went_on = threading.Event()
    taken = threading.Event()
    made = []

    @task
    def step(n):
        made.append(n)
        if n == 0 and len(made) == 1:
            went_on.set()
            taken.wait(10)
        return n

    def body():
        return [step(0), step(1)]

    outcome = []
    whole = flow(name="whole", idempotency_key="fence")(body)

    def zombie(log):
        with log:
            try:
                whole()
            except Exception as error:
                outcome.append(error)

    old, new = pluperfect.open(store, entry_points=False), pluperfect.open(store, entry_points=False)
    thread = threading.Thread(target=zombie, args=(old,))
    thread.start()
    assert went_on.wait(10)
    with new as log:
        assert whole() == [0, 1]
        taken.set()
        thread.join()
        assert isinstance(outcome[0], Fenced), outcome
        assert log.runs(roots=True)[0].state.is_completed()
        assert log.compare() == []


def test_options_of_plugins_stand_in_the_record_of_the_birth(store):
    class Adds:
        @hookimpl
        def options(self, kind):
            return [Option("team", None)]

    with pluperfect.open(store, plugins=[Adds()], entry_points=False) as log:
        task(team="blue", retries=2)(lambda: 1)()
        assert log.runs()[0].folded.birth.options == {"team": "blue", "retries": 2}


def test_a_delayed_run_that_died_waits_on_to_the_recorded_time(store):
    class Busy:
        @hookimpl
        def review(self, run, proposal, definition):
            if definition.kind == "task" and proposal.to.kind == "Running" and run.ruling is None:
                return Verdict(delay=300)
            return None

    @task
    def step():
        return 1

    @flow(idempotency_key="busy")
    def whole():
        return step()

    class Cut(FakeClock):
        def sleep_until(self, due):
            raise KeyboardInterrupt

    with pluperfect.open(
        store, plugins=[Busy(), Dies(lambda r, p, d: p.to.kind == "Failed")], clock=Cut(), entry_points=False
    ):
        with pytest.raises((RuleError, KeyboardInterrupt)):
            whole()
    clock = FakeClock(1_800_000_100.0)
    with second_process(store, clock):
        assert whole() == 1
    assert clock.slept == [200.0]


@pytest.mark.parametrize("mark", [lambda future: future, allow_failure, lambda future: [future]])
def test_a_call_that_had_begun_gets_the_results_of_futures_and_not_futures_in_the_second_process(store, mark):
    given = []

    @task
    def two():
        return 2

    @task(task_run_name="takes {n}")
    def plain(n):
        given.append(n)
        return n

    @flow(idempotency_key="k")
    def whole():
        return plain(mark(two.submit()))

    first_process(store, lambda run, p, d: given and run.spec.name == "plain" and p.to.kind == "Completed", whole)
    with second_process(store) as log:
        whole()
        assert len(given) == 2
        assert given[0] == given[1] == (2 if given[0] == 2 else [2])
        assert log.runs(name="plain")[0].folded.name == f"takes {given[0]}"


def test_a_resumed_retry_and_a_resumed_loop_get_results_and_not_states(store):
    given = []

    @task
    def two():
        return 2

    @task(retries=1)
    def again(n):
        given.append(n)
        if task_run.run_count == 1:
            raise ValueError(n)
        return n

    @task
    def around(n):
        given.append(n)
        if task_run.loop_count == 1:
            raise LOOP(result=n)
        return n

    @flow
    def whole(function):
        return function(two(return_state=True))

    for function, kind in ((again, "Retrying"), (around, "Looped")):
        given.clear()
        keyed = whole.with_options(idempotency_key=kind)
        first_process(
            store,
            lambda run, p, d, kind=kind: p.to.kind == "Running" and run.state is not None and run.state.kind == kind,
            lambda keyed=keyed, function=function: keyed(function),
        )
        with second_process(store):
            assert keyed(function) == 2
        assert given == [2, 2]


def test_a_failure_that_a_finished_call_allowed_stays_looked_at_in_the_second_process(store):
    made = []

    @task
    def bad():
        raise KeyError("always")

    @task
    def report(*found):
        made.append(found)
        return "reported"

    @flow(idempotency_key="k")
    def whole():
        report(allow_failure(bad.submit()))
        report.submit(allow_failure([bad.submit()]))
        report(wait_for=[allow_failure(bad.submit())])
        return "done"

    first_process(store, lambda run, p, d: run.spec and run.spec.name == "whole" and p.to.kind == "Completed", whole)
    with second_process(store) as log:
        assert whole() == "done"
        assert len(made) == 3
        assert log.compare() == []


class Never:
    """A runner that begins nothing, and a plugin that makes it."""

    def __init__(self):
        self.closed = 0

    @hookimpl
    def make_runner(self, name):
        return self if name == "never" else None

    def submit(self, call):
        pass

    def close(self):
        self.closed += 1


def test_a_body_whose_calls_cannot_be_ended_leaves_nothing_behind_that_later_calls_run_into(store):
    @task
    def step():
        pass

    @flow(task_runner="never")
    def left():
        step.submit()
        raise ValueError

    @flow(task_runner="never")
    async def left_async():
        step.submit()
        raise ValueError

    @flow
    def after():
        return 1

    async def one_after_the_other():
        with pytest.raises(RuleError, match="this process is dead"):
            await left_async()
        dies.dead = False
        return after()

    dies, runner = Dies(lambda run, p, d: d.name == "step" and p.to.kind == "Failed"), Never()
    with pluperfect.open(store, plugins=[dies, runner], clock=FakeClock(), entry_points=False) as log:
        with pytest.raises(RuleError, match="this process is dead"):
            left()
        dies.dead = False
        assert after() == 1
        assert asyncio.run(one_after_the_other()) == 1
        roots = [run.folded.birth.name for run in log.runs(roots=True)]
        assert roots == ["after", "left-async", "after", "left"]
    assert runner.closed == 2


def test_a_recorded_exception_is_caught_by_its_class_in_the_second_process(store):
    tried = []

    @flow(idempotency_key="refused")
    def whole():
        try:
            programs.refuses()
        except programs.Refusal as refused:
            code = refused.code
        try:
            programs.does_not_reach()
        except programs.NotReached as lost:
            tried.append((code, lost.port, lost.errno, str(lost)))
        return len(tried)

    first_process(store, lambda run, p, d: d.name == "whole" and p.to.final, whole)
    with second_process(store):
        assert whole() == 2
    assert tried == [(7, 25, 111, "[Errno 111] there:25 is not reached")] * 2

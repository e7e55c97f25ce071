"""Loops: the sequences that Prefect 1 shows, and each row where this library holds what it lost."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

import pluperfect
import pluperfect.classic as prefect
from pluperfect import Verdict, hookimpl
from pluperfect.classic import Flow, Parameter, task
from pluperfect.classic.engine import signals
from pluperfect.classic.engine.signals import LOOP
from pluperfect.classic.engine.state import Failed, Looped, Retrying, Success
from pluperfect.testing import kinds

SOON = timedelta(seconds=1)


def flow_of(made, *args, **kwargs):
    with Flow("loops") as flow:
        found = made(*args, **kwargs)
    return flow, found


def counts_to(last, **options):
    @task(**options)
    def counts():
        count = prefect.context["task_loop_count"]
        if count < last:
            raise LOOP(result=count)
        return count

    return counts


def test_three_iterations_are_six_changes(log, changes):
    flow, found = flow_of(counts_to(3, state_handlers=[changes]))

    assert flow.run().result[found].result == 3
    assert changes.text == [
        *["Pending -> Running", "Running -> Looped"] * 2,
        "Pending -> Running",
        "Running -> Success",
    ]


def test_two_mapped_children_that_fail_once_in_their_third_iteration_are_nineteen_changes(log, changes):
    @task(max_retries=1, retry_delay=SOON, state_handlers=[changes])
    def counts(x):
        count = prefect.context.task_loop_count
        if count < 3:
            raise LOOP(result=count)
        if prefect.context.task_run_count == 1:
            raise ConnectionError("once")
        return x

    with Flow("mapped") as flow:
        found = counts.map([1, 2])

    assert flow.run().result[found].result == [1, 2]
    child = [
        *["Pending -> Running", "Running -> Looped"] * 2,
        "Pending -> Running",
        "Running -> Failed",
        "Failed -> Retrying",
        "Retrying -> Running",
        "Running -> Success",
    ]
    assert changes.text == ["Pending -> Mapped", *child, *child]
    assert len(changes) == 19


def test_each_iteration_has_a_fresh_budget_and_keeps_its_payload(log):
    calls = []

    @task(max_retries=2, retry_delay=SOON)
    def sums():
        context = prefect.context
        payload = context.get("task_loop_result", 0)
        calls.append((context.task_loop_count, context.task_run_count, payload))
        if context.task_loop_count == 3 and context.task_run_count < 3:
            raise ConnectionError("shaky")
        if context.task_loop_count == 4:
            return payload
        raise LOOP(result=payload + context.task_loop_count)

    flow, found = flow_of(sums)
    assert flow.run().result[found].result == 6
    assert calls == [(1, 1, 0), (2, 1, 1), (3, 1, 3), (3, 2, 3), (3, 3, 3), (4, 1, 6)]


def test_an_exhausted_iteration_fails_with_its_position_on_record(log):
    @task(max_retries=1, retry_delay=SOON)
    def breaks():
        if prefect.context.task_loop_count < 3:
            raise LOOP(result="so far")
        raise ValueError("always")

    flow, _ = flow_of(breaks)
    state = flow.run()
    assert state.is_failed()
    run = log.runs(name="breaks")[0]
    assert (run.folded.loop_count, run.folded.attempt, log.unpack(run.folded.payload)) == (3, 2, "so far")


def test_the_context_has_the_count_from_the_first_iteration_and_the_payload_once_there_is_one(log):
    seen = []

    @task
    def looks():
        context = prefect.context
        seen.append(
            (context["task_loop_count"], context.get("task_loop_result", "absent"), "task_loop_result" in context)
        )
        if context.task_loop_count == 1:
            raise LOOP()
        if context.task_loop_count == 2:
            raise LOOP(result=None)
        if context.task_loop_count == 3:
            raise LOOP(result=5)

    flow, _ = flow_of(looks)
    assert flow.run().is_successful()
    assert seen == [(1, "absent", False), (2, "absent", False), (3, None, True), (4, 5, True)]


def test_loop_is_the_signal_of_the_library_and_no_exception(log):
    assert LOOP is pluperfect.LOOP
    assert not issubclass(LOOP, Exception)

    @task
    def careless():
        try:
            if prefect.context.task_loop_count < 3:
                raise LOOP()
        except Exception:
            return "swallowed"
        return "looped"

    flow, found = flow_of(careless)
    assert flow.run().result[found].result == "looped"


def test_one_line_is_logged_for_each_iteration(log, caplog):
    flow, _ = flow_of(counts_to(4))
    with caplog.at_level(logging.INFO, "pluperfect"):
        flow.run()
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("Iteration")] == [
        f"Iteration {n} is done" for n in (1, 2, 3)
    ]


def test_loop_count_can_be_set(log):
    counts = []

    @task
    def jumps():
        counts.append(prefect.context.task_loop_count)
        if len(counts) == 1:
            raise LOOP(loop_count=10)

    flow, _ = flow_of(jumps)
    flow.run()
    assert counts == [1, 11]


def test_five_thousand_iterations_do_not_recurse_or_grow(log):
    depths = set()

    @task
    def counts():
        depth, frame = 0, sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        depths.add(depth)
        if prefect.context.task_loop_count < 5000:
            raise LOOP(result=depth)
        return depth

    flow, _ = flow_of(counts)
    assert flow.run().is_successful()
    assert len(depths) == 1
    assert log.runs(name="counts")[0].folded.loop_count == 5000


# --- what Prefect 1 lost --------------------------------------------------------------------------------------


def test_retry_in_iteration_three_resumes_at_three_with_its_payload(log):
    seen = []

    @task
    def asks():
        context = prefect.context
        seen.append((context.task_loop_count, context.task_run_count, context.get("task_loop_result")))
        if context.task_loop_count == 3 and context.task_run_count == 1:
            raise signals.RETRY("again")
        if context.task_loop_count < 4:
            raise LOOP(result=context.task_loop_count)

    flow, _ = flow_of(asks)
    assert flow.run().is_successful()
    assert seen == [(1, 1, None), (2, 1, 1), (3, 1, 2), (3, 2, 2), (4, 1, 3)]
    waits = [t.to for t in log.runs(name="asks")[0].transitions if t.to.kind == "Retrying"]
    assert [state.cause for state in waits] == ["requested"]


def test_a_handler_that_turns_looped_into_retrying_repeats_that_iteration(log):
    seen = []

    def handler(_, old, new):
        if new.is_looped() and new.loop_count == 3 and len(seen) == 3:
            return Retrying("once more")
        return new

    @task(state_handlers=[handler])
    def asks():
        context = prefect.context
        seen.append((context.task_loop_count, context.get("task_loop_result")))
        if context.task_loop_count < 4:
            raise LOOP(result=context.task_loop_count)

    flow, _ = flow_of(asks)
    assert flow.run().is_successful()
    assert seen == [(1, None), (2, 1), (3, 2), (3, 2), (4, 3)]


def test_pause_in_a_loop_resumes_in_the_same_iteration(log):
    seen = []

    @task
    def pauses():
        context = prefect.context
        seen.append((context.task_loop_count, context.get("task_loop_result"), context.get("resume", False)))
        if context.task_loop_count == 3 and not context.get("resume"):
            raise signals.PAUSE("wait")
        if context.task_loop_count < 4:
            raise LOOP(result=context.task_loop_count)
        return "done"

    flow, found = flow_of(pauses)
    state = flow.run()
    assert state.is_paused()
    assert log.runs(name="pauses")[0].state.is_paused()
    assert flow.run(resume=state.run_id).result[found].result == "done"
    assert seen == [(1, None, False), (2, 1, False), (3, 2, False), (3, 2, True), (4, 3, False)]


KILLED = """
import os, sys
import pluperfect
import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, task
from pluperfect.classic.engine.signals import LOOP

@task
def note(line):
    with open("lines", "a") as file:
        file.write(line + chr(10))

@task
def loops(first):
    count, payload = prefect.context.task_loop_count, prefect.context.get("task_loop_result", 0)
    with open("lines", "a") as file:
        file.write(f"{count} {payload}" + chr(10))
    if count == 4 and not os.path.exists("second"):
        open("second", "w").close()
        os.kill(os.getpid(), 9)
    if count == 6:
        return payload
    raise LOOP(result=payload + count)

with Flow("killed") as flow:
    first = note(Parameter("line"))
    found = loops(first)

if __name__ == "__main__":
    with pluperfect.open("store"):
        state = flow.run(line="begin", idempotency_key="one")
        print(state.result[found].result)
"""


@pytest.mark.parametrize("how", ["key", "command"])
def test_a_process_killed_in_iteration_four_is_resumed_there(tmp_path, how):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    run = lambda *command: subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PLUPERFECT_STORE": "store"},
    )  # fmt: skip
    assert run(str(script)).returncode == -signal.SIGKILL

    if how == "key":
        again = run(str(script))
        assert again.returncode == 0, again.stderr
        assert again.stdout.strip() == "15"
    else:
        again = run("-m", "pluperfect", "resume", "killed")
        assert again.returncode == 0, again.stderr
        again = run(str(script))
        assert again.stdout.strip() == "15", again.stderr

    assert (tmp_path / "lines").read_text().split("\n") == [
        "begin", "1 0", "2 1", "3 3", "4 6", "4 6", "5 10", "6 15", "",
    ]  # fmt: skip


def test_a_target_is_written_by_the_final_result_and_looked_up_only_before_the_first_iteration(log):
    calls = []

    @task(target="sum-of-{x}")
    def sums(x):
        calls.append(prefect.context.task_loop_count)
        if prefect.context.task_loop_count < 3:
            raise LOOP(result=1)
        return x * 10

    flow, found = flow_of(sums, 4)
    assert flow.run().result[found].result == 40
    assert calls == [1, 2, 3]

    state = flow.run().result[found]
    assert (state.is_cached(), state.result, calls) == (True, 40, [1, 2, 3])


@pytest.mark.parametrize("target", ["at-{task_loop_count}", lambda task_loop_count, **_: f"at-{task_loop_count}"])
def test_the_count_can_stand_in_templates_and_answers_with_no_other_iteration(log, target):
    made = counts_to(3, target=target, task_run_name="loop-{task_loop_count}-of-{task_name}")
    flow, found = flow_of(made)
    assert flow.run().result[found].result == 3
    assert log.runs(name="counts")[0].name == "loop-1-of-counts"
    assert flow.run().result[found].result == 3


def test_a_key_that_is_filled_during_the_loop_answers_no_iteration(log):
    @task(cache_for=timedelta(hours=1), cache_key="shared", name="other")
    def other():
        return "a stranger's"

    stranger, _ = flow_of(other)

    @task(cache_for=timedelta(hours=1), cache_key="shared")
    def loops():
        if prefect.context.task_loop_count == 1:
            stranger.run()
            raise LOOP()
        return "my own"

    flow, found = flow_of(loops)
    assert flow.run().result[found].result == "my own"


def test_a_payload_changed_in_place_does_not_reach_the_next_attempt(log):
    seen = []

    @task(max_retries=1, retry_delay=SOON)
    def grows():
        payload = prefect.context.get("task_loop_result")
        if payload is None:
            raise LOOP(result=[1, 2])
        seen.append(list(payload))
        payload.append(3)
        if len(seen) == 1:
            raise ValueError("once")
        return payload

    flow, found = flow_of(grows)
    assert flow.run().result[found].result == [1, 2, 3]
    assert seen == [[1, 2], [1, 2]]


def test_an_unpackable_payload_fails_the_attempt_and_is_named(log):
    seen = []

    @task(max_retries=1, retry_delay=SOON)
    def loops():
        payload = prefect.context.get("task_loop_result")
        seen.append(payload)
        if payload is None:
            raise LOOP(result=1)
        raise LOOP(result=threading.Lock() if len(seen) == 2 else 3) if len(seen) < 4 else ValueError("end")

    flow, _ = flow_of(loops)
    flow.run()
    assert seen == [None, 1, 1, 3, 3]
    retrying = [t.to for t in log.runs(name="loops")[0].transitions if t.to.kind == "Retrying"]
    assert "payload of LOOP" in retrying[0].message


def test_looped_as_a_starting_state_begins_after_that_iteration_and_is_on_record(log, changes):
    seen = []

    @task(state_handlers=[changes])
    def loops(x):
        seen.append((prefect.context.task_loop_count, prefect.context.task_loop_result))
        if prefect.context.task_loop_count < 6:
            raise LOOP(result=prefect.context.task_loop_result + 1)
        return x

    with Flow("started") as flow:
        found = loops(Parameter("x"))
    state = flow.run(x="x", task_states={found: Looped(loop_count=4, result=40)})
    assert state.result[found].result == "x"
    assert seen == [(5, 40), (6, 41)]
    assert len(changes) == 4
    assert [t.to.count for t in log.runs(name="loops")[0].transitions if t.to.kind == "Looped"] == [4, 5]


def test_a_count_in_the_given_context_is_seen_by_every_task(log):
    seen = []

    @task
    def loops():
        seen.append((prefect.context.task_loop_count, prefect.context.get("task_loop_result")))
        if prefect.context.task_loop_count < 6:
            raise LOOP(result=prefect.context.get("task_loop_result", 0) + 1)

    flow, _ = flow_of(loops)
    flow.run(context={"task_loop_count": 4, "task_loop_result": 40})
    assert seen == [(4, 40), (5, 41), (6, 42)]


def test_a_final_starting_state_stands_for_the_run(log):
    called = []

    @task
    def first():
        called.append(1)

    @task
    def second(x):
        return x + 1

    with Flow("stand-in") as flow:
        x = first()
        y = second(x)
    assert flow.run(task_states={x: Success(result=41)}).result[y].result == 42
    assert called == []


def test_the_timeout_is_one_of_each_iteration(log):
    import time

    @task(timeout=0.5)
    def slow():
        time.sleep(30 if prefect.context.task_loop_count == 4 else 0.2)
        raise LOOP()

    flow, found = flow_of(slow)
    state = flow.run().result[found]
    assert type(state).__name__ == "TimedOut"
    assert log.runs(name="slow")[0].folded.loop_count == 4


def test_looped_is_neither_finished_nor_successful():
    assert not Looped(result=1).is_finished()
    assert not Looped(result=1).is_successful()
    assert Looped(result=1).is_looped()


def test_loops_in_threads_and_in_order_record_the_same(log):
    from pluperfect.classic.executors import LocalDaskExecutor

    made = counts_to(3)
    flow, found = flow_of(made)
    for executor in (None, LocalDaskExecutor(num_workers=2)):
        assert flow.run(executor=executor).result[found].result == 3
        assert kinds(log.runs(name="counts")[0]) == ["Pending", *["Running", "Looped"] * 2, "Running", "Completed"]


def test_loop_raised_by_a_function_that_a_task_calls_loops_the_task(log):
    def again(count):
        if count < 3:
            raise LOOP(result=count)

    @task
    def calls():
        again(prefect.context.task_loop_count)
        return prefect.context.task_loop_result

    flow, found = flow_of(calls)
    assert flow.run().result[found].result == 2


@pytest.mark.parametrize(
    ("raised", "ended", "attempts"),
    [
        (lambda: signals.SUCCESS(result="enough"), "Success", 1),
        (lambda: signals.SKIP("enough", result=None), "Skipped", 1),
        (lambda: signals.FAIL("broken"), "Failed", 3),
        (lambda: signals.TRIGGERFAIL("broken"), "TriggerFailed", 1),
        (lambda: signals.ENDRUN(Success("fine")), "Success", 1),
        (lambda: signals.ENDRUN(Failed("enough")), "Failed", 1),
    ],
)
def test_other_signals_end_an_iteration_as_any_attempt(log, raised, ended, attempts):
    calls = []

    @task(max_retries=2, retry_delay=SOON)
    def loops():
        calls.append(prefect.context.task_loop_count)
        if prefect.context.task_loop_count == 2:
            raise raised()
        raise LOOP(result=1)

    flow, found = flow_of(loops)
    assert type(flow.run().result[found]).__name__ == ended
    assert calls == [1] + [2] * attempts
    assert log.runs(name="loops")[0].folded.loop_count == 2


def test_a_rule_can_refuse_an_iteration(clock):
    class NoMoreThanThree:
        @hookimpl
        def review(self, run, proposal):
            if proposal.to.kind == "Looped" and proposal.to.count > 3:
                return Verdict(refuse="three are enough")
            return None

    calls = []

    @task
    def endless():
        calls.append(prefect.context.task_loop_count)
        raise LOOP()

    with pluperfect.open("memory:", clock=clock, plugins=[NoMoreThanThree()], entry_points=False):
        flow, found = flow_of(endless)
        state = flow.run()
    assert (state.is_failed(), calls) == (True, [1, 2, 3, 4])
    assert "three are enough" in str(state.result[found].result)


def test_the_number_of_an_iteration_is_a_whole_number_from_one():
    for wrong in (0, -1, 1.5, "two", True):
        with pytest.raises(ValueError, match="whole number from 1"):
            Looped(loop_count=wrong)
    for wrong in (0, 1.5):
        with pytest.raises(ValueError, match="whole number from 1"):
            LOOP(loop_count=wrong)

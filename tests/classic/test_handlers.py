"""State handlers: what they are shown, and what their answers do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pluperfect.classic import Flow, task
from pluperfect.classic.engine import signals, state
from pluperfect.rules import Proposal
from pluperfect.testing import kinds
from pluperfect.transitions import Run, apply
from pluperfect_plugins.classic import review

SOON = timedelta(seconds=1)


def run_one(log, body, *, handlers, **options):
    made = task(name="handled", state_handlers=handlers, **options)(body)
    with Flow("handlers") as flow:
        found = made()
    return flow.run().result[found], log.runs(name="handled")[0]


def raises():
    raise ValueError("no")


def turning(kind, into):
    def handler(_, old, new):
        return into if isinstance(new, kind) else None

    return handler


def test_a_failed_attempt_is_shown_as_two_changes_and_recorded_as_one(log, changes):
    _, run = run_one(log, raises, handlers=[changes], max_retries=1, retry_delay=SOON)

    assert changes.text == [
        "Pending -> Running",
        "Running -> Failed",
        "Failed -> Retrying",
        "Retrying -> Running",
        "Running -> Failed",
    ]
    assert kinds(run) == ["Pending", "Running", "Retrying", "Running", "Failed"]
    assert run.transitions[2].by == "retries"


def test_handlers_are_shown_the_result_the_exception_and_the_time_of_the_retry(log, clock):
    seen = {}

    def handler(made, old, new):
        seen[type(new).__name__] = new
        seen["task"] = made

    run_one(log, raises, handlers=[handler], max_retries=1, retry_delay=SOON)
    assert isinstance(seen["Failed"].result, ValueError)
    assert (seen["Retrying"].run_count, seen["Retrying"].start_time.timestamp()) == (1, clock.now())
    assert seen["task"].name == "handled"
    run_one(log, lambda: 5, handlers=[handler])
    assert seen["Success"].result == 5


def test_each_handler_sees_the_answer_of_the_one_before(log):
    seen = []
    handlers = [turning(state.Success, state.Success("changed", result=6)), lambda t, o, n: seen.append(n.result)]
    ended, run = run_one(log, lambda: 5, handlers=handlers)
    assert seen[-1] == 6
    assert (ended.result, run.result()) == (6, 6)
    assert (run.transitions[-1].by, run.transitions[-1].asked.kind) == ("classic", "Completed")


def test_a_failure_can_be_turned_into_a_success(log):
    ended, run = run_one(
        log, raises, handlers=[turning(state.Failed, state.Success(result="fine"))], max_retries=1, retry_delay=SOON
    )
    assert ended.result == "fine"
    assert kinds(run) == ["Pending", "Running", "Completed"]
    ended, _ = run_one(log, raises, handlers=[turning(state.Failed, state.Success(result=None))])
    assert (ended.is_successful(), ended.result) == (True, None)


def test_a_success_can_be_turned_into_a_failure_which_is_retried(log, changes):
    ended, run = run_one(
        log,
        lambda: 5,
        handlers=[turning(state.Success, state.Failed("too small")), changes],
        max_retries=1,
        retry_delay=SOON,
    )
    assert (type(ended), ended.message) == (state.Failed, "too small")
    assert kinds(run) == ["Pending", "Running", "Retrying", "Running", "Failed"]
    assert changes.text[1:3] == ["Running -> Failed", "Failed -> Retrying"]


def test_a_retry_can_be_turned_into_a_failure(log):
    ended, run = run_one(
        log, raises, handlers=[turning(state.Retrying, state.Failed("never"))], max_retries=5, retry_delay=SOON
    )
    assert (ended.message, kinds(run)) == ("never", ["Pending", "Running", "Failed"])


@pytest.mark.parametrize("moment", [state.Running, state.Success, state.Failed, state.Retrying])
def test_a_handler_that_raises_fails_the_task_without_a_retry(log, moment):
    calls = []

    def handler(_, old, new):
        if isinstance(new, moment):
            raise KeyError("slip")

    def body():
        calls.append(1)
        if moment in (state.Failed, state.Retrying):
            raise ValueError("no")

    ended, run = run_one(log, body, handlers=[handler], max_retries=3, retry_delay=SOON)
    assert (type(ended), type(ended.result)) == (state.Failed, KeyError)
    assert "state handler" in ended.message
    assert kinds(run)[-1] == "Failed"
    assert "Retrying" not in kinds(run)
    assert len(calls) == (moment is not state.Running)


def test_a_signal_in_a_handler_gives_its_state(log):
    def raising(kind, signal):
        def handler(_, old, new):
            if isinstance(new, kind):
                raise signal

        return handler

    ended, _ = run_one(log, raises, handlers=[raising(state.Failed, signals.SUCCESS(result=1))])
    assert ended.result == 1
    ended, _ = run_one(log, lambda: 5, handlers=[raising(state.Success, signals.FAIL("bad"))])
    assert (type(ended), ended.message) == (state.Failed, "bad")
    ended, run = run_one(log, lambda: 5, handlers=[raising(state.Running, signals.SKIP("no", result=None))])
    assert (ended.is_skipped(), kinds(run)) == (True, ["Pending", "Running", "Completed"])


def test_a_start_can_be_turned_into_an_end(log):
    called = []
    ended, run = run_one(
        log, lambda: called.append(1), handlers=[turning(state.Running, state.Success(result="known"))]
    )
    assert (ended.result, called) == ("known", [])
    ended, run = run_one(log, lambda: called.append(1), handlers=[turning(state.Running, state.Failed("no"))])
    assert (ended.message, kinds(run), called) == ("no", ["Pending", "Failed"], [])


def test_something_that_is_no_state_is_an_error_of_the_handler(log):
    ended, _ = run_one(log, lambda: 5, handlers=[lambda t, o, n: "done"])
    assert isinstance(ended.result, TypeError)


def test_a_skip_is_one_change(log, changes):
    @task
    def skips():
        raise signals.SKIP("no", result=None)

    @task(state_handlers=[changes])
    def after(x):
        return x

    with Flow("skips") as flow:
        after(skips())
    flow.run()
    assert changes.text == ["Pending -> Skipped"]


def test_a_failed_trigger_is_one_change_and_can_be_turned(log, changes):
    @task
    def fails():
        raise ValueError("no")

    calls = []

    def after(x=None):
        calls.append(x)

    with Flow("triggers") as flow:
        lost = fails()
        a = task(name="a", state_handlers=[changes])(after)(lost)
        b = task(name="b", state_handlers=[turning(state.TriggerFailed, state.Success(result="saved"))])(after)(lost)
    found = flow.run().result
    assert changes.text == ["Pending -> TriggerFailed"]
    assert (type(found[a]), found[b].result, calls) == (state.TriggerFailed, "saved", [])


def test_a_cached_result_is_one_change(log, changes):
    made = task(name="kept", cache_for=timedelta(hours=1), state_handlers=[changes])(lambda: 5)
    with Flow("cached") as flow:
        found = made()
    flow.run()
    assert flow.run().result[found].is_cached()
    assert changes.text == ["Pending -> Running", "Running -> Success", "Pending -> Cached"]


def test_on_failure_is_called_on_every_failed_attempt_and_on_failed_triggers(log):
    told = []

    def note(made, ended):
        told.append((made.name, type(ended).__name__))

    fails = task(name="fails", on_failure=note, max_retries=1, retry_delay=SOON)(raises)
    after = task(name="after", on_failure=note)(lambda x: x)
    with Flow("failing", on_failure=lambda flow, ended: told.append((flow.name, ended.message))) as flow:
        after(fails())
    flow.run()
    assert told == [
        ("fails", "Failed"),
        ("fails", "Failed"),
        ("after", "TriggerFailed"),
        ("failing", "Some reference tasks failed."),
    ]


def test_handlers_of_a_flow_see_it_begin_and_end(log, changes):
    seen = {}

    def handler(flow, old, new):
        seen[type(new).__name__] = new

    with Flow("handled", state_handlers=[changes, handler]) as flow:
        found = task(name="five")(lambda: 5)()
    state_of_flow = flow.run()
    assert changes.text == ["Pending -> Running", "Running -> Success"]
    assert seen["Success"].result[found].result == 5
    assert state_of_flow.result[found].result == 5


def test_a_handler_can_turn_the_end_of_a_flow(log):
    with Flow("turned", state_handlers=[turning(state.Failed, state.Success("all the same"))]) as flow:
        task(name="fails")(raises)()
    ended = flow.run()
    assert (type(ended), ended.message) == (state.Success, "all the same")
    with Flow("turned", state_handlers=[turning(state.Success, state.Failed("not good enough"))]) as flow:
        task(name="five")(lambda: 5)()
    assert flow.run().is_failed()


def test_the_terminal_handler_is_called_once_with_the_reference_states(log):
    calls = []

    def terminal(flow, ended, references):
        calls.append((flow.name, type(ended).__name__, {type(one).__name__ for one in references}))
        return state.Success("forgiven", result=ended.result)

    with Flow("terminal", terminal_state_handler=terminal) as flow:
        task(name="fails", max_retries=1, retry_delay=SOON)(raises)()
    assert flow.run().message == "forgiven"
    assert calls == [("terminal", "Failed", {"Failed"})]


def test_handlers_given_to_a_run_are_asked_for_each_task(log):
    seen = []
    with Flow("outer") as flow:
        task(name="five")(lambda: 5)()
    flow.run(task_runner_state_handlers=[lambda runner, old, new: seen.append((runner.task.name, type(new).__name__))])
    assert seen == [("five", "Running"), ("five", "Success")]


def test_the_answers_are_on_record(log, changes):
    _, run = run_one(log, lambda: 5, handlers=[changes])
    assert [t.facts.answers for t in run.transitions[1:]] == [{"state_handlers": None}] * 2


def judged_again(run):
    """What the rule says of each recorded move, from the record alone."""
    folded, verdicts = Run(run.folded.id), []
    for move in run.transitions:
        verdict = review(folded, Proposal(move.asked or move.to, move.at, move.facts), None)
        verdicts.append((verdict.to if verdict is not None else None, move.to if move.by == "classic" else None))
        folded = apply(folded, move)
    return verdicts


def test_verdicts_are_the_same_when_the_history_is_judged_again_from_the_log(log):
    into = state.Success(result={"a": (1, 2)})
    _, run = run_one(log, raises, handlers=[turning(state.Failed, into)], max_retries=1, retry_delay=SOON)
    _, other = run_one(
        log, raises, handlers=[turning(state.Retrying, state.Failed("no more"))], max_retries=1, retry_delay=SOON
    )

    with Flow("triggers") as flow:
        task(name="stopped")(lambda x: x)(task(name="fails")(raises)())
    flow.run()
    stopped = log.runs(name="stopped")[0]

    for recorded in (run, other, stopped):
        verdicts = judged_again(recorded)
        assert sum(written is not None for _, written in verdicts) == 1
        assert [said for said, _ in verdicts] == [written for _, written in verdicts]

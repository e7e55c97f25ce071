"""The table of triggers, cell by cell, and what becomes of their answers."""

from __future__ import annotations

import pytest

from pluperfect.classic import Flow, task, triggers
from pluperfect.classic.engine import signals
from pluperfect.classic.engine.state import TriggerFailed
from pluperfect.testing import kinds

COLUMNS = ["ok,ok", "ok,bad", "bad,bad", "ok,skip", "bad,skip", "skip,skip"]
TABLE = {
    "all_successful": "run TF TF run TF run",
    "all_failed": "TF TF run TF TF TF",
    "any_successful": "run run TF run run run",
    "some_successful": "run run TF run run run",
    "any_failed": "TF run run TF run TF",
    "some_failed": "TF run run TF run TF",
    "all_finished": "run run run run run run",
    "always_run": "run run run run run run",
    "not_all_skipped": "run TF TF run TF skip",
}
CELLS = [
    (name, column, answer) for name, row in TABLE.items() for column, answer in zip(COLUMNS, row.split(), strict=True)
]


def ends(how):
    @task(name=how, skip_on_upstream_skip=False)
    def end():
        if how == "bad":
            raise ValueError("bad")
        if how == "skip":
            raise signals.SKIP("skipped", result=None)
        return how

    return end


def after(log, trigger, column, **options):
    calls = []

    @task(trigger=trigger, **options)
    def last():
        calls.append(1)
        return "ran"

    with Flow("triggers") as flow:
        found = last(upstream_tasks=[ends(how)() for how in column.split(",")])
    return flow.run().result[found], calls


@pytest.mark.parametrize(("name", "column", "answer"), CELLS, ids=[f"{n}-{c}" for n, c, _ in CELLS])
def test_each_cell_of_the_table(log, name, column, answer):
    trigger = getattr(triggers, name)
    trigger = trigger(at_least=1) if name.startswith("some") else trigger

    state, calls = after(log, trigger, column, skip_on_upstream_skip=False)

    if answer == "run":
        assert (state.is_successful(), state.result, calls) == (True, "ran", [1])
    elif answer == "skip":
        assert (state.is_skipped(), calls) == (True, [])
    else:
        assert (type(state), calls) == (TriggerFailed, [])
        assert isinstance(state.result, signals.TRIGGERFAIL)


@pytest.mark.parametrize("name", [*TABLE, "default"])
def test_any_skip_upstream_skips_before_the_trigger_is_asked(log, name):
    asked = []

    def trigger(states):
        asked.append(states)
        return True

    state, calls = after(log, trigger, "ok,skip")
    assert (state.is_skipped(), calls, asked) == (True, [], [])


@pytest.mark.parametrize("name", TABLE)
def test_a_task_with_nothing_upstream_runs_but_not_all_skipped_skips(log, name):
    trigger = getattr(triggers, name)
    trigger = trigger(at_least=1) if name.startswith("some") else trigger

    @task(trigger=trigger)
    def alone():
        return 1

    with Flow("alone") as flow:
        found = alone()
    assert flow.run().result[found].is_skipped() == (name == "not_all_skipped")


@pytest.mark.parametrize(
    ("least", "most", "runs"),
    [(0.5, None, True), (0.6, None, False), (2, None, False), (None, 0.4, False), (None, 1, True)],
)
def test_bounds_below_one_are_fractions(log, least, most, runs):
    _, calls = after(log, triggers.some_successful(least, most), "ok,bad")
    assert bool(calls) == runs


def test_false_and_an_exception_fail_the_trigger_and_are_never_retried(log):
    from datetime import timedelta

    for trigger in (lambda states: False, lambda states: 1 / 0):
        state, calls = after(log, trigger, "ok", max_retries=3, retry_delay=timedelta(seconds=1))
        assert (type(state), calls) == (TriggerFailed, [])
        run = log.runs(name="last")[0]
        assert kinds(run) == ["Pending", "Failed"]
        assert run.state.cause == "trigger"
    assert isinstance(state.result, ZeroDivisionError)


def test_the_answer_is_a_recorded_verdict(log):
    after(log, triggers.all_successful, "ok")
    begun = log.runs(name="last")[0].transitions[1]
    assert begun.facts.answers == {"trigger": True}

    after(log, triggers.all_successful, "bad")
    ended = log.runs(name="last")[0].transitions[1]
    assert (ended.to.kind, ended.asked.kind, ended.by) == ("Failed", "Running", "classic")


def test_a_trigger_is_given_the_states_by_edge(log):
    seen = {}

    def trigger(states):
        seen.update({edge.upstream_task.name: type(state).__name__ for edge, state in states.items()})
        return True

    after(log, trigger, "ok,bad")
    assert seen == {"ok": "Success", "bad": "Failed"}


def test_loop_in_a_trigger_fails_it(log):
    def trigger(states):
        raise signals.LOOP(result=1)

    state, calls = after(log, trigger, "ok")
    assert (type(state), calls) == (TriggerFailed, [])
    assert "LOOP" in str(state.result)


def test_manual_only_pauses_until_the_run_is_resumed(log):
    @task
    def first():
        return 1

    @task(trigger=triggers.manual_only)
    def second(x):
        return x + 1

    with Flow("manual") as flow:
        x = first()
        y = second(x)

    paused = flow.run()
    assert (paused.is_paused(), paused.result[y].is_paused(), paused.result[x].result) == (True, True, 1)

    done = flow.run(resume=paused.run_id)
    assert done.result[y].result == 2

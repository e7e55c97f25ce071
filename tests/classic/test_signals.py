"""What the body of a task raises to say what becomes of it."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, task
from pluperfect.classic.engine import signals, state
from pluperfect.testing import kinds

ALL = ["FAIL", "TRIGGERFAIL", "VALIDATIONFAIL", "SUCCESS", "SKIP", "RETRY", "PAUSE"]


def ending(log, signal, **options):
    @task(name="ends", **options)
    def ends():
        raise signal

    with Flow("signals") as flow:
        found = ends()
    return flow.run().result[found], log.runs(name="ends")[0]


@pytest.mark.parametrize(
    ("name", "kind", "recorded", "cause"),
    [
        ("FAIL", state.Failed, ["Pending", "Running", "Retrying", "Running", "Failed"], "error"),
        ("TRIGGERFAIL", state.TriggerFailed, ["Pending", "Running", "Failed"], "trigger"),
        ("VALIDATIONFAIL", state.ValidationFailed, ["Pending", "Running", "Failed"], "validation"),
    ],
)
def test_the_failing_signals_are_their_kinds_and_only_fail_is_retried(log, name, kind, recorded, cause):
    made = getattr(signals, name)("not good")
    ended, run = ending(log, made, max_retries=1, retry_delay=timedelta(seconds=1))

    assert (type(ended), ended.message, ended.result) == (kind, "not good", made)
    assert (kinds(run), run.state.cause) == (recorded, cause)


def test_success_is_as_a_return(log):
    ended, run = ending(log, signals.SUCCESS("early", result=5))
    assert (type(ended), ended.message, ended.result) == (state.Success, "early", 5)
    assert (run.state.kind, run.result()) == ("Completed", 5)
    assert ending(log, signals.SUCCESS(result=None))[0].result is None


def test_skip_is_a_success_under_its_label(log):
    ended, run = ending(log, signals.SKIP("not today", result=None))
    assert (type(ended), ended.is_successful(), ended.is_skipped(), ended.result) == (state.Skipped, True, True, None)
    assert (run.state.kind, run.state.name, run.result()) == ("Completed", "Skipped", None)


@pytest.mark.parametrize("name", ALL)
def test_the_result_is_the_signal_where_none_is_given(name):
    made = getattr(signals, name)("because")
    assert made.result is made
    assert getattr(signals, name)(result=3).result == 3
    assert isinstance(made, BaseException)
    assert not isinstance(made, Exception)
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), again.message, again.result) == (type(made), "because", again)


def test_a_failure_with_a_result_gives_it(log):
    assert ending(log, signals.FAIL(result={"code": 5}))[0].result == {"code": 5}


def test_retry_ignores_the_budget_and_waits_until_its_time(log, clock):
    calls = []
    at = datetime.fromtimestamp(clock.now() + 60, UTC)

    @task
    def asks():
        calls.append(prefect.context.task_run_count)
        if len(calls) < 4:
            raise signals.RETRY("later", start_time=at)
        return "done"

    with Flow("retry") as flow:
        found = asks()
    assert flow.run().result[found].result == "done"
    assert calls == [1, 2, 3, 4]
    assert clock.slept == [60.0]
    assert [t.to.cause for t in log.runs(name="asks")[0].transitions if t.to.kind == "Retrying"] == ["requested"] * 3


def test_pause_leaves_the_run_open_and_shows_what_was_done(log):
    @task
    def first():
        return 1

    @task
    def pauses(x):
        prefect.utilities.tasks.pause_task("have a look")
        return x + 1

    @task
    def after(x):
        return x + 1

    @task
    def beside():
        return "beside"

    with Flow("pausing") as flow:
        a = first()
        b = pauses(a)
        c = after(b)
        d = beside()

    paused = flow.run()
    assert (paused.is_paused(), paused.is_finished()) == (True, False)
    assert paused.result[a].result == 1
    assert paused.result[b].is_paused()
    assert paused.result[c].is_pending()
    assert paused.result[d].result == "beside"
    assert log.runs(name="pausing")[0].state.kind == "Running"

    done = flow.run(resume=paused.run_id)
    assert (done.result[b].result, done.result[c].result) == (2, 3)
    assert len(log.runs(name="first")) == 1
    assert kinds(log.runs(name="pauses")[0]) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    again = flow.run(resume=paused.run_id)
    assert again.result[c].result == 3


def test_each_pause_wants_its_own_resumption(log):
    @task
    def pauses(x):
        prefect.utilities.tasks.pause_task()
        return x

    with Flow("twice") as flow:
        a = pauses(1)
        b = pauses(a)
    state = flow.run()
    assert state.result[a].is_paused()
    state = flow.run(resume=state.run_id)
    assert (state.result[a].result, state.result[b].is_paused()) == (1, True)
    assert flow.run(resume=state.run_id).result[b].result == 1


def test_a_resumed_run_keeps_its_parameters(log):
    @task
    def pauses(x):
        prefect.utilities.tasks.pause_task()
        return x

    with Flow("keeps") as flow:
        a = pauses(Parameter("x"))
    state = flow.run(x=[1, 2])
    with pytest.raises(ValueError, match="give resume= alone"):
        flow.run(resume=state.run_id, x=3)
    assert flow.run(resume=state.run_id).result[a].result == [1, 2]


def test_endrun_ends_so_and_is_not_retried(log):
    ended, run = ending(
        log, signals.ENDRUN(state.Failed("enough", result=5)), max_retries=3, retry_delay=timedelta(seconds=1)
    )
    assert (type(ended), ended.result) == (state.Failed, 5)
    assert kinds(run) == ["Pending", "Running", "Failed"]
    ended, _ = ending(log, signals.ENDRUN(state.Success("fine", result=5)))
    assert (type(ended), ended.result) == (state.Success, 5)
    ended, _ = ending(log, signals.ENDRUN(state.Skipped("skipped")))
    assert ended.is_skipped()


def test_endrun_with_a_state_that_is_not_finished_is_failed(log):
    ended, _ = ending(log, signals.ENDRUN(state.Running()))
    assert ended.is_failed()
    assert "not finished" in ended.message
    assert isinstance(ended.result, TypeError)
    with pytest.raises(TypeError, match="takes a state"):
        signals.ENDRUN(5)


@pytest.mark.parametrize("name", ALL)
def test_signals_are_found_by_state(name):
    signal = getattr(signals, name)
    assert signals.signal_from_state(signal.kind()) is signal


def test_loop_is_found_by_its_state_and_running_by_none():
    assert signals.signal_from_state(state.Looped()) is signals.LOOP
    with pytest.raises(ValueError, match="No signal"):
        signals.signal_from_state(state.Running())

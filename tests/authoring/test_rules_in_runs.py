"""Rules at work: what they change, refuse and put off is on record, and their faults leave the log whole."""

from __future__ import annotations

import pytest

import pluperfect
from pluperfect import Failed, Verdict, flow, hookimpl, task
from pluperfect.errors import IllegalTransition, PluginError, Refused, RuleError
from pluperfect.hooks import Option
from pluperfect.testing import FakeClock, kinds
from pluperfect.transitions import Ruling


class Rule:
    """A rule made of a function."""

    name = "house-rule"

    def __init__(self, judge):
        self.judge = judge

    @hookimpl
    def review(self, run, proposal, definition):
        return self.judge(run, proposal, definition)


@pytest.fixture
def opened(uri):
    logs = []

    def open_with(*plugins, **options):
        logs.append(pluperfect.open(uri, plugins=plugins, clock=FakeClock(), entry_points=False, **options))
        return logs[-1]

    yield open_with
    for log in logs:
        log.close()
    if uri != "memory:":
        with pluperfect.open(uri, entry_points=False) as log:
            assert log.compare() == []


@task
def work():
    return "worked"


def on(kind, verdict, name=None):
    """A rule that answers proposals of this kind, for runs of this name."""

    def judge(run, proposal, definition):
        called = name is None or definition.name == name
        return verdict if proposal.to.kind == kind and called else None

    return Rule(judge)


def test_a_refused_start_raises_refused_and_leaves_the_refusal_on_record(opened):
    log = opened(on("Running", Verdict(refuse="closed on Sundays")))
    log.__enter__()
    with pytest.raises(Refused, match="closed on Sundays") as caught:
        work()
    assert caught.value.by == "house-rule"
    run = log.runs()[0]
    assert kinds(run) == ["Pending"]
    ruling = run.history[-1]
    assert isinstance(ruling, Ruling)
    assert (ruling.seq, ruling.asked.kind, ruling.by, ruling.why) == (2, "Running", "house-rule", "closed on Sundays")
    log.__exit__(None, None, None)


def test_a_refused_birth_is_recorded_with_its_refusal(opened):
    with opened(on("Pending", Verdict(refuse="no"))) as log:
        with pytest.raises(Refused):
            work()
        assert [type(entry).__name__ for entry in log.runs()[0].history] == ["Transition", "Ruling"]


def test_a_refused_outcome_fails_the_run_with_cause_refused(opened):
    with opened(on("Completed", Verdict(refuse="unsigned"))) as log:
        with pytest.raises(Refused, match="unsigned"):
            work()
        run = log.runs()[0]
        assert kinds(run) == ["Pending", "Running", "Failed"]
        assert run.state.cause == "refused"


def test_a_refused_child_is_ended_with_its_flow(opened):
    with opened(on("Running", Verdict(refuse="no"), name="work")) as log:

        @flow
        def whole():
            try:
                work()
            except Refused:
                return "went on"

        assert whole() == "went on"
        child = log.runs(name="work")[0]
        assert kinds(child) == ["Pending", "Failed"]
        assert child.state.cause == "refused"


def test_a_delay_is_recorded_and_slept_and_the_rule_is_asked_again(opened):
    def judge(run, proposal, definition):
        if proposal.to.kind == "Running" and run.ruling is None:
            return Verdict(delay=30, why="the line is busy")
        return None

    with opened(Rule(judge)) as log:
        assert work() == "worked"
        run = log.runs()[0]
        assert log.clock.slept == [30]
        assert [entry.seq for entry in run.history] == [1, 2, 3, 4]
        assert run.history[1].until == run.history[1].at + 30


def test_a_replaced_state_records_what_was_asked_by_whom_and_why(opened):
    verdict = Verdict(to=Failed(message="not good enough", cause="trigger"), why="quality gate")
    with opened(on("Completed", verdict)) as log:
        state = work(return_state=True)
        transition = log.runs()[0].transitions[-1]
        assert (state.kind, transition.asked.kind, transition.by, transition.why) == (
            "Failed",
            "Completed",
            "house-rule",
            "quality gate",
        )
        assert "asked Completed   by house-rule: quality gate" in str(transition)


def test_users_rules_are_asked_before_built_in_ones(opened):
    with opened(on("Failed", Verdict(to=Failed(message="at once")))) as log:

        @task(retries=5)
        def shaky():
            raise ConnectionError

        assert shaky(return_state=True).message == "at once"
        assert kinds(log.runs()[0]) == ["Pending", "Running", "Failed"]


@pytest.mark.parametrize(
    ("judge", "error", "words"),
    [
        (lambda *_: 1 / 0, RuleError, "house-rule.*ZeroDivisionError"),
        (lambda *_: "yes", RuleError, "house-rule.*'yes'"),
        (lambda *_: Verdict(), RuleError, "exactly one"),
        (lambda *_: Verdict(to=Failed(), refuse="both"), RuleError, "to and refuse"),
        (lambda *_: Verdict(delay=-1), RuleError, "greater than 0"),
        (lambda *_: Verdict(to=pluperfect.Pending()), IllegalTransition, "house-rule"),
        (lambda *_: Verdict(ask="nothing_like_it"), PluginError, "nothing_like_it"),
    ],
)
def test_a_rule_at_fault_is_named_and_makes_no_transition(opened, judge, error, words):
    def only_outcomes(run, proposal, definition):
        return judge(run, proposal, definition) if proposal.to.kind == "Completed" else None

    with opened(Rule(only_outcomes)) as log:
        with pytest.raises(error, match=words):
            work()
        assert kinds(log.runs()[0]) == ["Pending", "Running"]


def test_a_plugin_adds_an_option_that_its_rule_reads(opened):
    class Quota:
        @hookimpl
        def options(self, kind):
            return [Option("quota", None, "how many runs", wakes=True)]

        @hookimpl
        def review(self, run, proposal, definition):
            if proposal.to.kind == "Running" and definition.options["quota"] == 0:
                return Verdict(refuse="the quota is used up")
            return None

    with opened(Quota()):
        assert work() == "worked"
        with pytest.raises(Refused, match="used up"):
            task(quota=0)(lambda: 1)()


def test_a_switched_off_plugin_is_without_effect(opened):
    with opened(disabled=["retries"]) as log:

        @task(retries=5)
        def shaky():
            raise ConnectionError

        with pytest.raises(ConnectionError):
            shaky()
        assert kinds(log.runs()[0]) == ["Pending", "Running", "Failed"]


def test_callbacks_are_called_with_the_run_after_the_commit(opened):
    seen = []

    def note(word):
        return lambda task, task_run, state: seen.append(
            (word, task.name, task_run.seq, state.kind, log.log.position())
        )

    with opened() as log:

        @task(on_running=[note("running")], on_completion=[note("done")], on_failure=[note("failed")], retries=1)
        def shaky():
            if len(seen) == 1:
                raise ConnectionError
            return 1

        shaky()
    assert [(word, name, seq, kind) for word, name, seq, kind, _ in seen] == [
        ("running", "shaky", 2, "Running"),
        ("running", "shaky", 4, "Running"),
        ("done", "shaky", 5, "Completed"),
    ]
    assert all(position >= seq for _, _, seq, _, position in seen)


def test_a_callback_that_raises_is_logged_and_the_run_goes_on(opened, caplog):
    def broken(task, task_run, state):
        raise RuntimeError("callback broke")

    with opened():
        assert task(on_completion=[broken])(lambda: 1)() == 1
    assert "callback broke" in caplog.text


def test_prints_go_to_the_log_of_the_run(opened, caplog, capsys):
    caplog.set_level("INFO", "pluperfect")

    @task
    def says():
        print("from the task", 1)

    @flow(log_prints=True)
    def talks():
        print("from the flow")
        says()

    with opened():
        talks()
        print("outside")
    assert "from the flow" in caplog.text
    assert "from the task 1" in caplog.text
    assert "outside" not in caplog.text
    assert capsys.readouterr().out == "outside\n"

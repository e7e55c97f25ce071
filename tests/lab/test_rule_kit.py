"""The kit for authors of rules: what it makes is sound, and its suite lets good rules pass and finds bad ones."""

from datetime import UTC, datetime

import pytest
from hypothesis import Phase, given, settings

from pluperfect import Retrying, Running, Verdict, hookimpl
from pluperfect.errors import ImpureRule, RuleError, UnknownRule
from pluperfect.states import Completed, Failed, Looped, Pending
from pluperfect.testing.rules import (
    AT,
    RuleConformance,
    ask,
    definitions,
    looped,
    pending,
    probes,
    proposals,
    retrying,
    running,
    runs,
    unborn,
)
from pluperfect.transitions import legal


@settings(max_examples=200, deadline=None)
@given(proposals(tags=["deploy"], options={"cents": [0, 250]}))
def test_drawn_proposals_are_rows_of_the_table(case):
    run, proposal = case
    assert legal(run.state, proposal.to)
    assert not run.final
    if run.state is not None:
        assert set(run.birth.options) <= {"cents"}


@settings(max_examples=100, deadline=None)
@given(runs(), definitions(options={"cents": [1, 2]}))
def test_drawn_runs_can_go_on_and_definitions_have_the_options(run, definition):
    assert run.state is None or not run.state.final
    assert definition.options["cents"] in (1, 2)


def test_runs_made_by_hand_are_what_they_are_called():
    assert unborn().state is None
    assert pending(tags=["a"], kind="flow").birth.tags == ("a",)
    assert isinstance(pending().state, Pending)
    third = running(attempt=3, spent=1)
    assert (third.attempt, third.spent, third.loop_count) == (3, 1, 1)
    fourth = running(iteration=4)
    assert (fourth.loop_count, fourth.spent) == (4, 0)
    waiting = retrying(attempt=2)
    assert (type(waiting.state), waiting.attempt, waiting.spent) == (Retrying, 2, 2)
    assert retrying(cause="requested").spent == 0
    assert isinstance(looped(count=2).state, Looped)
    assert looped(count=2).loop_count == 3


def fridays(run, proposal):
    starts = proposal.to.is_running() and "deploy" in run.birth.tags
    if starts and datetime.fromtimestamp(proposal.at, UTC).strftime("%A") == "Friday":
        return Verdict(refuse="no deploys on Fridays")
    return None


def test_a_rule_is_asked_at_any_time_however_it_is_given():
    run = pending(tags=["deploy"])
    for friday in ("2026-11-20T12:00", datetime(2026, 11, 20, 12), datetime(2026, 11, 20, 12, tzinfo=UTC), AT):
        assert ask(fridays, run, Running(), at=friday).refuse == "no deploys on Fridays"
    assert ask(fridays, run, Running(), at="2026-11-21T12:00") is None


def test_what_raises_or_is_no_rule_is_an_error():
    with pytest.raises(RuleError, match="this run is not born yet"):
        ask(lambda run, proposal: run.birth, unborn(), Pending())
    with pytest.raises(UnknownRule):
        ask(7, unborn(), Pending())


def test_the_probes_of_a_rule_can_be_looked_at():
    assert {"deploy"} <= {tag for probe in probes(fridays) if probe.run.spec for tag in probe.run.birth.tags}


class TestAGoodFunction(RuleConformance):
    rule = fridays
    tags = ("deploy",)


class Limited:
    name = "limited"

    @hookimpl
    def review(self, run, proposal, definition):
        options = run.birth.options if run.state is not None else {}
        if run.state is None or not proposal.to.is_running() or options.get("cents", 0) < 100:
            return None
        return Verdict(refuse="too dear")


class TestAGoodObject(RuleConformance):
    rule = Limited()
    options = {"cents": [0, 99, 100]}
    speaks = (pending(options={"cents": 100}), Running())


def births(run, proposal):
    return Verdict(refuse="no") if "deploy" in run.birth.tags else None


def clocked(run, proposal):
    return Verdict(refuse="late") if datetime.now(UTC).year > 3000 else None


def backwards(run, proposal):
    return Verdict(to=Pending()) if proposal.to.is_completed() else None


def deaf(run, proposal):
    return None


def rare(run, proposal):
    """Wrong in a corner that only drawn runs reach."""
    if isinstance(proposal.to, Failed | Completed) and run.state is not None and len(run.birth.inputs) == 2:
        raise LookupError("two inputs")


@pytest.fixture
def _unshrunk():
    """What is found is not made small: nobody looks at it here."""
    settings.register_profile("before", settings.default)
    settings.register_profile("unshrunk", settings.default, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("unshrunk")
    yield
    settings.load_profile("before")


@pytest.mark.parametrize(
    ("bad", "test", "error"),
    [
        (births, "test_it_never_raises", AssertionError),
        (clocked, "test_it_is_pure", AssertionError),
        (backwards, "test_its_answers_can_be_recorded", AssertionError),
        (deaf, "test_it_speaks", AssertionError),
        (births, "test_it_holds_for_drawn_runs", RuleError),
        (rare, "test_it_holds_for_drawn_runs", RuleError),
        (clocked, "test_it_holds_for_drawn_runs", ImpureRule),
        (7, "test_it_fits_the_hooks", UnknownRule),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
@pytest.mark.usefixtures("_unshrunk")
def test_the_suite_finds_what_is_wrong(bad, test, error):
    suite = type("Suite", (RuleConformance,), {"rule": bad})()
    with pytest.raises(error):
        getattr(suite, test)()

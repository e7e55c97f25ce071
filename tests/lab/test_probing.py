"""Looking at rules without a history: what is wrong is found, what is right is not, and every row of the table is asked about."""

from datetime import UTC, datetime

import pytest

from pluperfect import Retrying, Running, Verdict, hookimpl
from pluperfect.course import Propose, course
from pluperfect.hooks import Option
from pluperfect.manager import Hooks
from pluperfect.probing import PROPOSED, check, explain, makers, probes
from pluperfect.rulebook import Rules, alone
from pluperfect.states import Cached, Completed, Failed, Looped, Pending, TimedOut
from pluperfect.transitions import TABLE, Transition, apply, legal

ROWS = {(before, to) for before, row in TABLE.items() for to in row}


def rule(review, name="tried"):
    return type("Tried", (), {"name": name, "review": hookimpl(review)})()


def findings(*rules, only=True):
    first = alone(*rules)
    names = [info.name for info in first.plugins] if only else None
    return check(Rules(first, Hooks(entry_points=False)), names)


def kinds(*rules, only=True):
    return [found.kind for found in findings(*rules, only=only)]


def test_the_probes_are_legal_proposals_of_every_row_and_their_runs_have_such_a_history():
    rules = Rules(None, Hooks(entry_points=False))
    seen = set()
    for probe in probes(rules):
        seen.add(probe.row)
        assert legal(probe.run.state, probe.proposal.to)
        assert probe.run.state is None or probe.run.seq > 0
    assert seen == ROWS


def test_the_rules_that_come_with_the_library_are_in_order():
    assert check(Rules(None, Hooks(entry_points=False))) == []


def careless(self, run, proposal):
    return Verdict(refuse="no") if "deploy" in run.birth.tags else None


def impossible(self, run, proposal):
    return Verdict(to=Retrying()) if run.state and run.state.is_pending() else None


def two_things(self, run, proposal):
    return Verdict(refuse="no", delay=1) if proposal.to.is_running() else None


def clocked(self, run, proposal):
    return Verdict(refuse="late") if proposal.to.is_running() and datetime.now(UTC).year > 3000 else None


def never(self, run, proposal):
    return Verdict(refuse="never") if proposal.to.is_cached() and proposal.to.is_failed() else None


def asks_a_birth(self, run, proposal):
    return Verdict(ask="approve") if run.state is None else None


def counts(self, run, proposal):
    self.count = getattr(self, "count", 0) + 1
    return Verdict(refuse="enough") if self.count > 5_000 and proposal.to.is_running() else None


@pytest.mark.parametrize(
    ("review", "kind"),
    [
        (careless, "raises"),
        (impossible, "illegal"),
        (two_things, "illegal"),
        (asks_a_birth, "illegal"),
        (clocked, "impure"),
        (counts, "impure"),
        (never, "silent"),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_what_is_wrong_with_a_rule_is_found(review, kind):
    assert kinds(rule(review)) == [kind]


class NoFridays:
    @hookimpl
    def review(self, run, proposal):
        starts = proposal.to.is_running() and "deploy" in run.birth.tags
        if starts and datetime.fromtimestamp(proposal.at, UTC).strftime("%A") == "Friday":
            return Verdict(refuse="no deploys on Fridays")
        return None


class Fussy:
    """It speaks where everything comes together: a tag, an attempt, an hour; each stands somewhere else in its code."""

    tags = ("nightly", "heavy")

    def __init__(self):
        self.limits = {"nightly": 17}

    @hookimpl
    def review(self, run, proposal):
        if not proposal.to.is_running() or run.state is None:
            return None
        for tag in self.tags:
            if tag in run.birth.tags and proposal.to.attempt > self.limits.get(tag, 10**9):
                return Verdict(refuse="too often")
        return None


class Priced:
    @hookimpl
    def options(self, kind):
        return [Option("cents", 0, "what it costs", int, wakes=True)]

    @hookimpl
    def review(self, run, proposal, definition):
        if definition is None or not proposal.to.is_running() or definition.options["cents"] <= 250:
            return None
        return Verdict(refuse="too dear")


def rate_limited(self, run, proposal):
    if proposal.to.is_failed() and run.state.is_running():
        error = proposal.to.error
        if error is not None and "429" in error.message:
            return Verdict(to=Retrying(cause="requested", due=proposal.at + 60, error=error))
    return None


def named(self, run, proposal):
    return Verdict(delay=5.0) if proposal.to.is_running() and run.birth.name == "nightly-report" else None


@pytest.mark.parametrize(
    "sound",
    [NoFridays(), Fussy(), Priced(), rule(rate_limited), rule(named)],
    ids=["day", "attempt", "option", "message", "name"],
)
def test_a_rule_that_waits_for_what_its_own_code_names_is_heard(sound):
    assert kinds(sound) == []


def test_a_rule_that_another_always_forestalls_is_found():
    def loud(self, run, proposal):
        return Verdict(refuse="no") if proposal.to.is_running() else None

    def quiet(self, run, proposal):
        return Verdict(refuse="me too") if proposal.to.is_running() and run.attempt > 1 else None

    (found,) = findings(rule(loud, "loud"), rule(quiet, "quiet"))
    assert (found.rule, found.kind) == ("quiet", "shadowed")


def test_a_row_that_a_rule_closes_is_found_and_one_that_nobody_makes():
    def no_loops(self, run, proposal):
        return Verdict(refuse="no loops") if proposal.to.is_looped() else None

    (closed,) = findings(rule(no_loops), only=False)
    assert closed.kind == "closed"
    assert "Running -> Looped cannot be taken any more: rule 'tried'" in closed.text
    (unmade,) = check(Rules(None, Hooks(disabled=["caching"], entry_points=False)))
    assert "Pending -> Cached cannot be taken any more" in unmade.text


def test_rules_are_explained_in_the_order_in_which_they_are_asked_and_the_first_decides():
    rules = Rules(alone(NoFridays()), Hooks(entry_points=False))
    heard = explain(rules, Pending, Running)

    assert [spoken.rule for spoken in heard] == ["no-fridays", "classic", "retries", "caching"]
    friday, _, retries, caching = heard
    assert list(friday.said) == ["refuses: no deploys on Fridays"]
    assert friday.decided == sum(friday.said.values())
    assert retries.said == {}
    assert 0 < caching.decided
    assert makers(rules, Running, Retrying) == {"retries": {Failed, TimedOut}}
    assert makers(rules, Pending, Cached) == {"caching": {Running}}


def test_the_engine_proposes_the_rows_that_are_said_to_be_its_own():
    """Led through all that a body can do, the course proposes nothing but these rows; ends from outside are the others."""
    seen = {(None, Pending)}
    start = next(p.run for p in probes(Rules(None, Hooks(entry_points=False))) if p.row == (Pending, Running))
    outcomes = [
        Completed(),
        Failed(),
        TimedOut(),
        Looped(count=1),
        Retrying(cause="paused"),
        Retrying(cause="requested"),
    ]
    for outcome in outcomes:
        for obstacle in (None, Failed(cause="upstream")):
            lead = course(start, intent=False)
            run, answer, bodies = start, None, 0
            try:
                while True:
                    effect = lead.send(answer)
                    if isinstance(effect, Propose):
                        seen.add((type(run.state), type(effect.to)))
                        run = answer = apply(run, Transition(run.seq + 1, 0.0, effect.to))
                    elif type(effect).__name__ == "Call":
                        bodies += 1
                        answer = outcome if bodies == 1 else Completed()
                    else:
                        answer = obstacle if type(effect).__name__ == "Resolve" else None
            except StopIteration:
                pass
    assert seen <= PROPOSED
    assert ROWS - PROPOSED == {(Pending, Cached)}
    assert PROPOSED - seen == {(Retrying, Failed), (Looped, Failed)}  # a flow that ends, or a cancellation

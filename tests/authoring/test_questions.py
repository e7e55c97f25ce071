"""Questions of rules to the user's callables: what these are told, and when."""

from __future__ import annotations

import pytest

import pluperfect
from pluperfect import Verdict, hookimpl, task
from pluperfect.errors import Refused
from pluperfect.hooks import Option
from pluperfect.states import Failed
from pluperfect.testing import FakeClock


class Asks:
    """A rule that puts a question about each end of an attempt, and obeys a state that is the answer."""

    def __init__(self, **how):
        self.how = how

    @hookimpl
    def options(self, kind):
        return [Option("witness", None, "is told of ends", wakes=True)]

    @hookimpl
    def review(self, run, proposal, definition):
        if run.state is None or not run.state.is_running():
            return None
        answers = proposal.facts.answers or {}
        if "witness" not in answers:
            return Verdict(ask="witness", **self.how)
        said = answers["witness"]
        return Verdict(to=said) if isinstance(said, pluperfect.states.State) else None


class Refuses:
    @hookimpl
    def review(self, proposal):
        return Verdict(refuse="never") if proposal.to.is_failed() else None


def told(*, plugins, answer=None, **options):
    seen = []

    @task(witness=lambda _task, _run, state: seen.append(state) or answer, **options)
    def fails():
        raise ValueError("no")

    with pluperfect.open("memory:", plugins=plugins, clock=FakeClock(), entry_points=False) as log:
        try:
            fails()
        except (ValueError, Refused):
            pass
        run = log.runs()[0]
        return [state.kind for state in seen], seen, run.transitions, run.folded


def test_a_question_is_asked_about_the_proposed_state():
    names, _, moves, _ = told(plugins=[Asks()], retries=1)
    assert names == ["Failed", "Failed"]
    assert [move.to.kind for move in moves] == ["Pending", "Running", "Retrying", "Running", "Failed"]


def test_a_question_that_is_put_last_is_asked_about_what_the_rules_after_it_make_of_the_state():
    names, seen, _, _ = told(plugins=[Asks(last=True)], retries=1)
    assert names == ["Retrying", "Failed"]
    assert isinstance(seen[0].live, ValueError)


def test_a_question_about_a_state_is_asked_about_that_one():
    names, seen, _, _ = told(plugins=[Asks(about=Failed("another"), last=True)], retries=1)
    assert (names, seen[0].message) == (["Failed", "Failed"], "another")


def test_a_question_that_is_put_last_is_not_asked_where_a_later_rule_refuses():
    names, _, _, folded = told(plugins=[Refuses(), Asks(last=True)])
    assert names == []
    assert folded.ruling.why == "never"


@pytest.mark.parametrize("last", [False, True])
def test_the_answer_is_recorded_and_may_be_the_state(last):
    _, _, moves, _ = told(plugins=[Asks(last=last)], answer=Failed("as I said", "validation"), retries=1)
    ended = moves[-1]
    assert (ended.to.message, ended.asked.kind, len(moves)) == ("as I said", "Failed", 3)
    assert "as I said" in ended.facts.answers["witness"]  # read from the log, a state comes as the list of its parts

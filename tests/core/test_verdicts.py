"""What a rule answers is looked at before anything comes of it."""

from __future__ import annotations

import pytest

import pluperfect
from pluperfect import Verdict, hookimpl, task
from pluperfect.errors import RuleError


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ({"delay": "soon"}, "delay='soon'; delay is a number of seconds"),
        ({"delay": True}, "delay=True; delay is a number of seconds"),
        ({"delay": -1}, "a delay must be greater than 0"),
        ({"refuse": 5}, "refuse=5; refuse is the reason"),
        ({"to": "Failed"}, "to='Failed'; to is a state"),
        ({"ask": 3}, "ask=3; ask is the name of an option"),
        ({"refuse": "no", "why": 1}, "why=1; why is a text"),
    ],
)
def test_a_verdict_that_says_nothing_that_can_be_done_is_blamed_on_its_rule(verdict, told):
    class Odd:
        @hookimpl
        def review(self, run, proposal):
            return Verdict(**verdict) if proposal.to.is_running() else None

    @task
    def work():
        raise AssertionError("it must not begin")

    with pluperfect.open("memory:", plugins=[Odd()], entry_points=False) as log:
        with pytest.raises(RuleError) as raised:
            work()
        assert told in str(raised.value)
        assert "'odd'" in str(raised.value)
        assert log.runs() == []


def test_a_rule_that_raises_is_named_with_its_line():
    class Mistyped:
        @hookimpl
        def review(self, run, proposal):
            return proposal.to.is_runing()

    @task
    def work():
        return 1

    with pluperfect.open("memory:", plugins=[Mistyped()], entry_points=False):
        with pytest.raises(
            RuleError, match=r"has no attribute 'is_runing' \(.*test_verdicts.*:\d+\), asked about Pending"
        ):
            work()

"""The rule alone, and at work."""

import logging

import pytest
from spending import Spending

import pluperfect
from pluperfect import Pending, Proposal, Running, flow, task
from pluperfect.errors import Refused
from pluperfect.states import Spec
from pluperfect.testing import kinds
from pluperfect.transitions import Facts, Transition, fold


def born(price):
    spec = Spec("task", "buy", "buy-1", "buy-0", bytes(16), options={"cents": price})
    return fold(bytes(16), [Transition(1, 0.0, Pending(spec=spec))])


@pytest.mark.parametrize(
    ("price", "answers", "verdict"),
    [
        (100, None, None),
        (101, None, {"ask": "approve"}),
        (101, {"approve": True}, None),
        (101, {"approve": False}, {"refuse": "101 cents were not approved"}),
        (101, {"approve": {"raised": "OSError: nobody there"}}, {"refuse": "101 cents were not approved"}),
    ],
)
def test_what_costs_more_than_a_euro_is_asked_about(price, answers, verdict):
    given = Spending().review(born(price), Proposal(Running(), 0.0, Facts(answers=answers)))

    assert given == (None if verdict is None else pluperfect.Verdict(**verdict))


def ask_the_boss(task, run, state):
    return run.birth.name == "buy"


@task(cents=250, approve=ask_the_boss)
def buy(item):
    return item


def test_an_approved_start_is_made_and_the_answer_is_on_record(caplog):
    caplog.set_level(logging.INFO, "spending")
    with pluperfect.open("memory:", plugins=[Spending()], entry_points=False) as log:
        assert buy("tea") == "tea"
        run = log.runs()[0]
        assert kinds(run) == ["Pending", "Running", "Completed"]
        assert run.history[1].facts.answers == {"approve": True}
    assert caplog.messages == ["buy spends 250 cents"]


@pytest.mark.parametrize("approve", [None, lambda *_: False, lambda *_: 1 / 0])
def test_what_nobody_approves_does_not_start(approve):
    with pluperfect.open("memory:", plugins=[Spending()], entry_points=False) as log:
        with pytest.raises(Refused, match="250 cents were not approved"):
            buy.with_options(approve=approve)("tea")
        run = log.runs()[0]
        assert kinds(run) == ["Pending"]
        assert run.history[-1].by == "spending"


def test_in_a_flow_every_submitted_start_is_asked_about(caplog):
    @flow
    def shopping():
        return [future.result() for future in (*buy.map(["tea", "milk"]), buy.submit("salt"))]

    caplog.set_level(logging.INFO, "spending")
    with pluperfect.open("memory:", plugins=[Spending()], entry_points=False):
        assert shopping() == ["tea", "milk", "salt"]
    assert sorted(caplog.messages) == [f"buy-{n} spends 250 cents" for n in range(3)]


def test_a_bad_price_is_refused_at_the_call():
    with (
        pluperfect.open("memory:", plugins=[Spending()], entry_points=False),
        pytest.raises(ValueError, match="whole number"),
    ):
        buy.with_options(cents=-1)("tea")

"""The course of a run, driven by hand: no store, no clock, no thread."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import oracle
from pluperfect.course import Ask, Call, Durable, Propose, Resolve, Sleep, course
from pluperfect.rules import Proposal, Question, Verdict, settle
from pluperfect.states import Completed, Failed, Looped, Pending, Retrying, Running, Spec, TimedOut
from pluperfect.transitions import Run, apply, fold

SPEC = Spec("task", "work", "work-1", "work-0", bytes(16))


def born(*entries):
    run = Run(bytes(16))
    for state in (Pending(spec=SPEC), *entries):
        run = apply(run, settle(run, Proposal(state, 1.0)))
    return run


class Host:
    """Performs effects by a script, and writes down what was asked of it."""

    def __init__(self, *outcomes, judge=None, intent=True, answers=(), obstacle=None):
        self.outcomes, self.judge, self.intent = list(outcomes), judge, intent
        self.answers, self.obstacle = list(answers), obstacle
        self.effects, self.history = [], []

    def lead(self, run):
        steps, answer = course(run, intent=self.intent), None
        try:
            while True:
                effect = steps.send(answer)
                self.effects.append(effect)
                answer = None
                if isinstance(effect, Propose):
                    verdict = self.judge(run, effect) if self.judge else None
                    entry = settle(run, Proposal(effect.to, 2.0, effect.facts), verdict, "rule" if verdict else "")
                    if isinstance(entry, Question):
                        answer = entry
                    else:
                        self.history.append(entry)
                        answer = run = apply(run, entry)
                elif isinstance(effect, Call):
                    answer = self.outcomes.pop(0)
                elif isinstance(effect, Ask):
                    answer = self.answers.pop(0)
                elif isinstance(effect, Resolve):
                    answer = self.obstacle
        except StopIteration as end:
            return end.value

    @property
    def kinds(self):
        return [entry.to.kind if entry.to else "ruling" for entry in self.history]


def test_a_call_is_resolved_proposed_made_durable_and_only_then_called():
    host = Host(Completed())
    run = host.lead(born())

    assert [type(effect) for effect in host.effects] == [Resolve, Propose, Durable, Call, Propose]
    assert run.final


def test_without_intent_nobody_waits_before_the_call():
    host = Host(Completed(), intent=False)
    host.lead(born())

    assert Durable not in map(type, host.effects)


def test_a_retry_sleeps_to_its_due_time_and_counts_the_attempt():
    host = Host(Retrying(due=9.0), Completed())
    host.lead(born())

    assert Sleep(9.0) in host.effects
    assert host.history[2].to.attempt == 2


def test_a_new_iteration_begins_with_attempt_one_and_a_fresh_budget():
    host = Host(Looped(count=1), Retrying(), Looped(count=2), Completed())
    run = host.lead(born())

    running = [entry.to for entry in host.history if entry.to.kind == "Running"]
    assert [(state.loop_count, state.attempt) for state in running] == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert (run.loop_count, run.spent, run.generation, run.since) == (3, 0, 3, 3)


def test_a_due_birth_is_slept_through():
    run = apply(Run(bytes(16)), settle(Run(bytes(16)), Proposal(Pending(spec=SPEC, due=5.0), 1.0)))
    host = Host(Completed())
    host.lead(run)

    assert host.effects[0] == Sleep(5.0)


def test_an_obstacle_ends_the_run_before_it_begins():
    host = Host(obstacle=Failed(cause="upstream"))

    assert host.lead(born()).state.name == "NotReady"
    assert host.kinds == ["Failed"]


def test_a_refused_start_comes_to_rest():
    host = Host(judge=lambda run, effect: Verdict(refuse="no"))
    run = host.lead(born())

    assert run.state.kind == "Pending"
    assert run.ruling.why == "no"


def test_a_refused_outcome_becomes_failed_refused():
    host = Host(Completed(), judge=lambda run, effect: Verdict(refuse="no") if effect.to.kind == "Completed" else None)
    run = host.lead(born())

    assert (run.state.kind, run.state.cause) == ("Failed", "refused")
    assert host.kinds == ["Running", "ruling", "Failed"]


def test_a_delay_is_slept_and_the_proposal_made_again():
    host = Host(
        Completed(), judge=lambda run, effect: Verdict(delay=3) if run.ruling is None and run.seq == 1 else None
    )
    host.lead(born())

    assert host.kinds == ["ruling", "Running", "Completed"]
    assert Sleep(5.0) in host.effects


def test_a_question_is_put_and_its_answer_reaches_the_rule():
    def judge(run, effect):
        if effect.to.kind != "Failed":
            return None
        answers = effect.facts.answers or {}
        return None if "why" in answers else Verdict(ask="why")

    host = Host(Failed(), judge=judge, answers=["because"])
    host.lead(born())

    assert host.history[-1].facts.answers == {"why": "because"}


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("retry", ["Retrying", "Running", "Completed"]),
        ("fail", ["Failed"]),
        (Completed(message="it had happened"), ["Completed"]),
        (Retrying(cause="interrupted", due=7.0), ["Retrying", "Running", "Completed"]),
    ],
)
def test_a_call_in_doubt_is_decided_by_the_answer(answer, kinds):
    host = Host(Completed(), answers=[answer])
    run = host.lead(born(Running()))

    assert host.effects[0] == Ask("on_interrupt", Running())
    assert host.kinds == kinds
    assert run.spent == 0


def test_a_run_goes_on_from_wherever_its_history_ends():
    for entries, first in [
        ([Running(), Retrying(due=4.0)], [Sleep(4.0), Resolve(), Propose(Running(attempt=2))]),
        ([Running(), Looped(count=1)], [Resolve(), Propose(Running(attempt=1, loop_count=2))]),
    ]:
        host = Host(Completed())
        assert host.lead(born(*entries)).final
        assert host.effects[: len(first)] == first
        assert host.effects.count(Resolve()) == 1
    assert Host().lead(born(Running(), Completed())).final


@given(
    st.lists(st.sampled_from([Failed(), Retrying(), Looped(), TimedOut(), Retrying(cause="requested")]), max_size=30)
)
def test_whatever_the_body_does_only_rows_of_the_document_are_recorded(outcomes):
    host = Host(*outcomes, Completed())
    first = born()
    run = host.lead(first)

    path = ["Pending", *host.kinds]
    assert set(itertools.pairwise(path)) <= oracle.LEGAL
    assert run.final
    assert fold(bytes(16), [settle(Run(bytes(16)), Proposal(Pending(spec=SPEC), 1.0)), *host.history]) == run

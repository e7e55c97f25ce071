"""The code has the table of the document, no row more and no row less."""

from __future__ import annotations

import itertools

import pytest

from core import oracle
from pluperfect.errors import IllegalTransition
from pluperfect.rules import Proposal, Verdict, draw, settle
from pluperfect.states import KINDS, Completed, Failed, Pending, Running, Spec
from pluperfect.transitions import TABLE, Ruling, Run, Transition, apply, fold, stamp

SPEC = Spec("task", "work", "work-1", "work-0", bytes(16))
STATES = {kind.kind: Pending(spec=SPEC) if kind is Pending else kind() for kind in KINDS}


def test_the_table_is_the_documents():
    coded = {("nothing" if start is None else start.kind, end.kind) for start, ends in TABLE.items() for end in ends}

    assert coded == oracle.LEGAL


def test_codes_and_finality_are_the_documents():
    assert {kind.kind: (kind.code, kind.final) for kind in KINDS} == oracle.KINDS
    assert {None, *KINDS} == set(TABLE)
    assert all(not TABLE[kind] for kind in KINDS if kind.final)


@pytest.mark.parametrize(("start", "end"), sorted(oracle.PAIRS))
def test_a_move_is_recorded_if_and_only_if_the_document_has_its_row(start, end):
    state = None if start == "nothing" else STATES[start]
    run = Run(bytes(16), 0 if state is None else 4, state, None if state is None else SPEC)
    proposal = Proposal(STATES[end], 10.0)

    if (start, end) in oracle.LEGAL:
        entry = settle(run, proposal)
        assert isinstance(entry, Transition)
        assert (entry.seq, entry.at, entry.to.kind) == (run.seq + 1, 10.0, end)
        assert apply(run, entry).state == proposal.to
    else:
        with pytest.raises(IllegalTransition, match=f"{start} -> {end} is not in the table") as caught:
            settle(run, proposal)
        words = str(caught.value)
        assert "start a new run" in words if start in oracle.FINAL else "may go to" in words or "birth" in words


def test_a_verdict_cannot_record_what_the_table_does_not_have():
    run = Run(bytes(16), 2, Running(), SPEC)

    with pytest.raises(IllegalTransition, match='Proposed by rule "eager"'):
        settle(run, Proposal(Completed(), 1.0), Verdict(to=Pending(spec=SPEC)), "eager")


def test_a_verdict_for_the_same_state_changes_nothing_and_names_nobody():
    run = Run(bytes(16), 2, Running(), SPEC)
    entry = settle(run, Proposal(Completed(), 1.0), Verdict(to=Completed()), "agreeing")

    assert (entry.asked, entry.by) == (None, "")


def test_a_birth_without_a_spec_is_illegal():
    with pytest.raises(IllegalTransition, match="carries the Spec"):
        settle(Run(bytes(16)), Proposal(Pending(), 1.0))


def test_a_ruling_moves_nothing_but_the_version():
    run = fold(bytes(16), [Transition(1, 1.0, Pending(spec=SPEC)), Transition(2, 2.0, Running())])
    after = apply(run, Ruling(3, 3.0, Completed(), "rule", "no"))

    assert (after.seq, after.state, after.attempt, after.updated) == (3, run.state, run.attempt, 3.0)
    assert after.ruling is not None
    assert apply(after, Transition(4, 4.0, Failed())).ruling is None


def test_draws_are_in_range_repeatable_and_differ_by_run_iteration_and_attempt():
    runs = [
        Run(bytes([i]) * 16, loop_count=loop, attempt=attempt)
        for i, loop, attempt in itertools.product(range(5), range(1, 5), range(1, 5))
    ]
    draws = [draw(run) for run in runs]

    assert draws == [draw(run) for run in runs]
    assert len(set(draws)) == len(draws)
    assert all(0 <= number < 1 for number in draws)


def test_failed_takes_prefects_label_from_its_cause():
    assert [Failed(cause=cause).name for cause in ("error", "upstream", "crashed", "cancelled")] == [
        "Failed",
        "NotReady",
        "Crashed",
        "Cancelled",
    ]
    assert Failed(name="Mine", cause="crashed").name == "Mine"
    assert {"in_doubt", "children", "refused"} <= set(oracle.CAUSES)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (951782400.5, "2000-02-29T00:00:00.500Z"),
        (1_800_000_000.0, "2027-01-15T08:00:00.000Z"),
    ],
)
def test_stamps_are_utc(at, text):
    assert stamp(at) == text

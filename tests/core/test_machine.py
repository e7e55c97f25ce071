"""Any state proposed at any point: the document says what must come of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core import oracle
from pluperfect import records
from pluperfect.errors import IllegalTransition, RuleError
from pluperfect.rules import Proposal, Question, Verdict, settle
from pluperfect.states import (
    Cached,
    Completed,
    Error,
    Failed,
    Input,
    Looped,
    Packed,
    Pending,
    Retrying,
    Running,
    Spec,
    TimedOut,
)
from pluperfect.transitions import Facts, Ruling, Run, Transition, apply, fold

text = st.text(max_size=8)
small = st.integers(0, 2**31)
seconds = st.integers(0, 4 * 10**15).map(lambda us: us / 1e6)
ids = st.binary(min_size=16, max_size=16)
packed = st.builds(Packed, st.integers(1, 6), st.binary(max_size=12))
maybe = lambda strategy: st.none() | strategy
errors = st.builds(Error, text, text, text, maybe(packed))
inputs = st.builds(Input, text, maybe(st.binary(min_size=16, max_size=16)), maybe(packed))
specs = st.builds(
    Spec, st.sampled_from(["flow", "task"]), text, text, text, ids, maybe(ids), small, maybe(small), small,
    st.lists(inputs, max_size=2).map(tuple), st.binary(max_size=16), maybe(text), st.lists(text, max_size=2).map(tuple),
)  # fmt: skip
states = st.one_of(
    st.builds(Pending, text, specs, maybe(seconds)),
    st.builds(Running, text, small, small),
    st.builds(Retrying, text, st.sampled_from(["error", "timeout", "returned", "requested", "interrupted"]), seconds,
              seconds, maybe(st.floats(0, 1, exclude_max=True)), maybe(errors)),
    st.builds(Looped, text, small, maybe(packed)),
    st.builds(Cached, text, maybe(packed), maybe(st.tuples(ids, small)), text),
    st.builds(Completed, text, maybe(packed)),
    st.builds(Failed, text, st.sampled_from(oracle.CAUSES), maybe(errors), maybe(packed)),
    st.builds(TimedOut, text, seconds, seconds, maybe(errors)),
)  # fmt: skip
facts = st.just(Facts()) | st.builds(
    Facts, maybe(text), maybe(st.dictionaries(text, text, max_size=2)), maybe(text), maybe(st.tuples(ids, small)),
    maybe(seconds), maybe(st.dictionaries(text, st.booleans() | text, max_size=2)),
)  # fmt: skip
verdicts = st.one_of(
    st.none(),
    st.builds(Verdict, to=states, why=text),
    st.builds(Verdict, refuse=text, why=text),
    st.builds(Verdict, delay=st.floats(0.001, 1e6), why=text),
    st.builds(Verdict, ask=text),
    st.just(Verdict()),
    st.builds(Verdict, to=states, refuse=text),
)


class Machine(RuleBasedStateMachine):
    """One run under random proposals and random verdicts."""

    taken: set = set()
    refused: set = set()

    @initialize(run=ids)
    def unborn(self, run):
        self.run, self.history = Run(run), []

    @rule(to=states, at=seconds, facts=facts, verdict=verdicts)
    def propose(self, to, at, facts, verdict):
        before = self.run
        start = oracle.kind_of(before.state)
        given = (
            []
            if verdict is None
            else [v for v in (verdict.to, verdict.refuse, verdict.delay, verdict.ask) if v is not None]
        )
        wanted = to if verdict is None or verdict.to is None else verdict.to
        legal = {(start, to.kind), (start, wanted.kind)} <= oracle.LEGAL
        try:
            entry = settle(before, Proposal(to, at, facts), verdict, "rule")
        except IllegalTransition:
            assert not legal
            Machine.refused.add((start, to.kind))
            return
        except RuleError:
            assert verdict is not None
            assert len(given) != 1
            return
        if isinstance(entry, Question):
            assert verdict.ask == entry.option
            return
        assert legal
        if verdict is None or verdict.to is not None:
            assert isinstance(entry, Transition)
            assert entry.to == wanted
            assert entry.asked == (None if wanted == to else to)
            assert entry.by == ("" if wanted == to else "rule")
            Machine.taken.add((start, wanted.kind))
        else:
            assert isinstance(entry, Ruling)
            assert (entry.asked, entry.by) == (to, "rule")
        assert records.decode(records.encode(before.id, entry, records.GENESIS)) == entry
        self.history.append(entry)
        self.run = apply(before, entry)

    @invariant()
    def the_run_is_the_fold_of_its_history(self):
        assert fold(self.run.id, self.history) == self.run
        assert [entry.seq for entry in self.history] == list(range(1, len(self.history) + 1))

    @invariant()
    def nothing_moves_a_final_run(self):
        moves = [entry for entry in self.history if isinstance(entry, Transition)]
        assert all(move.to.kind not in oracle.FINAL for move in moves[:-1])
        assert not moves or moves[0].to.kind == "Pending"


def walk(run, to, history):
    entry = settle(run, Proposal(to, 1.0))
    history.append(entry)
    return apply(run, entry)


@pytest.mark.parametrize("histories", [60, pytest.param(200, marks=pytest.mark.long)])
def test_whatever_is_proposed_the_document_says_what_comes_of_it(histories):
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=histories, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    # Chance alone must not decide whether the suite is complete: the rest is walked to.
    spec = Spec("task", "w", "w", "w", bytes(16))
    paths = {
        "nothing": [], "Pending": [Pending(spec=spec)], "Running": [Pending(spec=spec), Running()],
        "Retrying": [Pending(spec=spec), Running(), Retrying()], "Looped": [Pending(spec=spec), Running(), Looped()],
        "Cached": [Pending(spec=spec), Cached()], "Completed": [Pending(spec=spec), Running(), Completed()],
        "Failed": [Pending(spec=spec), Running(), Failed()], "TimedOut": [Pending(spec=spec), Running(), TimedOut()],
    }  # fmt: skip
    for start, end in sorted(oracle.PAIRS):
        run, history = Run(bytes(16)), []
        for state in paths[start]:
            run = walk(run, state, history)
        to = Pending(spec=spec) if end == "Pending" else oracle.CLASSES[end]()
        try:
            walk(run, to, history)
        except IllegalTransition:
            Machine.refused.add((start, end))
        else:
            Machine.taken.add((start, end))
    illegal = oracle.PAIRS - oracle.LEGAL
    print(
        f"transitions: {len(Machine.taken & oracle.LEGAL)} of {len(oracle.LEGAL)} legal moves taken,"
        f" {len(Machine.refused & illegal)} of {len(illegal)} illegal pairs refused"
    )
    assert Machine.taken == oracle.LEGAL, f"never taken, or not in the table: {Machine.taken ^ oracle.LEGAL}"
    assert Machine.refused >= illegal, f"never refused: {illegal - Machine.refused}"

"""Several owners of one log, and a dict: who may claim, write and let go, after any order of all that."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pluperfect.errors import Conflict, Fenced
from pluperfect.hooks import Part
from pluperfect.states import Running
from pluperfect.transitions import Transition
from pluperfect_store.conformance import AT, born
from pluperfect_store.memory import MemoryLog

ROOTS = [bytes((number,)) * 16 for number in (1, 2)]
roots, owners, terms = st.sampled_from(ROOTS), st.integers(0, 2), st.integers(0, 3)


class Leases(RuleBasedStateMachine):
    """The model: for each root the holder and its term, the highest term that wrote, and the number of entries."""

    steps = 0

    def __init__(self):
        super().__init__()
        first = MemoryLog()
        self.logs = [first, first.beside(), first.beside()]
        self.base = first.beside()
        self.held, self.seen, self.seqs = {}, dict.fromkeys(ROOTS, 0), dict.fromkeys(ROOTS, 0)
        self.notes = 0

    def said(self, call):
        Leases.steps += 1
        try:
            return call()
        except (Fenced, Conflict) as error:
            return type(error)

    @rule(root=roots, owner=owners)
    def claim(self, root, owner):
        holder, term = self.held.get(root, (owner, 0))
        answer = self.said(lambda: self.logs[owner].claim(root, AT))
        if holder != owner:
            self.notes += 1
            assert answer is Fenced
        else:
            self.notes += self.seqs[root] > 0
            assert answer == max(term, self.seen[root]) + 1
            self.held[root] = (owner, answer)

    @rule(root=roots, owner=owners, term=terms)
    def release(self, root, owner, term):
        mine, held = self.held.get(root, (None, 0))
        term = max(held - term, 0)
        Leases.steps += 1
        self.logs[owner].release(root, term)
        if (mine, held) == (owner, term):
            del self.held[root]

    @rule(root=roots, owner=owners, down=terms, shift=st.sampled_from([0, 0, 0, 1]))
    def append(self, root, owner, down, shift):
        _, held = self.held.get(root, (None, 0))
        highest = max(held, self.seen[root])
        epoch, expected = max(highest + 1 - down, 0), self.seqs[root] + shift
        to = Running() if expected else born(root)
        part = Part(root, root, expected, (Transition(expected + 1, AT, to),))
        answer = self.said(lambda: self.logs[owner].append([part], epoch=epoch).wait())
        if epoch < highest:
            self.notes += 1
            assert answer is Fenced
        elif shift:
            assert answer is Conflict
        else:
            assert answer is None
            self.seqs[root] += 1
            self.seen[root] = epoch

    @rule(owner=owners)
    def close_and_open_again(self, owner):
        Leases.steps += 1
        self.logs[owner].close()
        self.logs[owner] = self.base.beside()
        self.held = {root: lease for root, lease in self.held.items() if lease[0] != owner}

    @invariant()
    def all_owners_see_the_same(self):
        for root in ROOTS:
            found = {log.holder(root) for log in map(_Shown, self.logs)}
            assert len(found) == 1
            shown = found.pop()
            holder = self.held.get(root)
            assert shown == (None if holder is None else (holder[1], self.logs[holder[0]]._owner, ""))
            head = self.base.head(root)
            assert (0, 0) == (self.seqs[root], self.seen[root]) if head is None else head.seq == self.seqs[root]
            assert head is None or head.epoch == self.seen[root]
        assert self.base.position() == sum(self.seqs.values()) + self.notes

    def teardown(self):
        assert self.base.compare() == []
        for log in self.logs:
            log.close()


class _Shown:
    def __init__(self, log):
        self._log = log

    def holder(self, root):
        found = self._log.holder(root)
        return None if found is None else (found.epoch, found.owner, found.gone)


QUICK = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_several_owners_agree_with_a_dict():
    run_state_machine_as_test(Leases, settings=QUICK)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_several_owners_agree_with_a_dict_for_a_hundred_thousand_steps():
    Leases.steps = 0
    run_state_machine_as_test(Leases, settings=settings(QUICK, max_examples=1400, stateful_step_count=100))
    print(f"agreement of owners: seed none, {Leases.steps} steps, 0 differences")
    assert Leases.steps >= 100_000

"""Memory, LMDB, the same LMDB file opened again, and a dict of lists must give the same answers to everything."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pluperfect.errors import Conflict, Fenced
from pluperfect.hooks import Part
from pluperfect.records import GENESIS, decode, leaf, open_record
from pluperfect.states import (
    ABSENT,
    Cached,
    Completed,
    Failed,
    Looped,
    Packed,
    Pending,
    Retrying,
    Running,
    TimedOut,
    usable,
)
from pluperfect.transitions import Facts, Ruling, Transition
from pluperfect_store.conformance import AT, FIVE, born
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

RUNS = [bytes((number // 3, number)) * 8 for number in range(6)]  # two trees of three
ROOTS = {run: RUNS[number - number % 3] for number, run in enumerate(RUNS)}
STORE = b"the store itself"
NAMES, TAGS, KEYS = ["a", "b", "a\0b"], ["x", "y" * 200], ["k", "l"]


class Model:
    """What a log promises, in the plainest words: a list of (run, entry, term), the same run by run, and loops over them."""

    def __init__(self):
        self.log = []
        self.runs = {}

    def of(self, run):
        return self.runs.get(run, [])

    def term(self, root):
        """The highest term in the tree; a root that is not born has seen none."""
        return max((epoch for run, _, epoch in self.log if ROOTS.get(run) == root), default=0)

    def append(self, parts, epoch):
        born_here = {part.run for part in parts}
        for part in parts:
            root = ROOTS[part.run]
            if not self.of(root) and root not in born_here:
                return Conflict
            if self.of(root) and self.term(root) > epoch:
                self.log.append((STORE, None, 0))  # a refusal of a term is on record, beside the runs
                return Fenced
            if len(self.of(part.run)) != part.expected:
                return Conflict
        for part in parts:
            self.log += [(part.run, entry, epoch) for entry in part.entries]
            self.runs.setdefault(part.run, []).extend(part.entries)
        return None

    def state(self, run):
        return next(entry.to for entry in reversed(self.of(run)) if entry.to is not None)

    def due(self, run):
        due = None
        for entry in self.of(run):
            if entry.to is None:
                due = due if entry.until is None else entry.until
            else:
                due = getattr(entry.to, "due", None)
        return due

    def spec(self, run):
        return self.of(run)[0].to.spec

    def births(self):
        return [*self.runs]

    def find(self, state, name, tag, roots):
        return [
            run
            for run in reversed(self.births())
            if (state is None or self.state(run).code == state)
            and (name is None or self.spec(run).name == name)
            and (tag is None or tag in self.spec(run).tags)
            and (not roots or ROOTS[run] == run)
        ]

    def cached(self, key, at):
        for run, entry, _ in reversed(self.log):
            if run == STORE:
                continue
            if type(entry.to) is Completed and entry.facts.key == key and usable(entry.to.data):
                return (run, entry.seq) if entry.facts.expires is None or at < entry.facts.expires else None
        return None

    def waiting(self, until):
        due = [(round(self.due(run) * 1000) / 1000, run) for run in self.births() if self.due(run) is not None]
        return sorted(row for row in due if row[0] <= until)

    def answers(self):
        positions = {}
        for position, (run, entry, _) in enumerate(self.log, 1):
            if run == STORE:
                continue
            positions.setdefault(run, []).append((position, entry))
        heads = {}
        for run, rows in positions.items():
            final = [position for position, entry in rows if entry.to is not None and entry.to.final]
            due, root = self.due(run), None if ROOTS[run] == run else ROOTS[run]
            heads[run] = (
                len(rows), rows[-1][0], rows[0][0], self.state(run).code, root, final[-1] if final else 0,
                self.term(run) if root is None else 0, 0 if due is None else round(due * 1000),
            )  # fmt: skip
        return heads


def asked(log):
    heads = {run: head for run in RUNS if (head := log.head(run)) is not None}
    return {
        run: (h.seq, h.position, h.born, h.state, h.root, h.outcome, h.epoch, h.due) for run, h in heads.items()
    }, heads  # fmt: skip


times = st.one_of(st.none(), st.floats(AT, AT + 100))
data = st.sampled_from([FIVE, None, Packed(ABSENT, b"too large")])
later_states = st.one_of(
    st.builds(Running, attempt=st.integers(1, 3)),
    st.builds(Retrying, due=st.floats(AT, AT + 100)),
    st.just(Looped()),
    st.builds(Completed, data=data),
    st.just(Cached(source=(RUNS[0], 3))),
    st.just(Failed(cause="cancelled")),
    st.just(TimedOut()),
    st.builds(Pending, due=times),
)
all_facts = st.builds(Facts, key=st.sampled_from([None, *KEYS]), expires=times)
runs = st.sampled_from(RUNS)


class Agreement(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        quick = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nobody pulls the plug here: no disk is needed
        self.folder = Path(tempfile.mkdtemp(prefix="pluperfect-agreement-", dir=quick))
        self.model, self.memory = Model(), MemoryLog()
        self.lmdb = LmdbLog(self.folder / "a", map_size=256 << 10)
        self.reopened = LmdbLog(self.folder / "b")
        self.read = {}  # the records of each log that were looked at already: they never change

    @property
    def logs(self):
        return self.memory, self.lmdb, self.reopened

    def part(self, draw, run, shift):
        expected = max(len(self.model.of(run)) + shift, 0)
        entries = []
        for seq in range(expected + 1, expected + 1 + draw(st.integers(1, 3))):
            facts, state = draw(all_facts), draw(later_states)
            if seq == 1:
                root = None if ROOTS[run] == run else ROOTS[run]
                tags = draw(st.lists(st.sampled_from(TAGS), max_size=3))
                state = born(run, root, name=draw(st.sampled_from(NAMES)), tags=tags, due=draw(times))
            elif draw(st.integers(0, 4)) == 0:
                entries.append(Ruling(seq, AT, state, "rule", "", draw(times), facts))
                continue
            entries.append(Transition(seq, AT + seq, state, facts=facts))
        return Part(run, ROOTS[run], expected, tuple(entries))

    @initialize(data=st.data())
    def first_births(self, data):
        self.try_append(data, [RUNS[0], RUNS[3]], 1)

    @rule(data=st.data())
    def append(self, data):
        for _ in range(data.draw(st.integers(1, 6))):
            chosen = data.draw(st.lists(runs, min_size=1, max_size=2, unique=True))
            self.try_append(data, chosen, data.draw(st.sampled_from([0, 0, 0, 0, 1, 3, -1])))
            self.heads_agree()

    def try_append(self, data, chosen, up):
        shifts = [data.draw(st.sampled_from([0] * 14 + [-1, 1])) for _ in chosen]
        parts = [self.part(data.draw, run, shift) for run, shift in zip(chosen, shifts, strict=True)]
        epoch = max(max(self.model.term(ROOTS[run]) for run in chosen) + up, 0)
        refused = self.model.append(parts, epoch)
        said = []
        for ticket in [
            log.append(parts, epoch=epoch, hold=data.draw(st.sampled_from([0.0, 0.05]))) for log in self.logs
        ]:
            try:
                ticket.wait()
            except Conflict as error:
                said.append(str(error))
                assert type(error) is refused
            else:
                assert refused is None
        assert len(set(said)) <= 1

    @rule()
    def open_again_and_rebuild(self):
        self.reopened.close()
        self.reopened = LmdbLog(self.folder / "b")
        self.all_answers_agree()
        assert [log.rebuild() for log in self.logs] == [len(self.model.log)] * 3

    def heads_agree(self):
        heads = [asked(log) for log in self.logs]
        assert heads[0][0] == self.model.answers()
        assert heads[0] == heads[1] == heads[2]
        assert [log.position() for log in self.logs] == [len(self.model.log)] * 3

    @invariant()
    def all_answers_agree(self):
        self.heads_agree()
        model = self.model
        lists = {
            (state, name, tag, roots): model.find(state, name, tag, roots)
            for state in (None, 1, 2, 6)
            for name in (None, "a")
            for tag in (None, TAGS[1])
            for roots in (False, True)
        }
        kept = [(at, model.waiting(at), [model.cached(key, at) for key in KEYS]) for at in (AT, AT + 50)]
        children = {run: [one for one in model.births() if ROOTS[one] == run != one] for run in RUNS}
        feeds = []
        for log in self.logs:
            assert log.compare() == []
            own = log.store_id
            fed = [open_record(row).run for _, row in log.feed()]
            assert [STORE if run == own else run for run in fed] == [run for run, _, _ in model.log]
            for run in RUNS:
                self.records_agree(log, own, run)
                assert log.children(run) == children[run]
            for (state, name, tag, roots), found in lists.items():
                assert [*log.find(state=state, name=name, tag=tag, roots=roots)] == found
            for at, waiting, cached in kept:
                assert log.due(at) == waiting
                cells = [log.cached(key, at) for key in KEYS]
                assert [None if cell is None else (cell.run, cell.seq) for cell in cells] == cached
            feeds.append([row for one, row in zip(fed, log.feed(), strict=True) if one != own])
        assert feeds[0] == feeds[1] == feeds[2]

    def records_agree(self, log, own, run):
        records, before = log.records(run), self.read.get((own, run), [])
        assert records[: len(before)] == before
        prev = leaf(before[-1]) if before else GENESIS
        for record, entry in zip(records[len(before) :], self.model.of(run)[len(before) :], strict=True):
            found = decode(record)
            assert (found.to, found.seq, found.facts) == (entry.to, entry.seq, entry.facts)
            assert open_record(record).prev == prev
            prev = leaf(record)
        self.read[own, run] = records

    def teardown(self):
        for log in self.logs:
            log.close()
        shutil.rmtree(self.folder)


COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


class TestAgreement(Agreement.TestCase):
    settings = settings(max_examples=30, stateful_step_count=12, **COMMON)


@pytest.mark.long
@pytest.mark.timeout(1800)
class TestLongAgreement(Agreement.TestCase):
    settings = settings(max_examples=70, stateful_step_count=40, **COMMON)

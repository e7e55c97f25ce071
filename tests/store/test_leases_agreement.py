"""Several owners of one log, and a dict: who may claim, write and let go, after any order of all that."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pluperfect.errors import Conflict, Fenced
from pluperfect.hooks import Part
from pluperfect.states import Running
from pluperfect.transitions import Transition
from pluperfect_store.conformance import AT, born
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

ROOTS = [bytes((number,)) * 16 for number in (1, 2)]
OWNERS = 3
roots, owners, terms = st.sampled_from(ROOTS), st.integers(0, OWNERS - 1), st.integers(0, 3)


class Owner:
    """One opening of a log, which answers with the type of an error instead of raising it."""

    def __init__(self, log, owner):
        self.log, self.owner = log, owner

    def do(self, name, *given):
        try:
            return getattr(self, name)(*given)
        except (Fenced, Conflict) as error:
            return type(error)

    def claim(self, root):
        return self.log.claim(root, AT)

    def release(self, root, term):
        self.log.release(root, term)
        self.log.flush()

    def append(self, part, epoch):
        self.log.append([part], epoch=epoch).wait()

    def holder(self, root):
        found = self.log.holder(root)
        return None if found is None else (found.epoch, found.owner, found.gone)

    def close(self):
        self.log.close()


class InMemory:
    """Owners of one log in memory."""

    def __init__(self):
        self.base = MemoryLog()

    def open(self, number):
        log = self.base.beside()
        return Owner(log, log._owner)

    def end(self):
        """Nothing is left."""


def _serve(pipe):
    """One owner of a file at a time, in a process of its own: LMDB opens a file once in each."""
    log = None
    while True:
        name, *given = pipe.recv()
        if name == "open":
            found = LmdbLog(given[0])
            log = Owner(found, found._store.owner)
            pipe.send(log.owner)
        else:
            pipe.send(log.do(name, *given))


class _Far:
    """An owner in another process."""

    def __init__(self, pipe, folder):
        self.pipe = pipe
        self.owner = self.do("open", folder)

    def do(self, *asked):
        self.pipe.send(asked)
        return self.pipe.recv()


class OnDisk:
    """Owners of one file, each in another process; the processes serve one example after the other."""

    pipes: list = []

    def __init__(self):
        quick = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nobody pulls the plug here: no disk is needed
        self.folder = Path(tempfile.mkdtemp(prefix="pluperfect-owners-", dir=quick))
        self.base = LmdbLog(self.folder)

    def open(self, number):
        return _Far(self.pipes[number], self.folder)

    def end(self):
        self.base.close()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def _processes():
    spawn = multiprocessing.get_context("spawn")
    started = []
    for _ in range(OWNERS):
        here, there = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        OnDisk.pipes.append(here)
        started.append(process)
    yield
    OnDisk.pipes.clear()
    for process in started:
        process.kill()
        process.join()


class Leases(RuleBasedStateMachine):
    """The model: for each root the holder and its term, the highest term that wrote, and the number of entries."""

    steps = 0
    kept = InMemory

    def __init__(self):
        super().__init__()
        self.store = self.kept()
        self.base = self.store.base
        self.logs = [self.store.open(number) for number in range(OWNERS)]
        self.held, self.seen, self.seqs = {}, dict.fromkeys(ROOTS, 0), dict.fromkeys(ROOTS, 0)
        self.notes = 0

    def said(self, owner, *asked):
        Leases.steps += 1
        return self.logs[owner].do(*asked)

    @rule(root=roots, owner=owners)
    def claim(self, root, owner):
        holder, term = self.held.get(root, (owner, 0))
        answer = self.said(owner, "claim", root)
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
        self.said(owner, "release", root, term)
        if (mine, held) == (owner, term):
            del self.held[root]

    @rule(root=roots, owner=owners, down=terms, shift=st.sampled_from([0, 0, 0, 1]))
    def append(self, root, owner, down, shift):
        _, held = self.held.get(root, (None, 0))
        highest = max(held, self.seen[root])
        epoch, expected = max(highest + 1 - down, 0), self.seqs[root] + shift
        to = Running() if expected else born(root)
        part = Part(root, root, expected, (Transition(expected + 1, AT, to),))
        answer = self.said(owner, "append", part, epoch)
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
        self.said(owner, "close")
        self.logs[owner] = self.store.open(owner)
        self.held = {root: lease for root, lease in self.held.items() if lease[0] != owner}

    @invariant()
    def all_owners_see_the_same(self):
        for root in ROOTS:
            found = {log.do("holder", root) for log in self.logs}
            assert len(found) == 1
            shown = found.pop()
            holder = self.held.get(root)
            assert shown == (None if holder is None else (holder[1], self.logs[holder[0]].owner, ""))
            head = self.base.head(root)
            assert (0, 0) == (self.seqs[root], self.seen[root]) if head is None else head.seq == self.seqs[root]
            assert head is None or head.epoch == self.seen[root]
        assert self.base.position() == sum(self.seqs.values()) + self.notes

    def teardown(self):
        assert self.base.compare() == []
        for log in self.logs:
            log.do("close")
        self.store.end()


class LeasesOnDisk(Leases):
    kept = OnDisk


QUICK = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MACHINES = pytest.mark.parametrize(("machine", "share"), [(Leases, 1), (LeasesOnDisk, 10)], ids=["memory", "lmdb"])


@MACHINES
@pytest.mark.usefixtures("_processes")
def test_several_owners_agree_with_a_dict(machine, share):
    run_state_machine_as_test(machine, settings=settings(QUICK, max_examples=40 // share))


@pytest.mark.long
@pytest.mark.timeout(900)
@MACHINES
@pytest.mark.usefixtures("_processes")
def test_several_owners_agree_with_a_dict_for_a_hundred_thousand_steps(machine, share):
    """And for ten thousand, where each step goes to another process and to a file."""
    Leases.steps = 0
    run_state_machine_as_test(machine, settings=settings(QUICK, max_examples=1150 // share, stateful_step_count=100))
    where = machine.kept.__name__
    print(f"agreement of owners: seed none, {Leases.steps} steps {where}, 0 differences")
    assert Leases.steps >= 100_000 // share

"""One checker for each promise of specs/invariants.md, over any log."""

from __future__ import annotations

import functools
import itertools
import pickle
import tempfile

from core import oracle
from pluperfect import records
from pluperfect.histories import Histories
from pluperfect.manager import Hooks
from pluperfect.rules import Proposal, draw, settle
from pluperfect.states import Failed, Packed, Retrying, Running, TimedOut
from pluperfect.transitions import Ruling, Run, Transition, apply, fold
from pluperfect_store.memory import MemoryLog


def whole(log):
    """All stored records, in the order of the log."""
    after, found = 0, []
    while page := log.feed(after):
        found.extend(page)
        after = page[-1][0]
    return found


def histories(log):
    """The entries of each run, by id."""
    by_run = {}
    for _, data in whole(log):
        row = records.open_row(data)
        if row.record.run != log.store_id:
            by_run.setdefault(row.record.run, []).append(row.entry(log.blob))
    return by_run


def promise_1(log):
    """Only legal histories."""
    positions = [position for position, _ in whole(log)]
    assert positions == list(range(1, len(positions) + 1))
    for run, entries in histories(log).items():
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), run.hex()
        path = ["nothing", *(entry.to.kind for entry in entries if isinstance(entry, Transition))]
        assert set(itertools.pairwise(path)) <= oracle.LEGAL, (run.hex(), path)


def promise_2(log, acknowledged):
    """Nothing acknowledged is lost: pairs of run and seq that somebody was told of."""
    for run, seq in acknowledged:
        head = log.head(run)
        assert head is not None, run.hex()
        assert head.seq >= seq, (run.hex(), head.seq, seq)


def promise_3(log):
    """One end for each start, and a word on each start without one."""
    for run, entries in histories(log).items():
        starts, results = set(), 0
        for entry in entries:
            state = entry.to
            if isinstance(state, Running):
                place = (state.loop_count, state.attempt)
                assert place not in starts, (run.hex(), place)
                starts.add(place)
            results += state is not None and state.final
        assert results <= 1, run.hex()


def promise_4(log):
    """Attempts keep their exceptions, verdicts their rule."""
    for run, entries in histories(log).items():
        for entry in entries:
            state = entry.to
            if isinstance(entry, Ruling):
                assert entry.by, run.hex()
            elif entry.asked is not None:
                assert entry.by, run.hex()
                if isinstance(state, Retrying) and isinstance(entry.asked, Failed | TimedOut):
                    assert entry.asked.error == state.error
            if isinstance(state, Failed) and state.cause in ("error", "crashed"):
                assert state.error is not None, run.hex()


def promise_5(log):
    """Views equal the fold."""
    assert log.compare() == []
    for run, entries in histories(log).items():
        head, folded = log.head(run), fold(run, entries)
        assert (head.seq, head.state) == (folded.seq, folded.state.code)


@functools.cache
def built_in_rules():
    """The rules that come with the library, loaded once."""
    return Hooks(entry_points=False).awake(None)


class Trap(Hooks):
    """Plugins that must not be asked for a value."""

    def unpack(self, packed: Packed):
        raise AssertionError("a value was decoded")


@functools.cache
def traps():
    """The same plugins, trapped, loaded once."""
    return Trap(entry_points=False)


def promise_6(log):
    """The built-in rules, asked again, give the same entries."""
    attending = built_in_rules()
    for run_id, entries in histories(log).items():
        run = Run(run_id)
        for entry in entries:
            asked = entry.asked if entry.asked is not None else entry.to
            built_in = isinstance(entry, Transition) and entry.by in ("", "retries", "caching")
            if built_in and isinstance(asked, Running | Failed | TimedOut):
                proposal = Proposal(asked, entry.at, entry.facts)
                given = run.spec.options.get("retry_delay_seconds") if run.spec else None
                # A callable is not on record, so that its delays cannot be asked for again.
                if entry.by != "retries" or entry.to.delay == 0 or given is not None:
                    verdict, by = attending.review(run, proposal, None)
                    again = settle(run, proposal, verdict, by, entry.epoch)
                    assert (again.to.kind, again.by) == (entry.to.kind, entry.by), (run_id.hex(), str(entry))
                    if isinstance(again.to, Retrying):
                        assert (again.to.draw or 0) == (entry.to.draw or 0)
                        assert again.to.draw in (None, draw(run))
                        assert abs(again.to.due - entry.to.due) < 1e-5
            run = apply(run, entry)


def promise_7(log):
    """Within a tree, epochs never fall."""
    epochs = {}
    for _, data in whole(log):
        record = records.open_record(data)
        head = log.head(record.run)
        root = head.root or record.run
        assert record.epoch >= epochs.get(root, 0), record.run.hex()
        epochs[root] = record.epoch


def promise_8(log):
    """Each record names the hash of the one before it in its run; all is as it was written, and every run is proved."""
    last = {}
    for _, data in whole(log):
        record = records.open_record(data)
        assert record.prev == last.get(record.run, records.GENESIS), record.run.hex()
        last[record.run] = records.leaf(data)
    assert log.verify().findings == ()
    for run, hashed in last.items():
        if run != log.store_id:
            proof = log.prove(run)
            assert proof.holds, run.hex()
            assert proof.leaf == hashed, run.hex()


def promise_9(log):
    """Folding, listing, showing, verifying, exporting and importing decode no value."""
    reading = Histories(log, traps())
    loads = pickle.loads
    pickle.loads = promise_9  # anything but a way to load
    try:
        for run in reading.runs():
            assert run.history
            assert repr(run)
            assert [str(entry) for entry in run.history]
            assert run.state is not None
            assert run.after(1).state.is_pending()
            assert run.at(1).state.is_pending()
            assert [str(event) for event in run.events]
        if not reading.runs(limit=1):
            return
        with tempfile.TemporaryDirectory() as folder:
            reading.export(f"{folder}/file", reading.runs(limit=20))
            other = Histories(MemoryLog(), traps())
            other.import_runs(f"{folder}/file")
            assert [str(run.history) for run in other.runs()]
            assert other.verify().sound
    finally:
        pickle.loads = loads


PROMISES = {int(name[8:]): checker for name, checker in list(globals().items()) if name.startswith("promise_")}


def check(log):
    """All promises that need nothing but the log."""
    for number, function in PROMISES.items():
        if number != 2:
            function(log)

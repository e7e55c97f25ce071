"""Everything that is done to a log, in any order: what is left is whole, is proved, and reads as before."""

from __future__ import annotations

import random
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from care.trees import grown, notes, over, tree
from evidence.random_logs import fill
from pluperfect import exports
from pluperfect.errors import PrunedAway
from pluperfect.evidence import Checkpoint, consistent
from pluperfect.hooks import Part, PruneRule
from pluperfect.records import open_row
from pluperfect.states import PLAIN, Cached, Completed, Packed, Pending, Spec
from pluperfect.transitions import Transition
from pluperfect_store import pruning
from pluperfect_store.conformance import AT, new_id
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

NOW = AT + 1_000


class Bench:
    """A log, another one to import from, and what is known of the first."""

    def __init__(self, log, folder, rng):
        self.log, self.folder, self.rng = log, folder, rng
        self.other = MemoryLog()
        self.leaves, self.runs, self.points = {}, {}, []
        self.files = 0

    def path(self):
        self.files += 1
        return self.folder / f"{self.files}"

    # --- what is done

    def fill(self):
        fill(self.log, self.rng, 3)

    def cache(self):
        """A call that took the result of another tree."""
        found = [run for run in self.runs if self.data(run) is not None]
        if not found:
            return
        source = self.rng.choice(found)
        hit, run = self.data(source), new_id()
        spec = Spec("flow", "hit", "hit", "hit-0", run)
        states = [Pending(spec=spec), Cached(data=hit, source=(source, len(self.runs[source])), key="k")]
        entries = tuple(Transition(seq, AT + seq, state) for seq, state in enumerate(states, 1))
        self.log.append([Part(run, run, 0, entries)], epoch=1).wait()

    def data(self, run):
        state = open_row(self.log.records(run)[-1]).entry(self.log.blob).to
        data = state.data if isinstance(state, Completed | Cached) else None
        if data is not None and data.digest not in self.taken():
            assert len(data.data) == data.size  # it is loaded, as by a call that is answered with it
            return data
        return None

    def take_in(self):
        path = self.path()
        exports.write(self.other, path, fill(self.other, self.rng, 2))
        self.log.admit(exports.read(path).parcel(NOW))

    def redact(self):
        if self.runs:
            run = self.rng.choice([*self.runs])
            digests = {digest for row in self.log.records(run) for digest in open_row(row).digests}
            some = set(self.rng.sample(sorted(digests), min(2, len(digests))))
            if some:
                self.log.redact(run, some, everywhere=self.rng.random() < 0.5, by="", why="", at=NOW)

    def prune(self):
        name = self.rng.choice([None, "fetch", "parse", "hit"])
        rule = PruneRule(NOW, self.rng.choice([None, 6]), name, self.rng.choice([0, 0, 1, 3]))
        dry = self.log.prune(rule, NOW, dry_run=True)
        done = self.log.prune(rule, NOW)
        assert done == dry

    def back_up(self):
        if isinstance(self.log, LmdbLog):
            copy = LmdbLog(self.log.backup(str(self.path())).path)
            self.is_whole(copy)
            assert tree(copy) == tree(self.log)
            copy.close()

    def compact(self):
        if isinstance(self.log, LmdbLog):
            self.log.compact()

    def rebuild(self):
        self.log.rebuild()

    # --- what holds

    def taken(self):
        return {bytes(digest) for note in notes(self.log, "store/redacted") for digest, _ in note["values"]}

    def look(self):
        for position, data in self.log.feed(max(self.leaves, default=0), 10**6):
            row = open_row(data)
            self.leaves[position] = row.leaf
            if row.record.run != self.log.store_id:
                self.runs.setdefault(row.record.run, []).append(row.leaf)
        self.runs = {run: leaves for run, leaves in self.runs.items() if self.log.head(run) is not None}
        assert tree(self.log) == over(self.leaves[position] for position in range(1, len(self.leaves) + 1))
        self.is_whole(self.log)
        size, root = tree(self.log)
        if size and self.rng.random() < 0.5:
            self.points.append(Checkpoint.made(self.log.store_id, size, root, NOW))
        for point in self.points[-3:]:
            self.is_held_against(point)

    def is_whole(self, log):
        assert log.compare() == []
        report = log.verify()
        assert report.findings == ()
        assert report.records + report.pruned == len(self.leaves)
        assert report.runs == len(self.runs)
        taken = self.taken()
        for run, leaves in self.runs.items():
            rows = [open_row(data) for data in log.records(run)]
            assert [row.leaf for row in rows] == leaves
            for row in rows:
                row.entry()
                for value in row.values:
                    if type(value) is not bytes and value.data[:32] not in taken:
                        assert sha256(log.blob(value.data[:32])).digest() == value.data[:32]
            assert log.prove(run).holds
            assert log.verify(run).findings == ()

    def is_held_against(self, point):
        """An earlier checkpoint holds; or it stands among pruned records, and everybody says so."""
        size, root = tree(self.log)
        self.log._hashes.clear()  # as in another process
        report = self.log.verify(against=point)
        try:
            assert self.log.tree(point.size) == (point.size, point.root)
        except PrunedAway:
            (finding,) = report.findings
            assert "were pruned since" in finding.what
            with pytest.raises(PrunedAway):
                self.log.consistency(point.size)
        else:
            assert report.findings == ()
            assert consistent(point.size, point.root, size, root, self.log.consistency(point.size))


DONE = ["fill", "cache", "take_in", "redact", "prune", "back_up", "compact", "rebuild"]


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
@pytest.mark.parametrize("level", [2, 8])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    done=st.lists(st.sampled_from([*DONE, "fill", "cache", "prune"]), min_size=1, max_size=10),
    seed=st.integers(0, 2**32),
)
def test_whatever_is_done_what_is_left_is_whole_and_proved(kind, level, done, seed):
    """52. Any sequence of runs, imports, redactions, prunings, backups and compactions; nodes kept from level 2 or 8 on."""
    together(kind, level, done, seed)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_whatever_is_done_a_hundred_times():
    """52. As above, by seed."""
    for seed in range(100):
        rng = random.Random(seed)
        together(rng.choice(["memory", "lmdb"]), rng.choice([2, 3, 8]), rng.choices(DONE, k=12), seed)
    print("sequences of acts: seed none, 100 sequences of 12 acts, 100 sound")


def together(kind, level, done, seed):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(pruning, "_FRESH", -1.0)  # files are swept at once: nobody else is at it
        patch.setattr(pruning, "_SLICE", 20)
        for name, module in list(sys.modules.items()):
            if name.startswith("pluperfect_store.") and hasattr(module, "KEPT_LEVEL"):
                patch.setattr(module, "KEPT_LEVEL", level)
                if hasattr(module, "BLOCK"):
                    patch.setattr(module, "BLOCK", 1 << level)
        patch.setattr("pluperfect_store.lmdb.FILE_FROM", 3_000)
        patch.setattr(LmdbLog, "_file_from", 3_000)
        log = MemoryLog() if kind == "memory" else LmdbLog(Path(folder) / "runs")
        try:
            bench = Bench(log, Path(folder), random.Random(seed))
            for act in ["fill", *done]:
                getattr(bench, act)()
                bench.look()
        finally:
            log.close()


@pytest.mark.parametrize("size", [9, 3_000, 2_000_000])
def test_a_result_that_a_kept_run_took_from_a_pruned_one_stays(store, size, monkeypatch):
    """71. It is named by both runs: it goes with the last of them."""
    monkeypatch.setattr(pruning, "_FRESH", -1.0)
    source, run = grown(store, children=0, value=b"x" * size)[0], new_id()
    data = open_row(store.records(source)[-1]).entry(store.blob).to.data
    assert data.data
    spec = Spec("flow", "fetch", "fetch", "fetch-0", run)
    states = [Pending(spec=spec), Cached(data=data, source=(source, 3), key="k")]
    entries = tuple(Transition(seq, NOW, state) for seq, state in enumerate(states, 1))

    assert store.prune(PruneRule(AT + 1), NOW).trees == 1
    store.append([Part(run, run, 0, entries)], epoch=1).wait()  # it was read before the source went
    assert open_row(store.records(run)[-1]).entry(store.blob).to.data == Packed(PLAIN, b"x" * size)
    assert store.verify().findings == ()
    assert store.prune(PruneRule(NOW + 1), NOW).values == (size > 2_048)

"""Pruning: what goes, what stays, and that everything that stays reads as before and is still proved."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, msgpack

import pluperfect
from care.trees import DAY, answers, grown, leaves, notes, over, sound, told, tree
from pluperfect.errors import Conflict, StoreDamaged
from pluperfect.hooks import PruneRule
from pluperfect.records import Record, leaf, open_record
from pluperfect.states import Completed, Running
from pluperfect.testing import FakeClock
from pluperfect_store import pruning
from pluperfect_store.conformance import AT, new_id, part
from pluperfect_store.layout import u64
from pluperfect_store.ledger import Changes
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

NOW = AT + 100 * DAY
OLD = PruneRule(NOW - 30 * DAY)


def test_old_trees_go_and_what_is_left_reads_as_before(log):
    """52. Whole trees of ended runs go; of what stays every record, head and list is as it was."""
    old = [grown(log, children=2, tags=["x"]) for _ in range(5)]
    young = [grown(log, at=NOW - DAY, tags=["x"]) for _ in range(3)]
    stay = [run for runs in young for run in runs]
    before = answers(log, stay)
    done = log.prune(OLD, NOW)

    assert (done.trees, done.runs, done.records) == (5, 15, 45)
    assert [log.head(run) for runs in old for run in runs] == [None] * 15
    assert [*log.find(roots=True)] == [runs[0] for runs in reversed(young)]
    assert answers(log, stay) == before
    assert log.feed(0, 1) == log.feed(45, 1)
    sound(log)


def test_neither_size_nor_root_of_the_tree_change_but_by_the_record_of_it(log):
    """53. The leaves of pruned records stay: the tree is the one over all records that ever were."""
    for number in range(40):
        grown(log, children=3, at=AT if number % 4 else NOW)
    before = leaves(log)
    assert tree(log) == over(before.values())
    log.prune(OLD, NOW)

    after = {**before, **leaves(log)}
    assert len(after) > len(before)
    assert tree(log) == over(after[position] for position in range(1, len(after) + 1))
    sound(log)


def test_a_whole_block_of_pruned_records_is_folded_into_its_node(log):
    """53. Where 256 neighbours are pruned, at once or one by one, their node alone stands for them."""
    for number in range(100):
        grown(log, children=1, at=AT + number * DAY / 2)  # 600 records
    for days in (31, 60, 70, 80):
        log.prune(PruneRule(AT + (days - 29.9) * DAY), NOW)
        sound(log)
    with log._rows() as rows:
        cut = [int.from_bytes(key, "big") for key in rows.keys("cut")]
    gone = sum(note["records"] for note in notes(log, "store/pruned"))

    assert gone == 600
    assert cut == [*range(513, 601)]


def test_it_is_on_record_what_was_pruned_and_by_what_rule(log):
    """54. The store's own record tells how much went, how old it was, and the rule."""
    grown(log, at=AT + 5)
    grown(log, at=AT + 9)
    log.prune(PruneRule(NOW - DAY, name="fetch", keep=1), NOW)
    (note,) = notes(log, "store/pruned")

    assert (note["trees"], note["runs"], note["records"]) == (1, 2, 6)
    assert (note["oldest"], note["newest"]) == (AT + 5, AT + 5)
    assert note["rule"] == {"before": NOW - DAY, "state": None, "name": "fetch", "keep": 1, "with_keys": False}
    assert log.prune(PruneRule(NOW - DAY, name="fetch", keep=1), NOW).trees == 0
    assert len(notes(log, "store/pruned")) == 1
    log.prune(PruneRule(2 * NOW), NOW)
    assert len(notes(log, "store/pruned")) == 2  # the store's own records are never pruned


def test_what_has_not_ended_stays(log):
    """52. A tree stays as long as one run of it has not ended."""
    root, child = new_id(), new_id()
    log.append([told(root), told(child, root, end="running")], epoch=1).wait()

    assert log.prune(OLD, NOW).trees == 0
    log.append([part(child, root, 2, Completed())], epoch=1).wait()
    assert log.prune(PruneRule(NOW), NOW).trees == 1
    sound(log)


def test_what_somebody_carries_out_stays(store):
    """52. A tree stays as long as somebody alive carries it out, even where it has ended."""
    held = new_id()
    store.append([told(held)], epoch=1, claim=True).wait()

    assert store.prune(OLD, NOW).trees == 0
    store.release(held, 1)
    store.flush()
    assert store.prune(OLD, NOW).trees == 1
    sound(store)


def test_a_rule_chooses_by_state_name_age_and_how_many_stay(log):
    """52. Only what the rule names goes, the oldest first."""
    failed = grown(log, end="failed")[0]
    ours = [grown(log, name="other", at=AT + number)[0] for number in range(4)]
    theirs = [grown(log)[0] for _ in range(2)]

    def left():
        return {*log.find(roots=True)}

    log.prune(PruneRule(NOW, state=7), NOW)
    assert left() == {*ours, *theirs}
    assert failed not in left()
    log.prune(PruneRule(NOW, keep=1), NOW)
    assert left() == {ours[-1], theirs[-1]}
    log.prune(PruneRule(AT + 3), NOW)
    assert left() == {ours[-1]}
    log.prune(PruneRule(NOW, name="fetch"), NOW)
    assert left() == {ours[-1]}


def test_a_dry_run_says_what_would_go_and_changes_nothing(log):
    """52. A dry run gives the same numbers, and leaves every row as it was."""
    grown(log)
    before = log.feed()
    dry = log.prune(OLD, NOW, dry_run=True)

    assert log.feed() == before
    assert log.prune(OLD, NOW) == dry


def test_a_run_with_an_idempotency_key_stays_unless_it_is_asked_for(log):
    """55. Without its record a call with the same key would run again: so it stays, and is counted."""
    kept = grown(log, key="order-7")[0]
    assert log.prune(OLD, NOW) == log.prune(OLD, NOW, dry_run=True)
    assert log.prune(OLD, NOW).keyed == 1
    assert log.head(kept) is not None
    done = log.prune(PruneRule(NOW, with_keys=True), NOW)

    assert (done.trees, done.keyed, log.head(kept)) == (1, 0, None)


def test_a_pruned_result_answers_no_key_and_lets_no_older_one_answer(log):
    """56. The cache rows of pruned runs go: a key answers anew when something is recorded under it again."""
    older = grown(log, children=0, cached="k", name="kept")[0]
    grown(log, children=0, cached="k")
    grown(log, children=0, cached="other")
    log.prune(PruneRule(NOW, name="fetch"), NOW)

    assert log.head(older) is not None
    assert log.cached("k", NOW) is None
    assert log.cached("other", NOW) is None
    sound(log)
    newer = grown(log, children=0, cached="k", at=NOW)[0]
    assert log.cached("k", NOW).run == newer
    log.rebuild()
    assert log.cached("k", NOW).run == newer
    log.prune(PruneRule(NOW, name="kept"), NOW)
    assert log.cached("k", NOW).run == newer
    sound(log)


def test_a_late_append_to_a_pruned_tree_is_refused(log):
    """52. Nothing can be recorded under a run that is gone."""
    root = grown(log)[0]
    log.prune(OLD, NOW)

    with pytest.raises(Conflict):
        log.append([told(new_id(), root)], epoch=1).wait()
    with pytest.raises(Conflict):
        log.append([part(root, None, 3, Running())], epoch=1).wait()


def test_records_of_unknown_types_stay_as_they_are_and_go_with_their_run(log):
    """52. What this release does not know is pruned with its run, and kept to the byte elsewhere."""

    def remark(run, at):
        head = log.head(run)
        made = msgpack.encode(
            Record(run, head.seq + 1, int(at * 1e6), 1, "acme.notes/remark", 3, head.leaf, Raw(msgpack.encode("hm")))
        )
        row = msgpack.encode([made, []])
        entered(log, run, head.seq + 1, row)
        return row

    old, young = grown(log)[0], grown(log, at=NOW)[0]
    remark(old, AT)
    row = remark(young, NOW)
    log.prune(OLD, NOW)

    assert log.records(young)[3] == row
    assert log.head(old) is None
    sound(log)


def entered(log, run, seq, row):
    log._change(lambda batch: batch.enter(run, seq, None, row, leaf(row), 1))


def test_a_record_that_is_gone_without_being_pruned_is_named(log):
    """57. compare() goes over pruned records by their leaves, and names what is gone otherwise."""
    for _ in range(100):
        grown(log, children=1)
    log.prune(PruneRule(NOW, keep=95), NOW)
    drop(log, "log", 40)
    assert any("after position 39 comes 41" in line for line in log.compare())
    assert 40 in {finding.position for finding in log.verify().findings}
    with pytest.raises(StoreDamaged):
        log.rebuild()


def test_a_whole_block_that_is_gone_without_being_pruned_is_named(log):
    """57. The node of a block does not hide that its records were dropped: they are counted."""
    for _ in range(100):
        grown(log, children=1)
    for position in range(257, 513):
        drop(log, "log", position)

    assert any("256 records are not there, but the store's own records tell of 0" in line for line in log.compare())
    assert any("256 records are not there, but" in finding.what for finding in log.verify().findings)


def test_a_leaf_that_was_changed_is_found(log):
    """57. The leaves of pruned records are held against the tree."""
    for _ in range(10):
        grown(log)
    log.prune(PruneRule(NOW, keep=2), NOW)
    log._change(lambda batch: batch.cut(u64(3), bytes(32)))

    assert [line for line in log.compare() if line.startswith("tree:")]
    assert log.verify().findings


def drop(log, table, position):
    log._change(lambda batch: batch.remove(table, u64(position)))


def test_a_tree_that_moved_on_since_it_was_chosen_stays(log, monkeypatch):
    """52. Inside of the transaction it is asked again whether the tree is as it was."""
    root = grown(log)[0]
    take_out = pruning._take_out

    def later(rows, trees, *rest):
        head = trees[0].runs[root]
        trees[0].runs[root] = pruning.replace(head, position=head.position - 1)
        return take_out(rows, trees, *rest)

    monkeypatch.setattr(pruning, "_take_out", later)
    assert log.prune(OLD, NOW).trees == 0
    assert log.head(root) is not None


TREES = st.lists(
    st.tuples(
        st.integers(0, 6),  # children
        st.integers(0, 3),  # age
        st.sampled_from(["fetch", "other"]),
        st.sampled_from([None, None, "key"]),
        st.sampled_from([None, "c1", "c2"]),
        st.sampled_from(["completed", "completed", "failed", "running"]),
    ),
    min_size=1,
    max_size=40,
)
RULES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([None, 6, 7]), st.sampled_from([None, "fetch"]), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(TREES, RULES, st.integers(1, 60))
def test_random_trees_and_rules(trees, rules, most):
    """58. Whatever is pruned of whatever was recorded: views equal the fold, the tree stays, the rest reads as before."""
    log = MemoryLog()
    all_runs, hashes = [], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "_SLICE", most)
        for children, age, name, key, cached, end in trees:
            all_runs.append(grown(log, children=children, at=AT + age, name=name, key=key, cached=cached, end=end))
        for age, state, name, keep in rules:
            hashes.update(leaves(log))
            was = {runs[0]: answers(log, runs) for runs in all_runs}
            dry = log.prune(PruneRule(AT + age, state, name, keep), NOW, dry_run=True)
            done = log.prune(PruneRule(AT + age, state, name, keep), NOW)
            left = [runs for runs in all_runs if log.head(runs[0]) is not None]
            assert done == dry
            assert done.trees == len(all_runs) - len(left)
            assert {runs[0]: answers(log, runs) for runs in left} == {runs[0]: was[runs[0]] for runs in left}
            hashes.update(leaves(log))
            assert tree(log) == over(hashes[position] for position in range(1, len(hashes) + 1))
            sound(log)
            all_runs = left
        held = everything(log)
        log.rebuild()
        assert everything(log) == held


def everything(log):
    with log._rows() as rows:
        return {table: [*rows.scan(table, b"", b"")] for table in log._tables.tables}


PRUNES = """
    from pluperfect.hooks import PruneRule
    from pluperfect_store import pruning
    pruning._SLICE = 1
    log = LmdbLog(path)
    take_out = pruning._take_out
    def slow(*given):
        print("slice")
        return take_out(*given)
    pruning._take_out = slow
    log.prune(PruneRule(AT + 1), AT + 2)
    print("done")
"""


def test_a_kill_in_the_middle_of_pruning_leaves_a_sound_store(tmp_path, program):
    """59. Each transaction takes whole trees and tells of them: a kill at any moment leaves a sound store."""
    log = LmdbLog(tmp_path / "runs")
    trees = [grown(log, children=3, cached=f"c{number}") for number in range(120)]
    chance = random.Random(1)
    for _ in range(4):
        one = program(PRUNES, log.path)
        for _ in range(chance.randint(2, 12)):
            assert one.line() == "slice"
        one.kill()
        sound(log)
        for runs in trees:
            there = {log.head(run) is not None for run in runs}
            assert len(there) == 1
        grown(log, at=NOW)
    left = sum(log.head(runs[0]) is not None for runs in trees)
    assert 0 < left < 120
    assert sum(note["trees"] for note in notes(log, "store/pruned")) == 120 - left
    log.close()
    LmdbLog(log.path).close()


def test_a_log_prunes_what_its_clock_calls_old(tmp_path):
    clock = FakeClock()

    @pluperfect.flow
    def hello():
        return 1

    with pluperfect.open(tmp_path / "runs", clock=clock) as opened:
        hello()
        clock.advance(40 * DAY)
        hello()
        assert opened.prune(30 * DAY, dry_run=True).trees == 1
        assert opened.prune(30 * DAY, state="completed").trees == 1
        assert len(opened.runs()) == 1
        assert opened.compare() == []
        with pytest.raises(ValueError, match="below 0"):
            opened.prune(-1)
        assert {entry.entry is None for entry in opened.follow(timeout=0)} == {True, False}
        assert open_record(opened.log.feed()[-1][1]).type == "store/pruned"


def test_what_stands_for_pruned_records_is_found_where_it_was_changed(log):
    """57. A leaf or a node that was changed, moved or lost is found, and a position far away stops nothing."""
    for _ in range(300):
        grown(log, children=0)
    assert log.prune(PruneRule(NOW, keep=30), NOW).records == 810
    with log._rows() as rows:
        cut, nodes = [*rows.scan("cut", b"", b"")], [*rows.scan("node", b"", b"")]
        last = rows.get("log", rows.last("log"))
    assert len(cut) == 810 - 3 * 256
    assert log.verify().findings == ()
    for table, key, value in [
        ("cut", cut[5][0], bytes(32)),
        ("cut", cut[5][0], None),
        ("cut", u64(3), cut[5][1]),  # in a block for which its node stands
        ("cut", u64(2**63), bytes(32)),
        ("node", nodes[1][0], bytes(32)),
        ("node", nodes[1][0], None),
        ("log", u64(2**63), last),
        ("log", u64(2**64 - 1), last),
    ]:
        with log._rows() as rows:
            before = rows.get(table, key)
        put(log, table, key, value)
        assert log.compare(), (table, key)
        if (table, key) != ("cut", u64(2**63)):  # it is in nobody's way, and no evidence of anything
            assert log.verify().findings, (table, key)
        put(log, table, key, before)
        assert log.compare() == []
        assert log.verify().findings == ()


def put(log, table, key, value):
    """Write a row past the library's back, or take it away."""
    changes = Changes({}, [(table, key)]) if value is None else Changes({table: {key: value}}, [])
    if isinstance(log, MemoryLog):
        log._tables.apply(changes, log.position())
    else:
        log._store.writer.run(lambda txn: txn.apply(changes))

"""The projection by itself: rows that cancel, records of later releases, logs with holes."""

from __future__ import annotations

import pytest
from msgspec import Raw, msgpack

from pluperfect.records import GENESIS, Record, encode, leaf
from pluperfect.states import Completed, Running
from pluperfect.transitions import Transition
from pluperfect_store.conformance import AT, born, new_id, part, whole
from pluperfect_store.folding import fold_log
from pluperfect_store.layout import decode_head, idx_key, u64
from pluperfect_store.ledger import Batch, prepare, releasing
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog


def row_of(record):
    return msgpack.encode([msgpack.encode(record), []])


def chained(*makers):
    """A log of one run: each maker is given the hash of the record before its own."""
    prev, log = GENESIS, []
    for position, make in enumerate(makers, 1):
        data = make(prev)
        prev = leaf(data)
        log.append((u64(position), data))
    return log


def test_a_record_of_a_later_release_is_counted_and_chained_and_moves_nothing():
    run = new_id()
    log = chained(
        lambda prev: encode(run, Transition(1, AT, born(run), epoch=2), prev),
        lambda prev: row_of(Record(run, 2, 0, 5, "acme.notes/remark", 3, prev, Raw(msgpack.encode("hm")))),
        lambda prev: encode(run, Transition(3, AT, Running(), epoch=4), prev),
    )
    changes, wrong = fold_log(log)
    head = decode_head(changes.puts["head"][run])

    assert wrong == []
    assert (head.seq, head.position, head.state, head.epoch) == (3, 3, Running.code, 5)
    assert head.leaf == leaf(log[-1][1])
    assert len(changes.puts["idx"]) == 3


def test_a_run_that_begins_with_a_record_of_a_later_release_is_a_root_in_no_state():
    run = new_id()
    changes, wrong = fold_log(chained(lambda prev: row_of(Record(run, 1, 0, 1, "acme/x", 1, prev, Raw(b"\xc0")))))
    head = decode_head(changes.puts["head"][run])

    assert wrong == []
    assert (head.state, head.root, head.epoch) == (0, None, 1)
    assert "by_state" not in changes.puts


def test_rows_that_come_and_go_within_a_batch_are_never_written():
    log, run = MemoryLog(), new_id()
    batch = Batch(log._tables, 0)
    batch.take(prepare([part(run, None, 0, born(run, due=AT))], 1))
    batch.take(prepare([part(run, None, 1, Running())], 1))
    changes = batch.changes()

    assert "timer" not in changes.puts
    assert changes.deletes == []
    assert [len(changes.puts[table]) for table in ("log", "idx", "head", "by_state")] == [2, 2, 1, 1]


def test_holes_and_jumps_are_named():
    run = new_id()
    entries = whole(run).entries
    records = chained(*(lambda prev, entry=entry: encode(run, entry, prev) for entry in entries))
    _, wrong = fold_log([records[0], records[2]])

    assert wrong == [
        "log: after position 1 comes 3",
        f"log: position 3: run {run.hex()} goes from entry 1 to 3",
    ]
    assert fold_log(records)[1] == []


def test_compare_names_every_kind_of_difference():
    log, run = MemoryLog(), new_id()
    log.append([whole(run, tags=("x",), key="k")], epoch=1)
    tables = log._tables.tables
    tables["by_tag"].delete(tables["by_tag"].keys()[0])
    tables["child"].put(bytes(24), run)
    tables["cache"].put(tables["cache"].keys()[0], b"\x90")

    assert [line.split()[0] for line in log.compare()] == ["by_tag:", "child:", "cache:"]
    assert log.rebuild() == 3
    assert log.compare() == []


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_a_call_that_one_append_brings_before_its_root_raises_the_term_of_the_root_in_the_comparison_too(
    kind, tmp_path
):
    log = MemoryLog() if kind == "memory" else LmdbLog(tmp_path / "runs")
    root, child = new_id(), new_id()
    log.append([part(child, root, 0, born(child, root, parent=root)), part(root, root, 0, born(root))], epoch=0).wait()
    log.append([part(child, root, 1, Running())], epoch=3).wait()
    log.append([part(child, root, 2, Completed())], epoch=4).wait()

    assert log.head(root).epoch == 4
    assert log.compare() == []
    assert log.verify().sound
    log.close()


@pytest.mark.parametrize("lost", [[1], [1, 2]], ids=["its first record", "all its records"])
def test_a_call_that_the_index_has_lost_hides_none_of_those_after_it(lost):
    log = MemoryLog()
    root = new_id()
    runs = [new_id() for _ in range(6)]
    log.append([whole(root)], epoch=1).wait()
    for run in runs:
        log.append([part(run, root, 0, born(run, root, parent=root))], epoch=1).wait()
    for run in runs:
        log.append([part(run, root, 1, Running())], epoch=1).wait()
    everything = log.called(root)
    with log._rows() as rows:
        for seq in lost:
            rows.tables["idx"].values.pop(idx_key(runs[1], seq))

    for limit in (1, 2, 3, 64):
        found, after = [], 0
        while page := log.called(root, after, limit):
            found += page
            after = page[-1][0]
        assert [born for born, _ in found] == [born for born, _ in everything]
        assert [placed for _, placed in found if placed] == [
            placed[len(lost) :] if at == 1 else placed
            for at, (_, placed) in enumerate(everything)
            if at != 1 or lost == [1]
        ]


def test_a_batch_ends_with_its_last_row_also_where_somebody_lets_go_of_a_tree_after_it():
    run = new_id()
    batch = Batch(MemoryLog()._tables, 0, b"owner")
    assert batch.take(releasing(run, 1)) == 1
    assert batch.end is None
    batch.take(prepare([part(run, None, 0, born(run))], 1))
    end = batch.end
    batch.take(releasing(run, 1))

    assert end is not None
    assert end[0] == u64(1)
    assert batch.end == end

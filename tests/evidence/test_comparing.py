"""The reading of a log some rows at a time: what is found does not depend on how many, and nothing is made of them all."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import Raw, msgpack
from random_logs import AT, Direct, copied, fill, named, state

from pluperfect import exports
from pluperfect.errors import StoreDamaged
from pluperfect.histories import id_text
from pluperfect.records import Outlines, Record, encode, leaf, open_row
from pluperfect.states import Completed, Failed, Packed, Pending, Running
from pluperfect.transitions import TABLE, Facts, Ruling, Transition
from pluperfect_store import comparing
from pluperfect_store.conformance import born, new_id, part, whole
from pluperfect_store.layout import VIEWS, u64
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog
from pluperfect_store.tree import Tree
from pluperfect_store.views import evolve, gist, lasting

SIZES = [1, 2, 3, 7, 64]


@pytest.fixture
def some_at_a_time(monkeypatch):
    return lambda size: monkeypatch.setattr(comparing, "_CHUNK", size)


@given(counts=st.lists(st.integers(0, 700), max_size=5), seed=st.integers(0, 9))
def test_leaves_that_come_together_make_the_tree_of_those_that_come_one_by_one(counts, seed):
    rng, together, single = random.Random(seed), Tree(), Tree()
    for count in counts:
        leaves = [rng.randbytes(32) for _ in range(count)]
        together.extend(leaves)
        for one in leaves:
            single.push(one)
    assert (together.size, together.peaks) == (single.size, single.peaks)
    assert sorted(together.fresh) == sorted(single.fresh)


@given(seed=st.integers(0, 2**32))
def test_what_follows_from_an_outline_is_what_follows_from_the_entry(seed):
    rng, run, outlines = random.Random(seed), random.Random(seed).randbytes(16), Outlines()
    kinds = sorted((kind for kind in TABLE if kind not in (None, Pending)), key=lambda kind: kind.code)
    entries = [Transition(1, AT, born(run, due=rng.choice([None, AT])))]
    for seq in range(2, 8):
        to = state(rng, rng.choice(kinds))
        facts = Facts(key=rng.choice([None, "k"]), expires=rng.choice([None, AT]))
        ruling = Ruling(seq, AT, Running(), "rule", "no", rng.choice([None, AT + 1]))
        entries.append(rng.choice([Transition(seq, AT, to, facts=facts), ruling]))
    head = outlined = None
    for position, entry in enumerate(entries, 10):
        row = open_row(encode(run, entry, bytes(32)))
        outline = outlines.of(row)
        told, skimmed = gist(row.entry()), gist(outline)
        assert lasting(run, position, entry.seq, skimmed) == lasting(run, position, entry.seq, told)
        head = evolve(head, run, [position], [told], row.leaf, 1)
        outlined = evolve(outlined, run, [position], [skimmed], row.leaf, 1)
        assert outlined == head


def test_an_outline_of_a_body_that_names_a_value_too_many_is_refused():
    run = new_id()
    row = open_row(encode(run, Transition(1, AT, Completed(data=Packed(1, b"\x01"))), bytes(32)))
    outlines = Outlines()
    assert outlines.of(row) is not None
    short = open_row(msgpack.encode((row.raw, [])))
    for reader in (outlines.of, lambda row: row.entry()):
        with pytest.raises(StoreDamaged, match="its body is no transition"):
            reader(short)


@pytest.mark.parametrize("size", SIZES)
def test_a_sound_log_is_sound_however_many_rows_are_looked_at_together(some_at_a_time, size):
    """With takeovers, imports, redactions, records of a later release, and a root that outlives its children."""
    source, log = MemoryLog(), MemoryLog()
    given = fill(source, random.Random(size), trees=6)
    fill(log, random.Random(size + 100), trees=6)
    root, early = new_id(), new_id()
    log.append([part(root, root, 0, born(root), Running())], epoch=1)
    log.append([part(early, root, 0, born(early, root), Running(), Completed())], epoch=1)
    for term in (2, 5):  # the head of the root is last written by its own records, and raised by a child's
        child = new_id()
        log.append([part(child, root, 0, born(child, root), Running())], epoch=term)
        log.append([part(child, root, 2, Failed(cause="error"))], epoch=term)
    for number, one in enumerate(given):
        log.admit(_parcel(source, one, AT + number))
    with log._rows() as rows:
        large = next(row for _, row in rows.scan("log", b"", b"") if open_row(row).values)
    run, _ = named(large)
    log.redact(run, open_row(large).digests, everywhere=False, by="me", why="asked", at=AT)
    some_at_a_time(size)

    assert log.compare() == []
    report = log.verify()
    assert report.findings == ()
    assert (report.records, report.size) == (log.position(), log.position())
    assert report.runs == sum(1 for _ in log.find())
    for one in (root, run, given[0]):
        assert log.verify(one).findings == ()


def _parcel(source, root, at):
    with tempfile.TemporaryDirectory() as folder:
        exports.write(source, Path(folder) / "file", [root])
        return exports.read(Path(folder) / "file").parcel(at)


@pytest.mark.parametrize("table", VIEWS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from(SIZES))
def test_every_row_of_a_view_that_is_changed_gone_or_too_much_is_named(table, seed, size):
    rng, log = random.Random(seed), MemoryLog()
    fill(log, rng, trees=4)
    log.append([part(one := new_id(), one, 0, born(one, due=AT, tags=("x",)))], epoch=1)
    log.append([whole(new_id(), key="cached")], epoch=1)
    rows = log._tables.tables[table]
    there = [key for key in rows.keys() if key in rows.values]  # the keys of rows that went stay for a while
    assume(there)  # a random log may have none
    key = rng.choice(there)
    how = rng.choice(["gone", "changed", "more"])
    if how == "gone" or (how == "changed" and table == "timer"):  # whose rows are empty
        rows.delete(key)
    elif how == "changed":
        at = rng.randrange(len(rows.values[key]))
        rows.put(
            key,
            rows.values[key][:at] + bytes([rows.values[key][at] ^ rng.randrange(1, 256)]) + rows.values[key][at + 1 :],
        )
    else:
        value = rows.values[key]
        at = rng.randrange(len(key))
        key = key[:at] + bytes([key[at] ^ rng.randrange(1, 256)]) + key[at + 1 :]
        if key in rows.values:
            return
        rows.put(key, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "_CHUNK", size)
        lines = log.compare()
        findings = log.verify().findings

    assert any(line.startswith(f"{table}: row {key.hex()} ") for line in lines), (how, lines)
    assert any(f"{table}: row {key.hex()} " in found.what for found in findings), (how, findings)
    log.rebuild()
    assert log.compare() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_head_of_before_is_named_even_where_it_was_right_once(some_at_a_time, size):
    log, run = MemoryLog(), new_id()
    log.append([part(run, run, 0, born(run), Running())], epoch=1)
    old = log._tables.get("head", run)
    assert old is not None
    log.append([whole(new_id())], epoch=1)
    log.append([part(run, run, 2, Completed())], epoch=1)
    log._tables.tables["head"].put(run, old)
    some_at_a_time(size)

    assert [line.split(" is ")[0] for line in log.compare()] == [f"head: row {run.hex()}"]
    findings = log.verify().findings
    assert [(found.run, found.name) for found in findings] == [(id_text(run), "fetch")]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_found_does_not_depend_on_how_many_rows_are_looked_at_together(tmp_path, monkeypatch, size):
    log = LmdbLog(tmp_path / "sound")
    fill(log, random.Random(3), trees=12)
    log.close()
    rng = random.Random(size)
    for _ in range(12):
        folder = copied(tmp_path / "sound", tmp_path / "damaged")
        with Direct(folder) as direct:
            rows = direct.rows("log")
            for at in rng.sample(range(len(rows)), 3):
                key, data = rows[at]
                byte = rng.randrange(len(data))
                direct.put("log", key, data[:byte] + bytes([data[byte] ^ 1]) + data[byte + 1 :])
            direct.drop("log", rows[rng.randrange(len(rows))][0])
        found = []
        for chunk in (1024, size):
            monkeypatch.setattr(comparing, "_CHUNK", chunk)
            log = LmdbLog(folder, check=False)
            found.append({(one.position, one.seq, one.run) for one in log.verify().findings if one.position})
            log.close()
        assert found[0] == found[1]


@pytest.mark.parametrize("position", [2**32, 2**63, 2**64 - 1])
def test_a_record_at_a_far_position_is_found_at_once(tmp_path, position):
    log = LmdbLog(tmp_path / "runs")
    fill(log, random.Random(1), trees=3)
    log.close()
    with Direct(tmp_path / "runs") as direct:
        direct.put("log", u64(position), direct.rows("log")[-1][1])
    log = LmdbLog(tmp_path / "runs", check=False)
    findings = log.verify().findings
    log.close()

    assert findings[0].position
    assert any(found.position == position for found in findings) or "more records are bad" in str(findings)


def test_a_record_that_holds_no_entry_is_named_although_hashes_bind_it(tmp_path):
    """Written by something else, its hash is the one that its successor, its head and the tree say."""
    log, run = MemoryLog(), new_id()
    tables = log._tables.tables
    first = encode(run, Transition(1, AT, born(run)), bytes(32))
    odd = msgpack.encode([msgpack.encode(Record(run, 2, 0, 1, "transition", 1, leaf(first), Raw(b"\x91\x91\x63"))), []])
    log._change(lambda batch: [_enter(batch, data) for data in (first, odd)])
    assert tables["log"].keys()

    findings = log.verify().findings
    assert (findings[0].run, findings[0].seq, findings[0].position) == (id_text(run), 2, 2)
    assert "its body is no transition" in findings[0].what


def _enter(batch, data):
    row = open_row(data)
    try:
        entry = row.entry()
    except StoreDamaged:
        entry = None
    batch.enter(row.record.run, row.record.seq, entry, data, row.leaf, 1)


def test_a_thousand_and_more_bad_records_are_counted_and_not_all_told(tmp_path):
    log = MemoryLog()
    fill(log, random.Random(2), trees=400)
    tables = log._tables.tables
    keys = [*tables["log"].keys()]
    assert len(keys) > 2_000
    for key in keys[10:]:
        data = tables["log"].values[key]
        tables["log"].put(key, data[:-1])
    findings = log.verify().findings

    named = [found for found in findings if found.position]
    assert named[0].position == 11
    assert len(named) == 1000
    assert any(found.what == f"{len(keys) - 10 - 1000} more records are bad." for found in findings)

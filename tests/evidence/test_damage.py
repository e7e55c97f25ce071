"""Whatever is changed in the file is found, and the finding names the run and the record."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from random_logs import Direct, copied, fill, foreign_row, named

from pluperfect.evidence import Checkpoint
from pluperfect.histories import id_text
from pluperfect.records import GENESIS, leaf, open_row
from pluperfect_store import walking
from pluperfect_store.layout import u64
from pluperfect_store.lmdb import LmdbLog


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store of some 600 records: whole blocks of 256, and peaks besides."""
    folder = tmp_path_factory.mktemp("evidence") / "sound"
    log = LmdbLog(folder)
    fill(log, random.Random(7), trees=75)
    report = log.verify()
    log.close()
    assert report.sound
    assert report.records > 512
    return folder


def verified(folder, **given):
    log = LmdbLog(folder, check=False)
    try:
        return log.verify(**given)
    finally:
        log.close()


def changed(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def flip(rng, direct, rows):
    """One byte of one row."""
    at = rng.randrange(len(rows))
    direct.put("log", rows[at][0], changed(rng, rows[at][1]))
    return {at + 1: named(rows[at][1])}


def swap(rng, direct, rows):
    """Two rows in each other's place."""
    one, other = sorted(rng.sample(range(len(rows)), 2))
    direct.put("log", rows[one][0], rows[other][1])
    direct.put("log", rows[other][0], rows[one][1])
    return {one + 1: None, other + 1: None}


def drop(rng, direct, rows):
    """One row gone."""
    at = rng.randrange(len(rows))
    direct.drop("log", rows[at][0])
    return {at + 1: named(rows[at][1])}


def insert(rng, direct, rows):
    """One row more, and all behind it moved on; at times behind the end."""
    at = rng.randrange(len(rows) + 1)
    before = rows[rng.randrange(len(rows))][1]
    run, seq = named(before)
    forged = foreign_row(run, seq + 1, rng.choice([leaf(before), GENESIS]))
    for place, (_, row) in [*enumerate(rows, 1)][at:]:
        direct.put("log", u64(place + 1), row)
    direct.put("log", u64(at + 1), forged)
    return {at + 1: None}


def copy(rng, direct, rows):
    """One row in the place of another."""
    one, other = rng.sample(range(len(rows)), 2)
    direct.put("log", rows[one][0], rows[other][1])
    return {one + 1: None}


def truncate(rng, direct, rows):
    """The end gone."""
    count = rng.randrange(1, 40)
    for key, _ in rows[-count:]:
        direct.drop("log", key)
    return {at: named(row) for at, (_, row) in [*enumerate(rows, 1)][-count:]}


DAMAGES = [flip, flip, flip, flip, swap, drop, insert, copy, truncate]


def damage_and_verify(sound, tmp_path, seed, count):
    rng, done = random.Random(seed), Counter()
    for number in range(count):
        folder = copied(sound, tmp_path / "damaged")
        damage = rng.choice(DAMAGES)
        with Direct(folder) as direct:
            expected = damage(rng, direct, direct.rows("log"))
        told = f"seed {seed}, number {number}: {damage.__name__} {expected}"
        findings = verified(folder).findings
        assert findings, told
        assert findings[0].position == min(expected), (told, findings[:3])
        for position, who in expected.items():
            about = [found for found in findings if found.position == position]
            assert about, (told, findings[:3])
            assert all(found.run and found.name and found.seq for found in about), (told, about)
            if who is not None:
                assert (id_text(who[0]), who[1]) in {(found.run, found.seq) for found in about}, (told, about)
        done[damage.__name__] += 1
    print(f"seed {seed}: {count} damages, every one found: {dict(done)}")


def test_sixty_random_damages_are_found_and_name_run_and_record(sound, tmp_path):
    damage_and_verify(sound, tmp_path, 20_260_101, 60)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_random_damages_are_found_and_name_run_and_record(sound, tmp_path):
    damage_and_verify(sound, tmp_path, random.SystemRandom().randrange(2**32), 1000)


@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("chained", [True, False])
def test_a_record_that_was_put_in_the_place_of_the_next_one_is_the_one_to_blame(sound, tmp_path, chained, last, behind):
    """It claims the place of another, or even follows what that follows, and the index leads to it."""
    folder = copied(sound, tmp_path / "damaged")
    with Direct(folder) as direct:
        rows = direct.rows("log")
        known = [named(row) for _, row in rows]
        ends = dict(known)
        at = next(n for n, (run, seq) in enumerate(known) if n > 50 and seq > 2 and (ends[run] == seq) is last)
        run, seq = known[at]
        forged = foreign_row(run, seq, open_row(rows[at][1]).record.prev if chained else GENESIS)
        for place, (_, row) in [*enumerate(rows, 1)][at + behind :]:
            direct.put("log", u64(place + 1), row)
        direct.put("log", u64(at + 1 + behind), forged)
    found = verified(folder).findings
    assert found[0].position == at + 1 + behind
    assert behind or (found[0].run, found[0].seq) == (id_text(run), seq)


def test_a_forged_record_ends_no_verification_where_no_more_can_be_remembered(sound, tmp_path, monkeypatch):
    folder = copied(sound, tmp_path / "damaged")
    with Direct(folder) as direct:
        rows = direct.rows("log")
        at = next(n for n, (_, row) in enumerate(rows) if n > 50 and named(row)[1] > 2)
        for place, (_, row) in [*enumerate(rows, 1)][at:]:
            direct.put("log", u64(place + 1), row)
        direct.put("log", u64(at + 1), foreign_row(*named(rows[at][1]), GENESIS))
    monkeypatch.setattr(walking, "MOST", 0)
    report = verified(folder)
    assert not report.sound
    assert not any("cannot be read beyond" in found.what for found in report.findings)


@pytest.mark.parametrize("table", ["node", "blob", "meta", "head", "idx", "by_state", "by_name", "child", "cache"])
def test_a_changed_byte_in_any_other_table_is_found(sound, tmp_path, table):
    rng = random.Random(table)
    for _ in range(8):
        folder = copied(sound, tmp_path / "damaged")
        with Direct(folder) as direct:
            key, value = rng.choice([row for row in direct.rows(table) if row[0] not in (b"format", b"store_id")])
            direct.put(table, key, changed(rng, value))
        findings = verified(folder).findings
        assert findings
        if table == "blob":
            assert findings[0].run
            assert findings[0].name in ("fetch", "parse", "store")
            assert "value" in findings[0].what


def test_of_two_neighbours_only_the_changed_one_is_blamed(sound, tmp_path):
    """A changed `prev` contradicts the record before it, which is good; a changed body contradicts the one behind it."""
    for part in ("prev", "why"):
        folder = copied(sound, tmp_path / "damaged")
        with Direct(folder) as direct:
            rows = direct.rows("log")
            at = next(n for n, (_, row) in enumerate(rows) if open_row(row).record.seq == 3)
            data = rows[at][1]
            record = open_row(data).record
            target = record.prev if part == "prev" else bytes(record.body)
            start = data.index(target) + (0 if part == "prev" else len(target) - 1)
            direct.put("log", rows[at][0], data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
        about = [found for found in verified(folder).findings if found.position]

        assert [(found.position, found.seq) for found in about] == [(at + 1, 3)]


def test_a_value_that_is_gone_without_a_word_is_found_in_every_record_that_names_it(sound, tmp_path):
    folder = copied(sound, tmp_path / "damaged")
    with Direct(folder) as direct:
        digest, _ = direct.rows("blob")[0]
        direct.drop("blob", digest)
        naming = [named(row) for _, row in direct.rows("log") if digest in open_row(row).digests]
    findings = verified(folder).findings

    assert [(found.run, found.seq) for found in findings] == [(id_text(run), seq) for run, seq in naming]
    assert all("missing" in found.what for found in findings)


def test_a_hash_stands_for_a_pruned_record_and_a_gap_without_one_is_damage(sound, tmp_path):
    folder = copied(sound, tmp_path / "pruned")
    with Direct(folder) as direct:
        rows = direct.rows("log")
        # A whole tree of one run, as pruning takes it away.
        alone = next(
            run for run in {named(row)[0] for _, row in rows}
            if direct.get("head", run) and not any(key[:16] == run for key, _ in direct.rows("child"))
        )  # fmt: skip
        for key, row in rows:
            if named(row)[0] == alone:
                direct.put("cut", key, leaf(row))
                direct.drop("log", key)
    report = verified(folder)

    assert report.pruned == sum(named(row)[0] == alone for _, row in rows)
    assert not [found for found in report.findings if found.position]
    with Direct(folder) as direct:
        key, _ = direct.rows("cut")[0]
        direct.drop("cut", key)
    assert [found.position for found in verified(folder).findings if found.position] == [int.from_bytes(key, "big")]


def test_one_run_is_verified_by_itself_and_the_damage_of_others_is_not_its_own(sound, tmp_path):
    folder = copied(sound, tmp_path / "damaged")
    with Direct(folder) as direct:
        rows = direct.rows("log")
        at = next(n for n, (_, row) in enumerate(rows) if open_row(row).record.seq == 2)
        bad, other = named(rows[at][1])[0], named(rows[-1][1])[0]
        data = rows[at][1]
        start = data.index(open_row(data).record.prev)
        direct.put("log", rows[at][0], data[:start] + b"\0" + data[start + 1 :])
        assert bad != other
    log = LmdbLog(folder)

    assert [(found.run, found.seq) for found in log.verify(bad).findings][:1] == [(id_text(bad), 2)]
    assert log.verify(other).sound
    log.close()


def test_a_store_that_was_cut_or_written_anew_consistently_is_found_by_a_checkpoint_alone(tmp_path):
    """Same store id, sound in itself, but not the log that the checkpoint saw."""
    store = bytes(range(16))

    def made(name, seed, trees):
        log = LmdbLog(tmp_path / name)
        log.close()
        with Direct(tmp_path / name) as direct:
            direct.put("meta", b"store_id", store)
        log = LmdbLog(tmp_path / name)
        fill(log, random.Random(seed), trees)
        return log

    log = made("real", 1, 12)
    size, root = log.tree()
    point = Checkpoint.made(store, size, root, 0.0)
    fill(log, random.Random(5), 2)
    assert log.verify(against=point).sound
    log.close()
    cut, anew, other = made("cut", 1, 5), made("anew", 2, 30), LmdbLog(tmp_path / "other")
    for log, word in ((cut, "was cut"), (anew, "written anew"), (other, "is of store")):
        assert log.verify().sound
        findings = log.verify(against=point).findings
        assert len(findings) == 1
        assert word in findings[0].what
        log.close()

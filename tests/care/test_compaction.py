"""Compaction: a new file with the same rows, or the old one."""

from __future__ import annotations

import random
import time

import lmdb
import pytest

from care.trees import grown, sound
from pluperfect.errors import StoreDamaged, StoreError, StoreFull
from pluperfect.hooks import PruneRule
from pluperfect_store import compaction, opening
from pluperfect_store.conformance import AT, new_id, whole
from pluperfect_store.layout import u64
from pluperfect_store.lmdb import LmdbLog


def contents(folder):
    """All rows of all tables, read by LMDB alone; but the number of the last transaction, which each file counts for itself."""
    env = lmdb.open(str(folder), readonly=True, max_dbs=64)
    with env.begin() as txn:
        names = [*txn.cursor().iternext(values=False)]
    tables = {name: env.open_db(name, create=False) for name in names}
    with env.begin() as txn:
        found = {name: [*txn.cursor(table)] for name, table in tables.items()}
    env.close()
    found[b"meta"] = [row for row in found[b"meta"] if row[0] != b"txn"]
    return found


@pytest.fixture
def used(store):
    """A store with much unused room, closed."""
    for number in range(300):
        grown(store, at=AT + number % 2, value=b"x" * (3_000 if number % 9 == 0 else 30), tags=["a"])
    store.prune(PruneRule(AT + 0.5), AT + 9)
    store.close()
    return store.path


def test_the_new_file_is_smaller_and_equal_in_every_row(used):
    """64. Table by table, row by row, the new file holds what the old one held, and nothing else."""
    before = contents(used)
    log = LmdbLog(used)
    done = log.compact()

    assert done.after < done.before / 2
    assert done.after == (used / "data.mdb").stat().st_size
    sound(log)
    log.append([whole(new_id())], epoch=1).wait()
    log.close()
    assert sorted(path.name for path in used.iterdir()) == ["data.mdb", "lock.mdb", "store.lock"]
    assert contents(used).keys() == before.keys()
    log = LmdbLog(used)
    log.compact()
    log.close()
    after = contents(used)
    assert [row for row in after[b"log"] if row in before[b"log"]] == before[b"log"]


def test_rows_are_equal(used):
    """64. Table by table, row by row, the new file holds what the old one held, and nothing else."""
    before = contents(used)
    log = LmdbLog(used)
    log.compact()
    log.close()

    assert contents(used) == before


def test_tables_of_a_later_release_are_taken_along(used):
    """64. Tables that this release does not know are written anew like all others."""
    env = lmdb.open(str(used), max_dbs=64)
    with env.begin(write=True) as txn:
        txn.put(b"k", b"v", db=env.open_db(b"later", txn=txn))
        txn.put(b"txn", u64(txn.id()), db=env.open_db(b"meta", txn=txn))
    env.close()
    log = LmdbLog(used)
    log.compact()
    log.close()

    assert contents(used)[b"later"] == [(b"k", b"v")]


def test_a_store_that_is_open_elsewhere_is_left_alone(used, program):
    """65. Nobody else may have the store open; the error says how to find out who has."""
    other = program("log = LmdbLog(path); print('open'); sys.stdin.readline()", used)
    assert other.line() == "open"
    log = LmdbLog(used)
    before = (used / "data.mdb").stat().st_ino
    with pytest.raises(StoreError, match="is open elsewhere.*doctor"):
        log.compact()

    assert (used / "data.mdb").stat().st_ino == before
    log.append([whole(new_id())], epoch=1).wait()
    sound(log)
    other.say()
    other.end()
    log.compact()
    sound(log)
    log.close()


def test_whoever_opens_the_store_meanwhile_waits(used, program, monkeypatch):
    """65. An opening that meets a compaction waits for it, and sees the new file."""
    rewritten = compaction._rewritten
    opened = []

    def slow(*given):
        one = program("log = LmdbLog(path); print(log.position(), log.compare()); log.close()", used)
        opened.append(one)
        time.sleep(0.3)
        assert one.process.poll() is None
        return rewritten(*given)

    monkeypatch.setattr(compaction, "_rewritten", slow)
    log = LmdbLog(used)
    position = log.position()
    log.compact()

    assert opened[0].end() == [str(position), "[]"]
    log.close()


def test_without_room_the_old_file_stands(used, monkeypatch):
    """66. Whatever goes wrong, the old file stands as it was."""
    before = contents(used)

    def full(*given):
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(compaction, "_rewritten", full)
    log = LmdbLog(used)
    with pytest.raises(StoreFull, match="It is as it was"):
        log.compact()
    sound(log)
    log.close()
    assert contents(used) == before


def test_what_does_not_belong_together_is_not_compacted(used):
    """66. Pages of an older transaction in the place of newer ones would not be seen in the new file any more."""
    env = lmdb.open(str(used), max_dbs=64)
    with env.begin(write=True) as txn:
        txn.put(b"txn", u64(txn.id() - 1), db=env.open_db(b"meta", txn=txn))
    env.close()
    before = contents(used)
    log = LmdbLog(used)
    with pytest.raises(StoreDamaged, match="pages of another transaction"):
        log.compact()
    log.close()
    assert contents(used) == before


def test_a_file_that_would_differ_is_not_kept(used, monkeypatch):
    """66. Whatever goes wrong, the old file stands as it was."""
    before = contents(used)
    monkeypatch.setattr(compaction, "zip_longest", lambda one, other: [(1, 2)])
    log = LmdbLog(used)
    with pytest.raises(StoreDamaged, match="differs in table"):
        log.compact()
    log.close()
    assert contents(used) == before


def test_a_kill_in_the_middle_of_compaction_leaves_the_old_file_or_the_new_one(used, program):
    """66. A kill at any moment leaves one of the two files, whole."""
    before = contents(used)
    chance = random.Random(5)
    for _ in range(6):
        one = program("log = LmdbLog(path); print('open'); log.compact()", used)
        assert one.line() == "open"
        time.sleep(chance.random() * 0.06)
        one.kill()
        assert contents(used) == before
    log = LmdbLog(used)
    sound(log)
    log.compact()
    log.close()
    assert not [*used.glob(".new-*")]


def test_a_file_that_ends_before_its_last_page_is_sound_if_what_is_missing_is_free(store):
    """28. Pages that were taken and given back in one transaction are never written: their lack is no damage."""
    for _ in range(20):  # what these have freed is room for all that the last transaction keeps
        grown(store)
    store.close()
    env = lmdb.open(str(store.path), max_dbs=64)
    log, meta = (env.open_db(name, create=False) for name in (b"log", b"meta"))
    with env.begin(write=True) as txn:
        txn.put(b"txn", u64(txn.id()), db=meta)
        txn.put(b"\xff" * 8, b"x" * 300_000, db=log)
        txn.delete(b"\xff" * 8, db=log)
    last, page = env.info()["last_pgno"], env.stat()["psize"]
    env.close()

    assert (last + 1) * page > (store.path / "data.mdb").stat().st_size + 200_000  # else this test shows nothing
    opening.examine(store.path)
    log = LmdbLog(store.path)
    sound(log)
    for _ in range(50):
        grown(log)
    sound(log)
    log.close()

"""Backups: of a live store, checked, fenced, and whole or not there at all."""

from __future__ import annotations

import random
import shutil
import time
from hashlib import sha256

import pytest

import pluperfect
from care.trees import grown, sound, told, tree
from pluperfect.errors import Fenced, StoreDamaged, StoreError
from pluperfect.hooks import PruneRule
from pluperfect.states import Completed, Running
from pluperfect_store.conformance import AT, new_id, part, whole
from pluperfect_store.layout import u64
from pluperfect_store.ledger import Changes
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

WRITES = """
    from pluperfect.states import PLAIN, Completed, Packed, Running
    log = LmdbLog(path)
    print("ready")
    number = 0
    while True:
        number += 1
        value = Packed(PLAIN, bytes([number % 256]) * (2_000_000 if number % 50 == 1 else 3_000 if number % 5 == 0 else 9))
        run = new_id()
        log.append([part(run, None, 0, born(run), Running(), Completed(data=value))], epoch=1).wait()
"""


def folders(path):
    return sorted(item.name for item in path.iterdir())


def test_a_backup_beside_writers_is_the_log_up_to_its_position(store, tmp_path, program):
    """60. Writers go on; the copy is the store as it was at one position, checked, large values included."""
    writers = [program(WRITES, store.path) for _ in range(3)]
    for one in writers:
        assert one.line() == "ready"
    assert store.await_position(300, 30)
    made = []
    for number in range(3):
        made.append(store.backup(str(tmp_path / f"copy-{number}")))
        assert store.await_position(made[-1].position, 30)
    for one in writers:
        one.kill()

    assert made[0].position < made[1].position < made[2].position
    for backup in made:
        copy = LmdbLog(backup.path)
        assert copy.feed(0, 10**7) == store.feed(0, 10**7)[: backup.position]
        assert tree(copy) == (backup.size, backup.root) == (backup.position, backup.root)
        sound(copy)
        copy.close()
    assert made[-1].values > 0
    assert made[-1].absent == 0
    sound(store)


def test_a_backup_can_be_opened_and_its_old_owners_are_fenced_out(store, tmp_path):
    """61. In a copy nobody carries out anything, and no term that was given before may write."""
    run, other = new_id(), new_id()
    store.append([part(run, None, 0, told(run).entries[0].to, Running())], epoch=1, claim=True).wait()
    term = store.claim(other, AT)
    made = store.backup(str(tmp_path / "copy"))
    copy = LmdbLog(made.path)

    assert copy.holder(run) is None
    assert store.holder(run).gone == ""
    for old in (1, term, 1000):
        with pytest.raises(Fenced, match="restored from a backup"):
            copy.append([part(run, None, 2, Completed())], epoch=old).wait()
    now = copy.claim(run, AT)
    assert now > 2**32 + max(1, term)
    copy.append([part(run, None, 2, Completed())], epoch=now).wait()
    copy.append([whole(new_id())], epoch=1, claim=True).wait()
    assert copy.head(run).state == Completed.code
    sound(copy)
    copy.close()


def test_a_backup_of_a_backup_is_fenced_again(store, tmp_path):
    """61. Each copy is above the terms of the one before."""
    run = new_id()
    store.append([part(run, None, 0, told(run).entries[0].to, Running())], epoch=1, claim=True).wait()
    first = LmdbLog(store.backup(str(tmp_path / "a")).path)
    term = first.claim(run, AT)
    second = LmdbLog(first.backup(str(tmp_path / "b")).path)

    with pytest.raises(Fenced):
        second.append([part(run, None, 2, Completed())], epoch=term).wait()
    assert second.claim(run, AT) > term + 2**31
    first.close()
    second.close()


def test_a_flow_that_was_interrupted_goes_on_in_the_restored_store(tmp_path, program):
    """61. What was under way when the backup was made is resumed there, its calls answered from the log."""
    text = """
        import pluperfect
        from pluperfect import flow, task
        @task
        def step(n): return n
        @flow
        def job():
            a = step(1)
            print("half", flush=True)
            time.sleep(60)
        with pluperfect.open(path): job.with_options(idempotency_key="one")()
    """
    one = program(text, tmp_path / "runs")
    while "half" not in one.line():
        pass
    log = LmdbLog(tmp_path / "runs")
    made = log.backup(str(tmp_path / "copy"))
    log.close()
    one.kill()
    asked = []

    @pluperfect.task
    def step(n):
        asked.append(n)
        return n

    @pluperfect.flow
    def job():
        return step(1)

    with pluperfect.open(made.path) as opened:
        assert job.with_options(idempotency_key="one")() == 1
        assert opened.compare() == []
    assert len(asked) <= 1


def test_a_place_that_is_taken_is_refused(store, tmp_path):
    """60. A backup never writes over anything."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thing").touch()
    with pytest.raises(StoreError, match="is there already, and not empty"):
        store.backup(str(tmp_path / "taken"))
    (tmp_path / "empty").mkdir()
    store.backup(str(tmp_path / "empty"))

    assert folders(tmp_path / "empty") == ["data.mdb"]
    assert folders(tmp_path) == ["empty", "runs", "taken"]


def test_a_damaged_copy_is_not_kept(store, tmp_path):
    """62. Structure, chain, root and values of the copy are checked before it gets its name."""
    for _ in range(5):
        grown(store)
    row = store.record_at(3).replace(b"\x05", b"\x06")
    store._change(lambda batch: batch.rewrite(u64(3), row))

    with pytest.raises(StoreDamaged, match="was not kept, since the copy is not sound"):
        store.backup(str(tmp_path / "copy"))
    assert folders(tmp_path) == ["runs"]


def test_what_does_not_belong_together_is_not_copied(store, tmp_path):
    """62. Pages of an older transaction in the place of newer ones would not be seen in the copy any more."""
    grown(store)
    env = store._store.environment()
    with env._env.begin(write=True) as txn:
        txn.put(b"txn", u64(txn.id() - 1), db=env._tables["meta"])
    with pytest.raises(StoreDamaged, match=r"Pages of another transaction.*earlier backup"):
        store.backup(str(tmp_path / "copy"))
    assert folders(tmp_path) == ["runs"]


@pytest.mark.parametrize("large", [3_000, 2_000_000])
def test_a_changed_value_is_found(store, tmp_path, large):
    """62. A value that does not have its digest any more is no part of a backup."""
    grown(store, children=0, value=b"x" * large)
    if large == 2_000_000:
        (_, path), *_ = store._store.files.all()
        path.write_bytes(b"y" * large)
    else:
        digest = sha256(b"x" * large).digest()
        store._store.writer.run(lambda txn: txn.apply(Changes({"blob": {digest: b"y" * large}}, [])))

    with pytest.raises(StoreDamaged):
        store.backup(str(tmp_path / "copy"))
    assert folders(tmp_path) == ["runs"]


def test_what_is_not_in_the_store_any_more_is_counted(store, tmp_path):
    """62. Values that were taken away are counted, and are no damage."""
    grown(store, children=0, value=b"x" * 2_000_000)
    (digest, _), *_ = store._store.files.all()
    store._store.files.remove(digest)

    assert store.backup(str(tmp_path / "copy")).absent == 1


def test_a_pruned_store_is_backed_up(store, tmp_path):
    """62. Leaves and nodes of pruned records stand in the copy too."""
    for number in range(120):
        grown(store, at=AT + number)
    store.prune(PruneRule(AT + 100), AT + 200)
    made = store.backup(str(tmp_path / "copy"))
    copy = LmdbLog(made.path)

    assert tree(copy) == tree(store)
    sound(copy)
    copy.close()


def test_no_file_is_swept_while_a_backup_is_made(store, tmp_path, monkeypatch):
    """63. A value that the copy names is copied, whatever is pruned meanwhile."""
    from pluperfect_store import backup, files, pruning

    monkeypatch.setattr(pruning, "_FRESH", -1.0)
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    grown(store, children=0, value=b"x" * 2_000_000)
    finished = backup._finished
    done = []

    def beside(*given):
        done.append(store.prune(PruneRule(AT + 1), AT + 2))
        return finished(*given)

    monkeypatch.setattr(backup, "_finished", beside)
    made = store.backup(str(tmp_path / "copy"))

    assert (made.values, made.absent) == (1, 0)
    assert (done[0].trees, done[0].values) == (1, 0)
    assert store.prune(PruneRule(AT + 1), AT + 2).values == 1


BACKS_UP = """
    from pluperfect_store import backup
    log = LmdbLog(path)
    finished = backup._finished
    def slow(*given):
        print("copied")
        time.sleep(float(sys.argv[3]))
        return finished(*given)
    backup._finished = slow
    print("begin")
    log.backup(sys.argv[2])
"""


def test_a_kill_in_the_middle_of_a_backup_leaves_no_half_of_one(store, tmp_path, program):
    """60. A backup stands under its name when it is whole; what a killed one has left goes with the next."""
    for _ in range(200):
        grown(store, value=b"x" * 3_000)
    chance = random.Random(3)
    target = tmp_path / "copy"
    for wait in ("60", "0", "0", "0"):
        one = program(BACKS_UP, store.path, target, wait)
        assert one.line() == "begin"
        if wait == "60":
            assert one.line() == "copied"
        time.sleep(chance.random() * 0.05)
        one.kill()
        if target.exists():
            copy = LmdbLog(target)
            sound(copy)
            copy.close()
            shutil.rmtree(target)
        grown(store)
    sound(store)
    store.backup(str(target))

    assert folders(tmp_path) == ["copy", "runs"]


def test_without_room_nothing_is_kept(store, tmp_path, program):
    """60. A backup that does not fit says so, and leaves nothing."""
    for _ in range(50):
        grown(store)
    text = """
        import resource
        log = LmdbLog(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try: log.backup(sys.argv[2])
        except StoreError as error: print(error)
    """

    assert "Is there room" in " ".join(program(text, store.path, tmp_path / "copy").end())
    assert folders(tmp_path) == ["runs"]


def test_a_log_in_memory_has_nothing_to_copy():
    log = MemoryLog()
    with pytest.raises(StoreError, match="no file"):
        log.backup("x")
    with pytest.raises(StoreError, match="no file"):
        log.compact()

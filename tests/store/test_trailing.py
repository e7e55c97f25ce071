"""Views that trail behind the log: few pages for a commit that somebody waits for, and nobody sees it."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluperfect.errors import Conflict
from pluperfect.records import GENESIS, encode, leaf, open_record
from pluperfect.states import Completed, Failed, Retrying, Running
from pluperfect.transitions import Transition
from pluperfect_store import ledger
from pluperfect_store.conformance import AT, FIVE, born, everything, new_id, part, whole
from pluperfect_store.environment import Transaction
from pluperfect_store.gates import MapFull
from pluperfect_store.layout import FORMAT, TRAILING, VIEWS, number, u64
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog
from pluperfect_store.trailing import BEHIND

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def log(tmp_path):
    log = LmdbLog(tmp_path / "runs")
    yield log
    log.close()


def held(log):
    """What LMDB itself holds of an open store: the rows of each view, and up to where they are settled."""
    env = log._store.environment()
    with env._env.begin() as txn:
        views = {table: [*txn.cursor(env._tables[table])] for table in VIEWS}
        return views, number(txn.get(b"settled", db=env._tables["meta"])[:8])


def on_disk(folder):
    """The same of a store that nobody has open."""
    env = lmdb.open(str(folder), readonly=True, max_dbs=32)
    tables = {table: env.open_db(table.encode(), create=False) for table in (*VIEWS, "meta")}
    with env.begin() as txn:
        views = {table: [*txn.cursor(tables[table])] for table in VIEWS}
        meta = dict(txn.cursor(tables["meta"]))
    env.close()
    return views, meta


def test_what_is_waited_for_leaves_the_trailing_views_behind_and_some_hundred_records_later_they_come(log):
    before, _ = held(log)
    for _ in range(BEHIND // 3):
        log.append([whole(new_id())], epoch=1).wait()
    views, upto = held(log)
    assert upto == 0
    assert {table: views[table] for table in TRAILING} == {table: before[table] for table in TRAILING}
    assert len(views["head"]) == BEHIND // 3

    log.append([whole(new_id())], epoch=1).wait()
    views, upto = held(log)
    assert upto == log.position() > BEHIND
    assert len(views["idx"]) == upto
    assert len(views["by_state"]) == len(views["by_name"]) == len(views["head"])


def test_views_come_with_a_batch_that_ends_by_letting_go_of_a_tree(log, caplog):
    runs = [new_id() for _ in range(BEHIND // 3 + 1)]
    for run in runs:
        last = log.append([whole(run)], epoch=1, hold=60)
    log.release(runs[-1], 1)
    last.wait()

    assert caplog.messages == []
    assert held(log)[1] == log.position() > BEHIND


MOVES = [Running(), Retrying("again"), Completed(data=FIVE), Failed("no")]
RUNS = [bytes([number]) * 16 for number in range(6)]


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_whoever_reads_sees_views_that_are_complete(data, tmp_path_factory):
    """17, 23. Before and after others have written, as a log that leaves nothing behind, and so does the file in the end."""
    some_histories(data, tmp_path_factory.mktemp("store") / "runs")


@pytest.mark.long
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_whoever_reads_sees_views_that_are_complete_in_many_histories(data, tmp_path_factory):
    """17, 23. The same, longer."""
    some_histories(data, tmp_path_factory.mktemp("store") / "runs")


def some_histories(data, folder):
    log, model = LmdbLog(folder), MemoryLog()
    versions: dict[bytes, int] = {}
    behind = data.draw(st.integers(0, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "BEHIND", behind)
        for _ in range(data.draw(st.integers(1, 25))):
            run = data.draw(st.sampled_from(RUNS))
            root = RUNS[0] if run != RUNS[0] and RUNS[0] in versions else None
            if run in versions:
                root = model.head(run).root
                chosen = part(run, root, versions[run], data.draw(st.sampled_from(MOVES)))
            else:
                tags = data.draw(st.lists(st.sampled_from(["red", "blue"]), max_size=2))
                chosen = part(run, root, 0, born(run, root, name=data.draw(st.sampled_from(["a", "b"])), tags=tags))
            versions[run] = versions.get(run, 0) + 1
            for one in (log, model):
                one.append([chosen], epoch=1).wait()
            match data.draw(st.integers(0, 5)):
                case 0:
                    log.rebuild()
                case 1:
                    # As another process that has written in between: what is left behind is not known any more.
                    log._store.writer._behind = (None, 0, None)
            if data.draw(st.booleans()):
                assert everything(log, RUNS) == everything(model, RUNS)
                assert [*log.find(name="a")] == [*model.find(name="a")]
                assert [*log.find(tag="red")] == [*model.find(tag="red")]
                assert log.compare() == []
    log.close()
    views, meta = on_disk(folder)
    assert number(meta[b"settled"][:8]) == model.position()
    assert views == {table: [*model._tables.scan(table, b"", b"")] for table in VIEWS}


def test_a_row_that_is_settled_and_follows_again_goes_when_its_run_moves_on(log):
    """17. What the log says again of a run stands in the table already."""
    run = new_id()
    log.append([part(run, None, 0, born(run), Running())], epoch=1).wait()
    log.rebuild()
    log.append([part(run, None, 2, Running())], epoch=1).wait()
    log._store.writer._behind = (None, 0, None)
    log.append([part(run, None, 3, *[Running()] * BEHIND)], epoch=1).wait()
    log.append([part(run, None, 3 + BEHIND, Running())], epoch=1).wait()
    log._store.writer._behind = (None, 0, None)
    log.append([part(run, None, 4 + BEHIND, *[Running()] * BEHIND, Completed(data=FIVE))], epoch=1).wait()
    _, upto = held(log)
    assert upto == log.position()
    assert [*log.find(state=Running.code)] == []
    assert log.compare() == []


def test_what_a_killed_process_left_behind_is_read_and_settled_by_the_next(tmp_path, program):
    """47. The views of the next process are whole, and so are its tables."""
    one = program(
        """
        from pluperfect.states import Running
        log = LmdbLog(path)
        runs = [new_id() for _ in range(5)]
        for run in runs:
            log.append([part(run, None, 0, born(run, name="left", tags=["x"]), Running())], epoch=1).wait()
        print(" ".join(run.hex() for run in runs))
        time.sleep(60)
        """,
        tmp_path / "runs",
    )
    runs = [bytes.fromhex(run) for run in one.line().split()]
    one.kill()
    views, meta = on_disk(tmp_path / "runs")
    assert number(meta[b"settled"][:8]) == 0
    assert not views["by_state"]

    log = LmdbLog(tmp_path / "runs")
    assert [*log.find(state=Running.code)] == [*log.find(name="left")] == [*log.find(tag="x")] == runs[::-1]
    assert log.compare() == []
    log.append([part(runs[2], None, 2, Completed(data=FIVE))], epoch=1).wait()
    assert [*log.find(state=Running.code)] == [run for run in runs[::-1] if run != runs[2]]
    log.close()
    views, meta = on_disk(tmp_path / "runs")
    assert number(meta[b"settled"][:8]) == 11
    assert len(views["by_state"]) == 5
    assert len(views["idx"]) == 11
    LmdbLog(tmp_path / "runs").close()


def test_processes_that_take_turns_settle_what_each_other_left(tmp_path, program):
    """45. Neither knows what the other has left behind, and reads it from the log."""
    text = """
        log = LmdbLog(path)
        for _ in range(150):
            log.append([whole(new_id())], epoch=1).wait()
        print(len([*log.find()]) >= 150, "done")
        sys.stdin.readline()
        os._exit(0)
        """
    both = [program(text, tmp_path / "runs") for _ in range(2)]
    assert [one.line() for one in both] == ["True done"] * 2
    log = LmdbLog(tmp_path / "runs")
    assert len([*log.find(state=Completed.code)]) == 300
    assert log.compare() == []
    _, upto = held(log)
    assert 900 - BEHIND <= upto <= 900
    for one in both:
        one.say()
        one.end()
    log.close()


def test_a_conflict_names_what_was_recorded_since_although_the_index_trails(log):
    run = new_id()
    log.append([part(run, None, 0, born(run), Running())], epoch=1).wait()
    log.append([part(run, None, 2, Retrying("again"))], epoch=1).wait()
    with pytest.raises(Conflict, match="Recorded since: 2 Running, 3 Retrying"):
        log.append([part(run, None, 1, Running())], epoch=1).wait()
    log._store.writer._behind = (None, 0, None)
    with pytest.raises(Conflict, match="Recorded since: 2 Running, 3 Retrying"):
        log.append([part(run, None, 1, Running())], epoch=1).wait()


def test_a_row_that_is_lost_already_keeps_nobody_from_settling(log):
    """23. `compare` names what is lost; what is appended later is not refused for it, and a rebuild mends it."""
    run, other = new_id(), new_id()
    log.append([part(run, None, 0, born(run), Running()), whole(other)], epoch=1).wait()
    log.rebuild()
    log.append([part(run, None, 2, Completed(data=FIVE))], epoch=1).wait()
    env = log._store.environment()
    with env._env.begin(write=True) as txn:
        txn.drop(env._tables["by_state"], delete=False)
        txn.put(b"txn", u64(txn.id()), db=env._tables["meta"])
    assert any("by_state" in line for line in log.compare())
    for _ in range(BEHIND // 3 + 1):
        log.append([whole(new_id())], epoch=1).wait()
    _, upto = held(log)
    assert upto > BEHIND
    log.rebuild()
    assert log.compare() == []


@pytest.mark.parametrize(
    "value", [u64(3) + bytes(32), u64(4) + bytes(32), u64(2**63), b"", b"short", u64(0) + bytes(1)]
)
def test_a_mark_that_names_no_record_is_found_and_a_rebuild_mends_it(log, value):
    """23. Whatever it says, nothing is refused for it."""
    log.append([whole(new_id())], epoch=1).wait()
    log.rebuild()
    env = log._store.environment()
    with env._env.begin(write=True) as txn:
        txn.put(b"settled", value, db=env._tables["meta"])
        txn.put(b"txn", u64(txn.id()), db=env._tables["meta"])
    assert log.compare() == ["views: what the store says of how far they are complete names no record of the log"]
    assert [finding.what for finding in log.verify().findings] == [f"a view differs from the log: {log.compare()[0]}."]
    log.append([whole(new_id())], epoch=1).wait()
    log.rebuild()
    assert log.compare() == []
    assert not log.verify().findings


def test_a_store_of_the_first_format_is_one_of_this_as_soon_as_it_is_written_to(tmp_path):
    """29. Reading leaves it as it is."""
    folder = tmp_path / "golden"
    shutil.copytree(GOLDEN / "format-1", folder)
    before = (folder / "data.mdb").read_bytes()
    log = LmdbLog(folder)
    runs = [*log.find()]
    assert log.compare() == []
    log.close()
    assert (folder / "data.mdb").read_bytes() == before

    log = LmdbLog(folder)
    position = log.position()
    log.append([whole(new_id())], epoch=1).wait()
    _, upto = held(log)
    assert upto == position
    assert len([*log.find()]) == len(runs) + 1
    assert log.compare() == []
    log.close()
    _, meta = on_disk(folder)
    assert msgspec.msgpack.decode(meta[b"format"]) == FORMAT
    assert number(meta[b"settled"][:8]) == position + 3


def test_what_one_snapshot_has_read_the_next_goes_on_with_and_an_older_one_does_not_see(log):
    env = log._store.environment()
    runs = [new_id() for _ in range(3)]
    log.append([whole(runs[0])], epoch=1).wait()
    assert [*log.find()] == runs[:1]
    first = env.lacks
    assert [*log.find()] == runs[:1]
    assert env.lacks is first
    with log._rows() as older:
        log.append([whole(runs[1])], epoch=1).wait()
        assert [*log.find()] == runs[1::-1]
        assert (env.lacks.upto, env.lacks.end) == (0, 6)
        assert first.end == 3
        assert len(first.tables["idx"]) == 3
        assert [run for _, run in older.scan("by_name", b"", b"")] == runs[:1]
    log.append([whole(runs[2])], epoch=1).wait()
    assert [*log.find()] == runs[::-1]
    log.rebuild()
    assert [*log.find()] == runs[::-1]
    assert env.lacks is None


@pytest.mark.parametrize(("seq", "follows"), [(4, True), (4, False), (2, False), (1, False)])
def test_a_row_behind_the_end_that_the_head_of_its_run_does_not_know_leads_no_view_to_it(log, seq, follows):
    """23. Nobody appended it: it is the one to blame, and what stood in its place before still does."""
    run = new_id()
    log.append([whole(run)], epoch=1).wait()
    before = everything(log, [run])["lists"]
    env = log._store.environment()
    prev = leaf(log.feed()[-1][1]) if follows else GENESIS
    forged = encode(run, Transition(seq, AT + seq, Running()), prev)
    with env._env.begin(write=True) as txn:
        txn.put(u64(4), forged, db=env._tables["log"])
        txn.put(b"txn", u64(txn.id()), db=env._tables["meta"])

    assert everything(log, [run])["lists"] == before
    assert [open_record(data).seq for data in log.records(run)] == [1, 2, 3]
    found = log.verify().findings
    assert found[0].position == 4


def test_a_store_of_the_first_format_whose_map_is_full_grows_as_it_becomes_one_of_this(tmp_path, monkeypatch):
    """38. A transaction that finds no room for that is given up before the map grows, as any other."""
    folder, lift, lifted = tmp_path / "golden", Transaction.lift, []

    def lift_later(txn):
        lifted.append(txn)
        if len(lifted) == 1:
            raise MapFull
        lift(txn)

    shutil.copytree(GOLDEN / "format-1", folder)
    monkeypatch.setattr(Transaction, "lift", lift_later)
    log = LmdbLog(folder)
    run = new_id()
    log.append([whole(run)], epoch=1).wait(30)
    assert log.head(run).seq == 3
    assert len(lifted) > 1
    assert log.compare() == []
    log.close()

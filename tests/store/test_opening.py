"""What is opened, what is refused, and that a refusal leaves everything as it was."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import lmdb
import msgspec
import pytest

from interrupting import in_time, interrupted
from pluperfect.errors import NotAStore, StoreDamaged, StoreError, UnknownStore
from pluperfect_store import opening
from pluperfect_store.conformance import new_id, whole
from pluperfect_store.environment import Environment
from pluperfect_store.layout import FORMAT, u64
from pluperfect_store.lmdb import LmdbLog, open_log


@pytest.fixture
def store(tmp_path):
    """A store with some content, closed."""
    log = LmdbLog(tmp_path / "runs")
    for _ in range(50):
        log.append([whole(new_id())], epoch=1)
    log.close()
    return tmp_path / "runs"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(folder, kind, match):
    before = contents(folder)
    with pytest.raises(kind, match=match) as caught:
        LmdbLog(folder)
    assert str(folder) in str(caught.value)
    assert contents(folder) == before


def meta(data, page, offset, layout, value):
    changed = bytearray(data)
    struct.pack_into(layout, changed, page * 4096 + offset, value)
    return bytes(changed)


def test_a_folder_is_made_with_its_parents(tmp_path):
    """26. A store is made where there is none, its folder included; nothing else is left in it."""
    LmdbLog(tmp_path / "a" / "b" / "runs").close()

    assert sorted(path.name for path in (tmp_path / "a" / "b" / "runs").iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "store.lock",
    ]


def test_an_address_names_its_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    log = open_log("lmdb:~/runs")

    assert log.uri == f"lmdb:{tmp_path / 'runs'}"
    log.close()
    with pytest.raises(UnknownStore):
        open_log("lmdb:")
    assert open_log("postgresql:x") is None


def test_a_file_is_not_a_store(tmp_path):
    """27. What is no store is refused, by name, and left as it was."""
    path = tmp_path / "runs"
    path.write_text("my diary")

    with pytest.raises(NotAStore, match="is a file, not a store"):
        LmdbLog(path)
    assert path.read_text() == "my diary"


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "is empty"), (b"x", "no LMDB file"), (b"my diary\n" * 2000, "no LMDB file"), (bytes(8192), "no LMDB file")],
    ids=["empty", "one byte", "text", "zeros"],
)
def test_a_foreign_file_is_not_a_store(tmp_path, content, match):
    """27. What is no store is refused, by name, and left as it was."""
    (tmp_path / "data.mdb").write_bytes(content)

    refused(tmp_path, NotAStore, match)


def test_an_environment_of_another_program_is_not_a_store(tmp_path):
    """27. What is no store is refused, by name, and left as it was."""
    env = lmdb.open(str(tmp_path), max_dbs=2)
    with env.begin(write=True) as txn:
        txn.put(b"their", b"data", db=env.open_db(b"meta", txn=txn))
    env.close()

    refused(tmp_path, NotAStore, "another program")


def test_a_file_of_the_other_engine_is_not_a_store(tmp_path, store):
    """27. What is no store is refused, by name, and left as it was."""
    data = (store / "data.mdb").read_bytes()
    (store / "data.mdb").write_bytes(meta(meta(data, 0, 24, "=I", 0xBEEFC0DE), 0, 28, "=I", 3))

    refused(store, NotAStore, "LMDB 1.0")


@pytest.mark.parametrize("size", [5000, 8192, 0.5, -1])
def test_a_truncated_file_is_damaged(store, size):
    """28. A file that is shorter than it says, or whose meta pages are overwritten, is refused and left as it was."""
    whole_size = (store / "data.mdb").stat().st_size
    os.truncate(store / "data.mdb", size if size >= 1 else int(whole_size * size) if size > 0 else whole_size - 1)

    refused(store, StoreDamaged, "bytes")


def test_a_store_that_grows_while_it_is_looked_at_is_not_called_short(store, monkeypatch):
    """28. What is short is told from what others extend at this moment, however their commits fall between the looks."""
    log, ask = LmdbLog(store), os.fstat

    def ask_and_grow(descriptor):
        answer = ask(descriptor)
        for _ in range(2):  # one for each meta page
            log.append([whole(new_id(), tags=[f"{n:0150}" for n in range(200)])], epoch=1).wait()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(opening.os, "fstat", ask_and_grow)
        opening.examine(store)
    assert log.position() > 150
    log.close()


@pytest.mark.parametrize("page", [0, 1])
def test_an_overwritten_meta_page_is_found(store, page):
    """28. A file that is shorter than it says, or whose meta pages are overwritten, is refused and left as it was."""
    data = (store / "data.mdb").read_bytes()
    (store / "data.mdb").write_bytes(meta(data, page, 16, "=I", 0))

    refused(store, StoreError, "no LMDB file" if page == 0 else "meta page 1 is overwritten")


def test_a_newer_format_is_refused(store):
    """29. A store that needs a newer release is refused with its format; an older form of the same is not."""
    env = lmdb.open(str(store), max_dbs=32)
    with env.begin(write=True) as txn:
        form = {**FORMAT, "version": 7, "min_reader": 6}
        txn.put(b"format", msgspec.msgpack.encode(form), db=env.open_db(b"meta", txn=txn))
    env.close()

    with pytest.raises(StoreError, match="has format 7, which needs a release that knows format 6"):
        LmdbLog(store)


@pytest.mark.parametrize("at", range(len(msgspec.msgpack.encode(FORMAT))))
def test_a_format_with_any_byte_changed_is_opened_or_refused_and_is_no_accident(store, at):
    """28. A file that is shorter than it says, or whose meta pages are overwritten, is refused and left as it was."""
    env = lmdb.open(str(store), max_dbs=32)
    with env.begin(write=True) as txn:
        form = bytearray(msgspec.msgpack.encode(FORMAT))
        form[at] ^= 0x89
        txn.put(b"format", bytes(form), db=env.open_db(b"meta", txn=txn))
    env.close()

    with suppress(StoreError):
        LmdbLog(store).close()


def test_a_newer_format_that_old_releases_may_use_is_opened(store):
    """29. A store that needs a newer release is refused with its format; an older form of the same is not."""
    env = lmdb.open(str(store), max_dbs=32)
    with env.begin(write=True) as txn:
        txn.put(
            b"format", msgspec.msgpack.encode({**FORMAT, "version": 7, "more": 1}), db=env.open_db(b"meta", txn=txn)
        )
    env.close()
    log = LmdbLog(store)

    assert log.position() == 150
    log.close()


@pytest.mark.parametrize("table", ["idx", "head"])
def test_a_tail_whose_views_disagree_is_found_and_can_be_rebuilt(store, table):
    """30. At opening, the last record, its index row and its head must agree; a rebuild mends them."""
    env = lmdb.open(str(store), max_dbs=32)
    with env.begin(write=True) as txn:
        txn.drop(env.open_db(table.encode(), txn=txn), delete=False)
    env.close()

    refused(store, StoreDamaged, "contradicts itself")
    log = LmdbLog(store, check=False)
    assert len(log.compare()) in (150, 50)
    assert log.rebuild() == 150
    assert log.compare() == []
    log.close()
    LmdbLog(store).close()


def test_a_last_head_that_is_none_is_found(store):
    """30. A head that cannot be read contradicts its record as one that says something else does."""
    env = lmdb.open(str(store), max_dbs=32)
    with env.begin(write=True) as txn:
        for run, _ in list(txn.cursor(env.open_db(b"head", txn=txn))):
            txn.put(run, b"\x93\x01\x02\x03", db=env.open_db(b"head", txn=txn))
    env.close()

    refused(store, StoreDamaged, "contradicts itself")
    log = LmdbLog(store, check=False)
    assert log.rebuild() == 150
    log.close()


@pytest.mark.parametrize("row", [b"format", b"tree", b"store_id", b"txn"])
def test_whatever_byte_changes_in_what_a_store_says_of_itself_it_is_refused_or_named(store, row):
    """30. Opened, compared and verified, it raises errors of this library, or says what is wrong; the id alone binds nothing."""
    sound = _meta(store, row)
    for at in range(len(sound)):
        change = (0x01, 0xFF)[at % 2]
        _meta(store, row, sound[:at] + bytes([sound[at] ^ change]) + sound[at + 1 :])
        said = _said(store)
        assert said or row == b"store_id", (at, change)
        assert not any("already open" in line for line in said)


def _meta(store, row, value=None):
    """What a row of `meta` holds; or put another value there, as the last transaction."""
    env = lmdb.open(str(store), max_dbs=32, sync=False)
    table = env.open_db(b"meta")
    with env.begin(write=True) as txn:
        held = txn.get(row, db=table)
        if value is not None:
            txn.put(b"txn", u64(txn.id()), db=table)
            txn.put(row, value, db=table)
    env.close()
    return held


def _said(store):
    """All that is said against a store, opened with and without a look at its end."""
    said = []
    for uri in (f"lmdb:{store}", f"lmdb+unchecked:{store}"):
        try:
            log = open_log(uri)
        except StoreError as error:
            said.append(str(error))
            continue
        try:
            said += [*log.compare(), *map(str, log.verify().findings)]
        except StoreError as error:
            said.append(str(error))
        finally:
            log.close()
    return said


def test_a_damaged_log_is_not_rebuilt_from(store):
    """30. A log with a hole is no ground for views: compare() names it, rebuild() refuses and changes nothing."""
    log = LmdbLog(store)
    env = log._store.environment()._env
    with env.begin(write=True) as txn:
        table = env.open_db(b"log", txn=txn)
        txn.delete((70).to_bytes(8, "big"), db=table)
        txn.put((90).to_bytes(8, "big"), b"nonsense", db=table)

    named = [line for line in log.compare() if line.startswith("log:")]
    assert named[0] == "log: after position 69 comes 71"
    assert any("position 90" in line for line in named)
    with pytest.raises(StoreDamaged, match="cannot be rebuilt"):
        log.rebuild()
    assert log.head(new_id()) is None
    log.close()


def test_what_lmdb_finds_broken_while_reading_is_damage(store):
    """27. What LMDB says of a broken page reaches the reader as damage to this store, by name."""
    log = LmdbLog(store)
    with pytest.raises(StoreDamaged, match=f"LMDB cannot read the store {store}"):
        with log._rows():
            raise lmdb.CorruptedError("a page is of the wrong type")
    assert log.position() == 150
    log.close()


def test_processes_that_open_a_new_store_at_once_share_it(tmp_path, program):
    """26. However many processes make a store at the same moment, one is made, and all have it."""
    text = """
        print("ready"); sys.stdin.readline()
        log = LmdbLog(path)
        log.append([whole(new_id())], epoch=1).wait()
        sys.stdin.readline()
        log.close()
    """
    several = [program(text, tmp_path / "runs") for _ in range(6)]
    for one in several:
        assert one.line() == "ready"
    for one in several:
        one.say()
    log = LmdbLog(tmp_path / "runs")
    assert log.await_position(17, 30)
    log.close()
    for one in several:
        one.say()
        one.end()


def test_a_folder_locked_for_maintenance_says_so(store, monkeypatch):
    """26. Whoever holds the lock alone keeps everybody out; they are told after some seconds."""
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr("pluperfect_store.opening._PATIENCE", 0.05)
    with (store / "store.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(store, StoreError, "locked for maintenance")


def test_a_half_made_store_is_made_anew(tmp_path):
    """26. A store whose making was interrupted leaves no half of one: the next opening makes it."""
    (tmp_path / ".new-0123").mkdir()
    (tmp_path / ".new-0123" / "data.mdb").write_bytes(b"")
    (tmp_path / "store.lock").touch()
    log = LmdbLog(tmp_path)

    assert log.position() == 0
    assert not (tmp_path / ".new-0123").exists()
    log.close()


def test_a_copied_file_without_its_locks_is_opened(store, tmp_path):
    """26. data.mdb is the store: a copy of it alone can be opened."""
    (tmp_path / "copy").mkdir()
    shutil.copy(store / "data.mdb", tmp_path / "copy")
    log = LmdbLog(tmp_path / "copy")

    assert log.position() == 150
    assert log.compare() == []
    log.close()


def test_two_openings_in_one_process_share_the_store(tmp_path):
    """31. Logs that one process opens on one folder, by whatever path, are one store; the last close closes it."""
    first = LmdbLog(tmp_path / "runs")
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    second = LmdbLog(tmp_path / "link")
    first.append([whole(new_id())], epoch=1, hold=30.0)
    second.flush()
    assert second.position() == 3
    first.append([whole(new_id())], epoch=1, hold=30.0)
    first.close()

    assert second.position() == 6
    second.append([whole(new_id())], epoch=1).wait()
    second.close()


@pytest.fixture
def open_path():
    """A folder that other users can reach: pytest closes its own ones to them, again with each run."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("what", ["new", "folder", "file"])
def test_a_folder_that_cannot_be_written_says_so(open_path, program, what):
    """27. What may not be written is refused as such, and left as it was."""
    place = open_path / "place"
    if what == "new":
        place.mkdir()
    else:
        LmdbLog(place).close()
        place.chmod(0o755 if what == "folder" else 0o777)
        for file in place.iterdir():
            file.chmod(0o666 if what == "folder" or file.name != "data.mdb" else 0o644)
    before = contents(place)
    text = """
        os.setuid(65534)
        try:
            LmdbLog(path)
        except StoreUnwritable as error:
            print(error)
    """
    said = " ".join(program(text, place).end())

    assert "cannot be written by this user" in said
    assert contents(place) == before


def test_opening_starts_no_thread_and_imports_lmdb_only_then(tmp_path, program):
    text = """
        import pluperfect, pluperfect_store.lmdb, pluperfect_store.memory
        pluperfect.open("memory:", entry_points=False).close()
        print("lmdb" in sys.modules)
        log = LmdbLog(path)
        print("lmdb" in sys.modules, threading.active_count())
    """
    assert program(text, tmp_path / "runs").end() == ["False", "True", "1"]


def test_a_process_with_little_address_space_takes_a_smaller_map(tmp_path, program):
    """32. Where 64 GiB cannot be mapped, 4 or 1 GiB are."""
    text = """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        log = LmdbLog(path)
        log.append([whole(new_id())], epoch=1).wait()
        print(log.position(), log._store.environment()._env.info()["map_size"] >> 30)
        log.close()
    """
    assert program(text, tmp_path / "runs").end() == ["3", "1"]


def test_opening_leaves_an_environment_that_syncs(tmp_path):
    """33. Every commit is synced, data and meta page, at every durability level."""
    env = Environment(tmp_path / "runs")
    flags = env._env.flags()
    env.close()

    assert {name: flags[name] for name in ("sync", "metasync", "writemap", "map_async", "lock")} == {
        "sync": True,
        "metasync": True,
        "writemap": False,
        "map_async": False,
        "lock": True,
    }


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_behind_a_closed_door_says_so(open_path, program):
    """27. A store that this user may not even look for is unwritable, not an accident."""
    place = open_path / "closed" / "place"
    place.mkdir(parents=True)
    place.parent.chmod(0o700)
    text = """
        os.setuid(65534)
        try:
            LmdbLog(path)
        except StoreUnwritable as error:
            print(error)
    """

    assert "by this user" in " ".join(program(text, place).end())


def test_older_pages_in_the_place_of_newer_ones_are_found(tmp_path):
    """23. What LMDB itself cannot see: the root page of the transaction before, in the place of the last one's."""
    log = LmdbLog(tmp_path / "runs")
    for _ in range(3):
        log.append([whole(new_id())], epoch=1).wait()
    page = log._store.environment()._env.stat()["psize"]
    log.close()
    data = tmp_path / "runs" / "data.mdb"
    raw = bytearray(data.read_bytes())
    metas = sorted((struct.unpack_from("=Q", raw, start + 144)[0], start) for start in (0, page))
    roots = [struct.unpack_from("=Q", raw, start + 128)[0] for _, start in metas]
    older, newer = (slice(root * page, (root + 1) * page) for root in roots)
    raw[newer] = raw[older]
    raw[newer][:8] = struct.pack("=Q", roots[1])
    raw[newer.start : newer.start + 8] = struct.pack("=Q", roots[1])
    data.write_bytes(raw)

    log = LmdbLog(tmp_path / "runs")
    assert len(log.compare()) == 1
    assert log.compare()[0].startswith("file: the file counts ")
    log.close()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("far", [2**24, 2**40, 2**62, 2**64 - 2])
def test_a_file_that_claims_to_end_very_far_away_is_refused_at_once(store, far):
    """28. A file that is shorter than it says, or whose meta pages are overwritten, is refused and left as it was."""
    data = (store / "data.mdb").read_bytes()
    for page in (0, 1):
        data = meta(data, page, 136, "=Q", far)
    (store / "data.mdb").write_bytes(data)

    with pytest.raises(StoreError):
        LmdbLog(store)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may ring where nobody can be told
def test_a_store_whose_closing_was_interrupted_anywhere_can_be_closed_and_opened_again(tmp_path):
    """Also by this very process, and while somebody keeps the exception."""
    kept = []
    for nth in range(1, 1_000):
        log = LmdbLog(tmp_path / "runs")
        log.append([whole(new_id())], epoch=1)
        error, rung = interrupted(log.close, nth)
        kept.append(error)

        def again(log=log):
            log.close()
            other = LmdbLog(tmp_path / "runs")
            other.append([whole(new_id())], epoch=1).wait()
            other.close()

        in_time(again, f"after an interruption in {error}")
        if not rung:
            break
    assert nth > 100
    assert {type(error) for error in kept} <= {KeyboardInterrupt, type(None)}
    log = LmdbLog(tmp_path / "runs")
    assert log.position() == 6 * nth
    assert log.verify().sound
    log.close()

"""What other releases have written, and will write: read for ever, lifted when read, never touched."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import lmdb
import msgspec
import pytest
from msgspec import Struct

import pluperfect
from care.trees import grown, notes, sound, told
from pluperfect import records
from pluperfect.errors import StoreError, StoreUnwritable
from pluperfect.hooks import PruneRule
from pluperfect.records import GENESIS, Layouts, encode, open_row
from pluperfect.states import StateUnion
from pluperfect_store.conformance import AT, new_id
from pluperfect_store.layout import FORMAT, u64
from pluperfect_store.lmdb import LmdbLog

GOLDEN = Path(__file__).parents[1] / "golden"


def history(folder):
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.history(folder)


def test_golden_stores_name_no_folder_of_the_machine_that_made_them():
    for file in GOLDEN.glob("format-*/*"):
        assert not re.search(rb"/(tmp|root|home|work|opt|usr)/", file.read_bytes()), file


def test_this_format_has_a_golden_store():
    assert (GOLDEN / f"format-{FORMAT['version']}").is_dir()


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("format-*")), ids=lambda folder: folder.name)
def test_a_golden_store_is_read_proved_and_gone_on_with(folder, tmp_path):
    """67. What any release has written reads as it did then, byte for byte and word for word."""
    copy = tmp_path / "golden"
    shutil.copytree(folder, copy)
    assert history(copy) == (folder / "history.txt").read_text()
    log = LmdbLog(copy)
    before = log.feed(0, 10**6)
    sound(log)
    grown(log)
    log.rebuild()
    sound(log)

    assert log.feed(0, len(before)) == before
    assert notes(log, "store/pruned")[0]["rule"]["name"] == "old"
    assert log.prune(PruneRule(2 * AT), AT, dry_run=True).keyed == 1
    log.close()


# --- formats


def declare(folder, **form):
    env = lmdb.open(str(folder), max_dbs=32)
    with env.begin(write=True) as txn:
        meta = env.open_db(b"meta", txn=txn)
        txn.put(b"format", msgspec.msgpack.encode({**FORMAT, **form}), db=meta)
        txn.put(b"txn", u64(txn.id()), db=meta)
    env.close()


@pytest.fixture
def newer(store):
    """A store that a later release has made, which this one may read."""
    runs = grown(store, value=b"x" * 3_000)
    store.close()
    declare(store.path, version=7, min_writer=6)
    return store.path, runs


def test_a_store_that_a_newer_release_alone_may_write_is_opened_for_reading(newer):
    """68. Reading works; whatever would write says which format is needed, and leaves no trace."""
    folder, runs = newer
    before = (folder / "data.mdb").read_bytes()
    log = LmdbLog(folder)
    sound(log)
    log.flush()
    assert [*log.find()] == runs[::-1]
    run = new_id()
    for write in (
        lambda: log.append([told(run)], epoch=1),
        lambda: log.append([told(run, value=b"y" * 2_000_000)], epoch=1),
        lambda: log.claim(run, AT),
        lambda: log.release(run, 1),
        log.rebuild,
        log.compact,
        lambda: log.prune(PruneRule(AT + 1), AT + 2),
    ):
        with pytest.raises(StoreUnwritable, match="writing needs one that knows format 6. Install a newer pluperfect"):
            write()
    assert log.prune(PruneRule(AT + 1), AT + 2, dry_run=True).trees == 1
    assert any("format 6" in finding for finding in log.health().findings)
    log.close()
    assert (folder / "data.mdb").read_bytes() == before
    assert not (folder / "blobs").exists()


def test_flows_say_so_too(newer):
    """68. A flow is refused there before its function is called, and what is recorded can be read."""
    folder, _ = newer
    called = []

    @pluperfect.flow
    def hello():
        called.append(1)

    with pluperfect.open(folder) as opened:
        with pytest.raises(StoreUnwritable, match="format 6"):
            hello()
        assert [run.state.kind for run in opened.runs()] == ["Completed", "Completed"]
    assert called == []


def test_a_store_that_a_newer_release_alone_may_read_is_refused(store):
    """68. Reading what this release does not know would be guessing."""
    store.close()
    declare(store.path, version=7, min_reader=5, min_writer=6)

    with pytest.raises(StoreError, match="needs a release that knows format 5"):
        LmdbLog(store.path)


# --- layouts


class Old(Struct, frozen=True, array_like=True):
    to: StateUnion
    reason: str = ""


class New(Struct, frozen=True, array_like=True):
    to: StateUnion
    asked: StateUnion | None = None
    by: str = ""
    why: str = ""
    facts: None = None


def layouts():
    made = Layouts()
    made.add("transition", 1, Old, lambda old: New(old.to, why=old.reason or "no reason was kept"))
    made.add("transition", 2, New)
    return made


def test_an_old_body_is_lifted_when_it_is_read_and_its_bytes_stay():
    """69. Version 1 is read through its lift; the stored bytes, and so the leaf, are those of version 1."""
    run = new_id()
    entry = told(run).entries[2]
    data = encode(run, entry, GENESIS)
    raw = msgspec.msgpack.decode(open_row(data).raw)
    raw[7] = [raw[7][0], "mended"]
    stored = msgspec.msgpack.encode([msgspec.msgpack.encode(raw), open_row(data).values])
    row = open_row(stored)
    lifted = row.entry(layouts=layouts())

    assert (lifted.to, lifted.why) == (entry.to, "mended")
    assert (row.record.version, row.leaf) == (1, records.leaf(stored))
    raw[5], raw[7] = 2, [raw[7][0], None, "a rule", "a reason"]
    newer = msgspec.msgpack.encode([msgspec.msgpack.encode(raw), open_row(data).values])
    assert open_row(newer).entry(layouts=layouts()).by == "a rule"
    assert open_row(newer).entry() is None  # this release knows version 1 alone
    raw[5] = 3
    unknown = msgspec.msgpack.encode([msgspec.msgpack.encode(raw), []])
    assert open_row(unknown).entry(layouts=layouts()) is None


def test_versions_lead_from_one_to_the_next():
    """69. A version that nothing leads to, or that is there already, is refused when it is added."""
    made = layouts()
    with pytest.raises(ValueError, match="version 2 of 'transition' is there already"):
        made.add("transition", 2, New)
    with pytest.raises(ValueError, match="version 2 does not lead to it"):
        made.add("transition", 3, New)
    with pytest.raises(ValueError, match="version 1 does not lead to it"):
        made.add("acme/remark", 2, New)

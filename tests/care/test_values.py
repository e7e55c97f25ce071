"""Large values: there before the record that names them, kept once, and gone after the last record that names them."""

from __future__ import annotations

import os
import time

import pytest

from care.trees import grown, sound
from pluperfect.hooks import PruneRule
from pluperfect_store import pruning
from pluperfect_store.conformance import AT
from pluperfect_store.lmdb import LmdbLog

SIZES = [3_000, 2_000_000]

DIES = """
    from care.trees import told
    from pluperfect_store import writer
    log = LmdbLog(path)
    def die(*given):
        os.kill(os.getpid(), 9)
    if sys.argv[3] == "before": writer.Writer.append = die
    ticket = log.append([told(new_id(), value=b"x" * int(sys.argv[2]))], epoch=1)
    ticket.wait()
    print("acknowledged")
    die()
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_value_is_durable_before_the_record_that_names_it(tmp_path, program, monkeypatch, size, when):
    """71. A kill between the two leaves a value without a record, never a record without its value."""
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(__file__)))
    one = program(DIES, tmp_path / "runs", size, when)
    out, _ = one.process.communicate(timeout=60)
    log = LmdbLog(tmp_path / "runs")

    assert log.position() == (0 if when == "before" else 3)
    assert ("acknowledged" in out) == (when == "after")
    assert len([*log._store.files.all()]) == (size > 1 << 20)
    sound(log)
    log.close()


def kept(log):
    with log._rows() as rows:
        return len([*rows.keys("blob")]) + len([*log._store.files.all()])


@pytest.mark.parametrize("size", SIZES)
def test_a_value_is_kept_once_and_until_no_record_names_it(store, size, monkeypatch):
    """71. However many records name it; the last of them takes it along, the ones before do not."""
    for days in (1, 2, 3):
        grown(store, at=AT + days, value=b"x" * size)
    assert kept(store) == 1
    if size > 1 << 20:
        (_, path), *_ = store._store.files.all()
        os.utime(path, (1, 1))
    assert store.prune(PruneRule(AT + 2.5), AT + 9).values == 0
    assert kept(store) == 1
    sound(store)
    done = store.prune(PruneRule(AT + 4), AT + 9)

    assert (done.values, done.value_bytes) == (1, size)
    assert kept(store) == 0


def test_a_file_that_was_just_touched_is_left(store):
    """71. Who names a value again touches its file first: such a file waits for its record."""
    grown(store, value=b"x" * 2_000_000)
    (_, path), *_ = store._store.files.all()
    os.utime(path, (1, 1))
    store._store.files.put(bytes.fromhex(path.name), b"x" * 2_000_000)  # somebody is about to name it
    assert store.prune(PruneRule(AT + 1), AT + 2).values == 0

    assert path.exists()
    os.utime(path, (time.time() - 7_200,) * 2)
    assert store.prune(PruneRule(AT + 1), AT + 2).values == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_value_that_is_named_again_while_it_is_swept_stays(store, size, monkeypatch):
    """71. What is recorded between the look and the sweep is asked for inside of the transaction."""
    monkeypatch.setattr(pruning, "_FRESH", -1.0)
    grown(store, value=b"x" * size)
    found = []

    holder, name = (LmdbLog, "_change") if size == 3_000 else (type(store._store.files), "alone")
    act = getattr(holder, name)

    def later(self, *given):
        if not found and len(store.feed()) == 1:  # it is pruned, and about to be swept
            found.append(grown(store, at=AT + 50, value=b"x" * size))
        return act(self, *given)

    monkeypatch.setattr(holder, name, later)
    assert store.prune(PruneRule(AT + 1), AT + 2).values == 0
    assert found
    sound(store)


def test_what_was_half_written_by_a_killed_process_is_swept(store):
    """71. Neither named nor whole: it goes when it is old."""
    grown(store, value=b"x" * 2_000_000)
    (_, path), *_ = store._store.files.all()
    half = path.with_name(".0123")
    half.touch()
    loose = store._store.files
    loose.put(b"\1" * 32, b"never named")
    for file in (half, loose.path(b"\1" * 32)):
        os.utime(file, (1, 1))
    done = store.prune(PruneRule(0), AT)

    assert (done.values, half.exists(), path.exists()) == (1, False, True)

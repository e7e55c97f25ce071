"""What must hold of a store that a crash, a fault or damage has left behind: one place for all harnesses."""

from __future__ import annotations

import checkers
from pluperfect.records import open_record
from pluperfect_store.conformance import new_id, whole
from pluperfect_store.layout import VIEWS
from pluperfect_store.lmdb import LmdbLog


def read(path):
    """All records of a store, in order."""
    log = LmdbLog(path)
    try:
        return [data for _, data in checkers.whole(log)]
    finally:
        log.close()


def content(log):
    """What a store says: all rows of the log and of its views."""
    with log._rows() as rows:
        return {table: list(rows.scan(table, b"", b"")) for table in ("log", *VIEWS)}


def findings(log):
    """
    What the library itself finds wrong with a store, a line each: the means to notice damage.

    Today these are the views against the fold, the chain of each run, and a look-up of every row by its key, since a
    tree whose inner nodes are damaged may be walked and not searched.
    """
    lines = log.compare()
    try:
        checkers.promise_8(log)
    except AssertionError as error:
        lines.append(f"chain: {error}")
    with log._rows() as rows:
        for table in ("log", *VIEWS):
            lines += [
                f"{table}: {key.hex()} is not found"
                for key, value in rows.scan(table, b"", b"")
                if rows.get(table, key) != value
            ]
    return lines


def nothing(log):
    """The findings of somebody who does not look: a control."""
    return []


def assert_sound(log):
    """Positions and versions without gaps, chains unbroken, views equal to the fold, every row found."""
    last = {}
    for number, (position, data) in enumerate(checkers.whole(log), 1):
        record = open_record(data)
        assert position == number, (position, number)
        assert record.seq == last.get(record.run, 0) + 1, (record.run.hex(), record.seq)
        last[record.run] = record.seq
    assert findings(log) == []
    return last


def assert_goes_on(log):
    """One more append is recorded, and the views still equal the fold."""
    run, before = new_id(), log.position()
    log.append([whole(run)], epoch=1).wait()
    assert log.position() == before + 3
    assert log.head(run).seq == 3
    assert log.compare() == []

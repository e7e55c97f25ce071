"""Random logs: trees of runs with random legal histories and values of every codec and size."""

from __future__ import annotations

import shutil

import lmdb
from msgspec import Raw, msgpack

from pluperfect.hooks import Part
from pluperfect.records import INLINE, Record, open_row
from pluperfect.states import (
    ABSENT,
    FOREIGN,
    PICKLE,
    PLAIN,
    TYPED,
    Cached,
    Completed,
    Error,
    Failed,
    Input,
    Looped,
    Packed,
    Pending,
    Retrying,
    Running,
    Spec,
    TimedOut,
)
from pluperfect.transitions import TABLE, Facts, Ruling, Transition
from pluperfect_store.layout import TABLES
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

AT = 1_800_000_000.0
NAMES = ["fetch", "parse", "store"]


def packed(rng):
    code = rng.choice([PLAIN, PLAIN, TYPED, PICKLE, ABSENT, FOREIGN])
    if code == ABSENT:
        return Packed(ABSENT, b"too large")
    if rng.random() < 0.3:
        return Packed(code, msgpack.encode(rng.randrange(4)))  # the same bytes in many records
    return Packed(code, rng.randbytes(rng.choice([1, 10, 300, INLINE, INLINE + 1, 5_000])))


def maybe(rng, make):
    return make(rng) if rng.random() < 0.6 else None


def error(rng):
    return Error("ValueError", rng.choice(["no", "never"]), "", maybe(rng, packed))


def state(rng, kind):
    if kind is Running:
        return Running(attempt=rng.randrange(1, 4))
    if kind is Completed:
        return Completed(data=maybe(rng, packed))
    if kind is Failed:
        return Failed(cause="error", error=maybe(rng, error), data=maybe(rng, packed))
    if kind is TimedOut:
        return TimedOut(limit=1.0, elapsed=1.5, error=maybe(rng, error))
    if kind is Retrying:
        return Retrying(cause="error", due=AT + rng.randrange(100), error=maybe(rng, error))
    if kind is Looped:
        return Looped(count=rng.randrange(1, 5), payload=maybe(rng, packed))
    return Cached(data=maybe(rng, packed), source=(rng.randbytes(16), 3), key=rng.choice(["k", "l"]))


def history(rng, run, root, parent):
    """The entries of one run, from its birth to some end, final or not."""
    inputs = tuple(Input(name, rng.randbytes(16), maybe(rng, packed)) for name in ("a", "b")[: rng.randrange(3)])
    spec = Spec(
        "flow" if root == run else "task", rng.choice(NAMES), "key", f"run-{rng.randrange(99)}", root, parent,
        inputs=inputs, code=rng.randbytes(8), tags=tuple(rng.sample(["x", "y"], rng.randrange(3))),
    )  # fmt: skip
    now = Pending(spec=spec)
    entries = [Transition(1, AT, now)]
    while TABLE[type(now)] and len(entries) < 12 and rng.random() < 0.95:
        seq = len(entries) + 1
        if rng.random() < 0.15:
            until = maybe(rng, lambda r: AT + r.randrange(50))
            entries.append(Ruling(seq, AT + seq, Running(), "rule", "no", until))
            continue
        kinds = sorted(TABLE[type(now)], key=lambda kind: kind.code)
        going_on = [kind for kind in kinds if TABLE[kind]]
        now = state(rng, rng.choice(going_on if going_on and rng.random() < 0.6 else kinds))
        facts = Facts(key=rng.choice([None, "k", "l"])) if isinstance(now, Completed) else Facts()
        entries.append(Transition(seq, AT + seq, now, facts=facts))
    return entries


def fill(log, rng, trees=4):
    """Append whole random trees, their runs' entries mixed as they come. Returns the roots."""
    roots = []
    for _ in range(trees):
        root = rng.randbytes(16)
        roots.append(root)
        runs = {root: history(rng, root, root, None)}
        for _ in range(rng.randrange(4)):
            child = rng.randbytes(16)
            runs[child] = history(rng, child, root, rng.choice([*runs]))
        done = dict.fromkeys(runs, 0)
        log.append([Part(run, root, 0, (entries[0],)) for run, entries in runs.items()], epoch=1)
        while waiting := [run for run in runs if done[run] + 1 < len(runs[run])]:
            run = rng.choice(waiting)
            at = done[run] + 1
            count = rng.randrange(1, 4)
            log.append([Part(run, root, at, tuple(runs[run][at : at + count]))], epoch=1)
            done[run] = min(at + count, len(runs[run])) - 1
    log.flush()
    return roots


def opened(kind, folder):
    return MemoryLog() if kind == "memory" else LmdbLog(folder)


def foreign_row(run, seq, prev, body=b"\xa2hm", kind="acme.notes/remark"):
    """A row of a later release's, or a plugin's, type."""
    return msgpack.encode([msgpack.encode(Record(run, seq, 0, 1, kind, 7, prev, Raw(body))), []])


class Direct:
    """The tables of a store on disk, written past the library."""

    def __init__(self, folder):
        self.env = lmdb.open(str(folder), max_dbs=32, map_size=1 << 30)
        self.tables = {table: self.env.open_db(table.encode()) for table in TABLES}

    def __enter__(self):
        self.txn = self.env.begin(write=True)
        return self

    def __exit__(self, *error):
        self.txn.commit()
        self.env.close()

    def get(self, table, key):
        return self.txn.get(key, db=self.tables[table])

    def put(self, table, key, value):
        assert self.txn.put(key, value, db=self.tables[table])

    def drop(self, table, key):
        assert self.txn.delete(key, db=self.tables[table])

    def rows(self, table):
        return list(self.txn.cursor(self.tables[table]))


def copied(folder, to):
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


def named(row):
    """Run and seq of a stored row."""
    record = open_row(row).record
    return record.run, record.seq

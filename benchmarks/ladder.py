"""
What stands between the floor and this library, one duty more at a time, each in the straightest Python that does it.

    python benchmarks/ladder.py              # a call that nobody waits for; 20,000 on each rung, in turns
    python benchmarks/ladder.py history      # the three records of a call, read
    python benchmarks/ladder.py start        # a process, up to its first finished task

A call here is no engine's: there is one kind of call, written for this one program, without rules, plugins, errors or anybody who
reads. So the rung below the last is what the same records of the same bytes cost where nothing is general; what the last adds is
the generality: objects and functions of their own for each step. All rungs commit in the background, as `lazy` does.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from struct import Struct as Layout
from typing import Any

import lmdb
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent / "subjects"))

import measuring
import ours

import pluperfect
from pluperfect.records import decode_each, open_row
from pluperfect.rules import Proposal, settle
from pluperfect.states import PLAIN, Completed, Input, Packed, Pending, Running, Spec
from pluperfect.transitions import Run, Transition, apply
from pluperfect_store.tree import Tree

DUTIES = (
    "the floor: two records, chained, in a commit of another thread",
    "three records: born, begun, ended",
    "an envelope around a typed body, and what a run is born with (20 fields)",
    "input and result as values of their own, with their digests",
    "an id that follows from the place",
    "a tree of hashes over the log, and where it ends, in each commit",
    "the views: index, head, by state, by name, by caller",
    "judged by the table of transitions, and folded into a run",
    "bound arguments, a frame in the context, locks, a ticket, what is kept for lineage",
    "this library",
)
HOLD = 0.05
"""Seconds for which `lazy` holds a commit back."""

encode = msgspec.msgpack.Encoder().encode
u64 = Layout(">Q").pack
idx_key = Layout(">16sI").pack
child_key = Layout(">16sQ").pack
state_key = Layout(">BBQ").pack
number = Layout(">QQ").pack
current: ContextVar[Any] = ContextVar("current", default=None)
START = encode(((Running.code,),))
END = encode(((Completed.code, "", msgspec.msgpack.Ext(PLAIN, b"\0")),))
OPTIONS: dict[str, Any] = {}
CODE = bytes(16)


def noop(i: int) -> int:
    """The body."""
    return i


# --- a call ---------------------------------------------------------------------------------------------


class Frame:
    """What is kept for one call while it is under way."""

    __slots__ = ("args", "arguments", "lock", "parent", "run", "ticket")

    def __init__(self, run: Any, parent: Any, args: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        self.run, self.parent, self.args, self.arguments = run, parent, args, arguments
        self.lock = threading.Lock()
        self.ticket: Any = None


class Store:
    """A log that a thread of its own commits, each batch in one transaction."""

    def __init__(self, folder: str, rung: int) -> None:
        self.rung = rung
        self.env = lmdb.open(folder, map_size=1 << 31, max_dbs=16)
        names = ("log", "idx", "head", "by_state", "by_name", "child", "meta")
        self.tables = {name: self.env.open_db(name.encode()) for name in names}
        self.tree, self.position = Tree(), 0
        self.prev = b""
        self.root = number(1, 1)
        self.queue: list[Any] = []
        self.lock = threading.Lock()
        self.left = threading.Event()
        self.sources: dict[int, Any] = {}
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    def write(self) -> None:
        """Commit what has gathered until the end."""
        while not self.left.wait(HOLD):
            self.commit()

    def close(self) -> None:
        """Commit the rest."""
        self.left.set()
        self.writer.join()
        self.commit()

    def add(self, entry: Any) -> None:
        """Queue a call, whole: the thread that commits takes what is there at any time."""
        with self.lock:
            self.queue.append(entry)

    def commit(self) -> None:
        """One transaction for all that is queued."""
        with self.lock:
            batch, self.queue = self.queue, []
        puts: dict[str, dict[bytes, bytes]] = {name: {} for name in self.tables}
        log, idx = puts["log"], puts["idx"]
        position, leaves = self.position, list[bytes]()
        for run, rows in batch:
            first, seq = position + 1, 0
            prev = b""
            for record in rows:
                if self.rung < 2:
                    row = record
                else:  # chained and sealed where its place is known, as this library does
                    seq += 1
                    body, values, digests, at = record
                    raw = encode((run, seq, at, 1, "transition", 1, prev, body))
                    row = encode((raw, values))
                    prev = sha256(b"".join((b"\0", raw, *digests))).digest()
                    leaves.append(prev)
                position += 1
                place = u64(position)
                log[place] = row
                if self.rung >= 6:
                    idx[idx_key(run, seq)] = place
            if self.rung >= 6:
                puts["head"][run] = encode((seq, position, first, 6, prev, self.root, position, 0, 0))
                puts["by_state"][state_key(6, 1, first)] = run
                puts["by_name"][b"noop\0" + u64(first)] = run
                puts["child"][child_key(self.root, first)] = run
        self.position = position
        if self.rung >= 5:
            self.tree.extend(leaves)
            puts["meta"] = {b"tree": self.tree.encode()}
        with self.env.begin(write=True) as txn:
            for name, rows in puts.items():
                if rows:
                    keys = rows if name == "log" else sorted(rows)
                    txn.cursor(self.tables[name]).putmulti([(key, rows[key]) for key in keys], append=name == "log")


def call(store: Store, i: int) -> int:
    """One call, with the duties of this rung."""
    rung = store.rung
    at = time.time_ns() // 1_000
    if rung < 2:
        prev, records = store.prev, list[Any]()
        run = store.root
        fields = [("noop", i, at, sha256(encode(i)).digest())]
        if rung:
            fields.append(("noop", i, time.time_ns() // 1_000, b""))
        for begun in fields:
            raw = encode((1, run, *begun, prev))
            prev = sha256(raw).digest()
            records.append(raw)
        value = noop(i)
        raw = encode((2, run, "noop", i, time.time_ns() // 1_000, encode(value), prev))
        store.prev = sha256(raw).digest()
        records.append(raw)
        store.add((run, records))
        return value
    run = number(1, i)
    if rung >= 4:
        place = sha256(b"%b/%b/%d/%d/%d/%d" % (store.root, b"noop-01234567", i, -1, 0, 0)).digest()
        run = store.root[:6] + place[:10]
    data, known = encode(i), b""
    given: tuple[Any, ...] = ()
    digests: tuple[bytes, ...] = ()
    kept: Any = data
    if rung >= 3:
        known = sha256(b"p" + data).digest()[:16]
        given, digests, kept = (data,), (sha256(data).digest(),), msgspec.msgpack.Ext(PLAIN, b"\0")
    # What a run is born with, on both sides of its inputs.
    before: tuple[Any, ...] = ("task", "noop", "noop-01234567", f"noop-{i}", store.root, store.root, i, None, 0)
    behind: tuple[Any, ...] = (CODE, None, (), OPTIONS, "lazy", "", (), None, "program:7", None)
    plain = (Pending.code, "", (*before, (("i", known, kept),), *behind))
    rows: list[Any] = [(msgspec.Raw(encode((plain,))), given, digests, at)]
    folded, frame = Run(run), None
    if rung >= 7:
        spec = Spec(*before, (Input("i", known, Packed(PLAIN, data)),), *behind)
        folded = moved(folded, Pending(spec=spec), at)
    if rung >= 8:
        frame = Frame(folded, current.get(), (i,), {"i": i})
        token = current.set(frame)
    at = time.time_ns() // 1_000
    if frame is not None:
        with frame.lock:
            frame.run = folded = moved(folded, Running(), at)
    elif rung >= 7:
        folded = moved(folded, Running(), at)
    rows.append((msgspec.Raw(START), (), (), at))
    if frame is None:
        value = noop(i)
    else:
        try:
            value = noop(*frame.args)
        finally:
            current.reset(token)
    data = encode(value)
    end: tuple[Any, ...] = ((data,), (sha256(data).digest(),)) if rung >= 3 else ((), ())
    body = END if rung >= 3 else encode(((Completed.code, "", data),))
    at = time.time_ns() // 1_000
    if frame is not None:
        with frame.lock:
            frame.run = moved(folded, Completed(data=Packed(PLAIN, data)), at)
        store.sources[id(value)] = (value, run)
        if len(store.sources) > 512:
            store.sources.clear()
    elif rung >= 7:
        moved(folded, Completed(data=Packed(PLAIN, data)), at)
    rows.append((msgspec.Raw(body), *end, at))
    entry = (run, rows)
    store.add(entry)
    if frame is not None:
        frame.ticket = entry
    return value


def moved(run: Run, to: Any, at: int) -> Run:
    """The run after this state, which the table of transitions allows."""
    entry = settle(run, Proposal(to, at / 1e6), epoch=1)
    assert type(entry) is Transition
    return apply(run, entry)


def climb(rung: int, count: int, folder: str) -> Callable[[], Any]:
    """So many calls on one rung."""
    if rung == len(DUTIES) - 1:
        log = pluperfect.open(f"lmdb:{folder}/runs")

        def act() -> None:
            with log:
                ours.sequential.with_options(durability="lazy")(count)

        return act
    store = Store(folder, rung)

    def act_here() -> None:
        for i in range(count):
            call(store, i)
        store.close()

    return act_here


# --- reading, and beginning -------------------------------------------------------------------------------


READING = (
    "the rows, at hand, decoded into values of no type",
    "found by the index of the tree, and read",
    "and taken apart, each a record with its values",
    "and decoded, each an entry with its state",
    "this library: events",
)


def read(rung: int, count: int, folder: str) -> Callable[[], Any]:
    """The history of so many calls on one rung."""
    log = ours.open_in(folder)
    ours.sequential.with_options(durability="lazy")(count)
    log.log.flush()
    run = log.run("sequential")
    assert run is not None
    top = next(log.log.find(name="sequential"))
    found = [row for _, row in log.log.feed(limit=10 * count)]
    plain = msgspec.msgpack.decode
    return (
        lambda: [plain(plain(row)[0]) for row in found],
        lambda: log.log.beneath(top),
        lambda: [open_row(row) for _, row in log.log.beneath(top)],
        lambda: [*decode_each((row for _, row in log.log.beneath(top)), log.log.blob)],
        lambda: run.events,
    )[rung]


FIRST = """
import os
from pluperfect import flow, open, task
@task
def noop(i): return i
@flow
def one(): return noop(1)
with open("lmdb:runs"):
    one()
os._exit(0)
"""
PROGRAMS = {
    "bare Python": "import os; os._exit(0)",
    "msgspec, LMDB and SHA-256": "import os, msgspec, lmdb, hashlib; os._exit(0)",
    "pluggy, logging, paths": "import os, msgspec, lmdb, hashlib, pluggy, logging, pathlib; os._exit(0)",
    "this library: a fresh store, and a task finished in it": FIRST,
}


def begin(rung: int, count: int, folder: str) -> Callable[[], Any]:
    """So many processes, one after the other."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    program = [*PROGRAMS.values()][rung]

    def act() -> None:
        for i in range(count):
            place = Path(folder, str(i))
            place.mkdir()
            subprocess.run([sys.executable, "-c", program], cwd=place, env=kept, capture_output=True, check=True)

    return act


LADDERS: dict[str, tuple[tuple[str, ...], Callable[[int, int, str], Callable[[], Any]], int, float, str]] = {
    "call": (DUTIES, climb, 20_000, 1e6, "us"),
    "history": (READING, read, 10_000, 1e6, "us"),
    "start": ((*PROGRAMS,), begin, 5, 1e3, "ms"),
}


def main() -> None:
    """Climb some times, and print medians."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("ladder", choices=LADDERS, nargs="?", default="call")
    asked.add_argument("--count", type=int)
    asked.add_argument("--rounds", type=int, default=5)
    given = asked.parse_args()
    logging.disable(logging.CRITICAL)
    rungs, ready, usual, factor, unit = LADDERS[given.ladder]
    count = given.count or usual
    found: dict[int, list[float]] = {rung: [] for rung in range(len(rungs))}
    for nth in range(given.rounds + 1):
        for rung in found if nth % 2 else reversed(found):
            with tempfile.TemporaryDirectory() as folder:
                act = ready(rung, count, folder)
                gc.collect()
                if given.ladder == "history":
                    gc.disable()  # as this library has it while it reads: nothing of what is made can be garbage yet
                waited, begun = measuring.without_cpu(), time.perf_counter()
                act()
                took = time.perf_counter() - begun - (measuring.without_cpu() - waited)
                gc.enable()
            if nth:  # the first warms up
                found[rung].append(took / count * factor)
    before = 0.0
    for rung, duty in enumerate(rungs):
        each = statistics.median(found[rung])
        print(f"{each:7.1f} {unit} {each - before:+7.1f}  {duty}")
        before = each


if __name__ == "__main__":
    main()

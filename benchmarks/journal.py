"""
What a journal beside LMDB could save, before anybody builds one: the records of a call written in four ways, taken in turn.

    python benchmarks/journal.py            # in a temporary folder; --folder names another disk

A commit of LMDB waits for the disk twice: for the pages, then for the page that says where they are. A journal that is written
ahead of it, and taken into the file later, would wait once, or, where only a kill of the process is to be survived, not at all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmdb

RECORDS, SIZE, HEAD = 3, 290, 90
BEFORE = 3_000
"""Calls that are in the file already, so that its trees have their usual depth."""

key = struct.Struct(">Q").pack


def stored(folder: Path) -> Callable[[int], None]:
    """Three records and two heads in one synced commit, as this library lays them out."""
    env = lmdb.open(str(folder), map_size=1 << 32, max_dbs=4)
    log, head, meta = (env.open_db(name) for name in (b"log", b"head", b"meta"))

    def act(i: int) -> None:
        with env.begin(write=True) as txn:
            for record in range(RECORDS):
                txn.put(key(RECORDS * i + record), os.urandom(SIZE), db=log, append=True)
            for run in (i, max(i - 1, 0)):
                txn.put(b"sixbyt" + key(run), os.urandom(HEAD), db=head)
            txn.put(b"tree", bytes(350), db=meta)

    with env.begin(write=True) as txn:
        for i in range(BEFORE):
            for record in range(RECORDS):
                txn.put(key(RECORDS * i + record), os.urandom(SIZE), db=log, append=True)
            txn.put(b"sixbyt" + key(i), os.urandom(HEAD), db=head)
    return act


def journal(path: Path, *, room: int, sync: bool) -> Callable[[int], None]:
    """The records behind each other in a plain file, with or without room that was made for them before."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    if room:
        os.posix_fallocate(file, 0, room)
        os.fsync(file)
    size = RECORDS * SIZE

    def act(i: int) -> None:
        os.pwrite(file, os.urandom(size), (i - BEFORE) * size)
        if sync:
            os.fdatasync(file)

    return act


def main() -> None:
    """Measure in turns, and print medians."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path, default=None)
    asked.add_argument("--calls", type=int, default=2_000)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        (folder / "store").mkdir()
        room = given.calls * RECORDS * SIZE
        ways = {
            "LMDB, synced": stored(folder / "store"),
            "journal, synced": journal(folder / "grows", room=0, sync=True),
            "journal, synced, room made": journal(folder / "room", room=room, sync=True),
            "journal, not synced": journal(folder / "quick", room=room, sync=False),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for i in range(BEFORE, BEFORE + given.calls):
            for way, act in ways.items():
                began = time.perf_counter()
                act(i)
                took[way].append(time.perf_counter() - began)
    for way, times in took.items():
        print(f"{way:<28}{statistics.median(times) * 1e6:8.1f} µs for the {RECORDS} records of a call")


if __name__ == "__main__":
    main()

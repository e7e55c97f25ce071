"""
The floor: what the same work costs with the same parts and without an engine.

A task is a bare function call and two small records, made by msgspec, in raw LMDB. ``effect``: one synced commit for each task.
``lazy``: the records are chained by SHA-256, and a thread of its own commits what has gathered, as a log does in the background.
"""

from __future__ import annotations

import hashlib
import os
import queue
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lmdb
import measuring
import msgspec


class Begun(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    run: bytes
    task: str
    seq: int
    at: int
    inputs: bytes
    prev: bytes


class Ended(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    run: bytes
    task: str
    seq: int
    at: int
    result: bytes
    prev: bytes


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Begun | Ended).decode
key = struct.Struct(">Q").pack


class Log:
    def __init__(self, folder: str) -> None:
        self.env = lmdb.open(folder, map_size=1 << 31)
        self.run, self.seq, self.prev = os.urandom(16), 0, bytes(32)
        self.lock = threading.Lock()
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self.write, daemon=True).start()

    def note(self, kind: Any, name: str, data: bytes) -> tuple[bytes, bytes]:
        with self.lock:
            self.seq += 1
            raw = encode(kind(self.run, name, self.seq, time.time_ns(), data, self.prev))
            self.prev = hashlib.sha256(raw).digest()
            return key(self.seq), raw

    def write(self) -> None:
        while True:
            batch = [self.queue.get()]
            time.sleep(0.005)
            while not self.queue.empty():
                batch.append(self.queue.get())
            with self.env.begin(write=True) as txn:
                for row in batch:
                    if isinstance(row, tuple):
                        txn.put(*row, append=True)
            for row in batch:
                if not isinstance(row, tuple):
                    row.release()

    def barrier(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.queue.put(lock)
        lock.acquire()


def noop(i: int) -> int:
    return i


def durable(log: Log, i: int) -> int:
    begun = log.note(Begun, "noop", hashlib.sha256(encode(i)).digest())
    found = noop(i)
    ended = log.note(Ended, "noop", encode(found))
    with log.env.begin(write=True) as txn:
        txn.put(*begun, append=True)
        txn.put(*ended, append=True)
    return found


def gathered(log: Log, i: int) -> int:
    log.queue.put(log.note(Begun, "noop", hashlib.sha256(encode(i)).digest()))
    found = noop(i)
    log.queue.put(log.note(Ended, "noop", encode(found)))
    return found


def work(task: Callable[[Log, int], int], workers: int = 0) -> measuring.Ready:
    def ready(n: int, folder: str) -> Callable[[], None]:
        log = Log(folder)

        def act() -> None:
            if workers:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(lambda i: task(log, i), range(n)))
            else:
                for i in range(n):
                    task(log, i)
            if task is gathered:
                log.barrier()

        return act

    return ready


def history(n: int, folder: str) -> Callable[[], None]:
    log = Log(folder)
    for i in range(n):
        gathered(log, i)
    log.barrier()

    def act() -> None:
        with log.env.begin() as txn:
            assert len([decode(row) for row in txn.cursor().iternext(keys=False)]) == 2 * n

    return act


def start(_: int, folder: str) -> Callable[[], int]:
    return lambda: durable(Log(folder), 1)


WORKS: dict[str, measuring.Ready] = {
    "sequential.effect": work(durable),
    "sequential.lazy": work(gathered),
    "submit.lazy": work(gathered, 8),
    "map.lazy": work(gathered, 8),
    "history": history,
    "start": start,
}

if __name__ == "__main__":
    measuring.main(WORKS, f"lmdb {lmdb.__version__}")

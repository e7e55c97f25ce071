"""
Programs on a real store, run in a process of their own under the shim.

Whatever a ticket, a task's start or a flow's return has acknowledged is marked, at that moment, in the shim's trace.
"""

from __future__ import annotations

import ctypes
import random
import threading

import lmdb

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.runtime import task_run
from pluperfect.states import PLAIN, Completed, Packed, Running
from pluperfect_store.conformance import born, new_id, part, whole
from pluperfect_store.lmdb import LmdbLog

FLAGS = {"sound": {}, "metasync off": {"metasync": False}, "sync off": {"sync": False}}
"""The workload of each of the controls differs in this alone."""


def shim():
    """The preloaded library; an AttributeError at its first use means that it is not there."""
    return ctypes.CDLL(None)


def acknowledge(run, seq):
    """Mark in the trace that somebody was told of this entry, and thereby of all before it."""
    mark = run + seq.to_bytes(4, "big")
    shim().crash_mark(mark, ctypes.c_uint64(len(mark)))


def large(run, size):
    """A run with a result of so many bytes, over as many pages."""
    data = b"\xc6" + size.to_bytes(4, "big") + bytes(size)
    return part(run, None, 0, born(run), Running(), Completed(data=Packed(PLAIN, data)))


def appends(log, chance, rounds):
    """Bare appends of three threads at once: trees, large results, some waited for and some not."""

    def work(number):
        for _ in range(rounds):
            root, child = new_id(), new_id()
            log.append([whole(new_id(), tags=("unwaited",))], epoch=1)
            log.append([whole(root, key=f"{number}"), part(child, root, 0, born(child, root))], epoch=1).wait()
            acknowledge(root, 3)
            ticket = log.append([part(child, root, 1, Running(), Completed())], epoch=1)
            if chance.random() < 0.3:
                run = new_id()
                log.append([large(run, chance.randrange(3_000, 30_000))], epoch=1).wait()
                acknowledge(run, 3)
            ticket.wait()
            acknowledge(child, 3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@task(retries=1)
def countdown(n):
    """Starts three times: an attempt, a retry, an iteration."""
    acknowledge_start()
    if task_run.run_count == 1:
        raise ConnectionError(n)
    if task_run.loop_count < 2:
        raise LOOP("again", result=n - 1)
    return n


@task
def note(x):
    """One start."""
    acknowledge_start()
    return x


def acknowledge_start():
    """At `effect` the body of a task begins when its first Running, entry 2, is durable."""
    acknowledge(bytes.fromhex(task_run.id.replace("-", "")), 2)


@flow
def job(n):
    """Calls one after the other, and some side by side."""
    return [countdown(n), *[note(x) for x in range(3)], *note.map(range(3)).result()]


def flows(log, keys):
    """Whole flows, each of which is acknowledged, with all its tree, when it returns."""
    for key in keys:
        job.with_options(idempotency_key=key)(3)
        run = next(iter(log.runs(roots=True)))
        for one in (run, *run.children):
            acknowledge(bytes.fromhex(one.id.replace("-", "")), len(one.history))


def power(folder, seed, rounds, control):
    """What the images of power loss are made of: a new store, flows and appends, a rebuild, a reopening."""
    opened = lmdb.open
    lmdb.open = lambda path, **options: opened(path, **{**options, **FLAGS[control]})
    chance = random.Random(int(seed))
    for number in range(int(rounds)):
        bare = LmdbLog(folder, map_size=128 << 10)
        appends(bare, chance, 2)
        with pluperfect.open(f"lmdb:{folder}", entry_points=False) as log:
            flows(log, [f"{number}-{key}" for key in range(2)])
        appends(bare, chance, 2)
        if number == 0:
            bare.rebuild()
        bare.close()

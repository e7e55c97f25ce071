"""Three writers on one store, each with three threads, killed at random moments, one of them or all at once."""

from __future__ import annotations

import ctypes
import os
import random
import select
import signal
import sys
import threading
import traceback
from pathlib import Path

import checkers
from pluperfect.states import Running
from pluperfect_store.conformance import born, new_id, part, whole
from pluperfect_store.lmdb import LmdbLog

from . import oracle, workloads
from .children import forked

WRITERS = 3
ALL_AT_ONCE = 0.15  # of the rounds; LMDB begins a new lock file then
STORE = 20  # kills; then a new store, so that reading all of it stays cheap
NOTE = 20  # bytes: a run and a seq
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def writer(folder, notes, ready):
    """Append for ever; note in a file what a ticket has acknowledged, after it has; say once that all threads are at it."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    log = LmdbLog(folder)
    threading.excepthook = lambda failure: (sys.__excepthook__(*failure[:3]), os._exit(1))
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    started = threading.Barrier(WRITERS, action=lambda: os.write(ready, b"."))

    def work():
        first = True
        while True:
            root, child = new_id(), new_id()
            log.append([whole(new_id(), tags=("unwaited",))], epoch=1)
            log.append([whole(root, key=root.hex()), part(child, root, 0, born(child, root))], epoch=1).wait()
            os.write(file, root + (3).to_bytes(4, "big"))
            log.append([part(child, root, 1, Running()), workloads.large(new_id(), 5_000)], epoch=1).wait()
            os.write(file, child + (2).to_bytes(4, "big"))
            if first:
                started.wait()
                first = False

    for _ in range(WRITERS):
        threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()


def start(folder, notes):
    """Fork a writer; its pid, once all of its threads have been acknowledged something."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            writer(folder, notes, write)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    try:
        assert os.read(read, 1) == b".", "a writer died on its own"
    finally:
        os.close(read)
    return pid


def rounds(place, seed, kills):
    """So many kills. Yields, for each store, its kills, its records, and what was acknowledged. Runs in a child process."""
    chance, done, alive = random.Random(seed), 0, {}
    try:
        while done < kills:
            folder = Path(place) / f"{seed}-{done}"
            folder.mkdir()
            killed = 0
            while killed < STORE and done + killed < kills:
                while len(alive) < WRITERS:
                    notes = folder / f"notes-{killed}-{len(alive)}"
                    alive[start(folder / "runs", notes)] = notes
                select.select([], [], [], chance.uniform(0, 0.02))  # the moment of the kill is what is drawn
                every = chance.random() < ALL_AT_ONCE
                victims = [*alive] if every else [chance.choice([*alive])]
                told = [note for victim in victims for note in killed_one(victim, alive.pop(victim))]
                killed += len(victims)
                outcome = forked(
                    lambda told=told, every=every, folder=folder: judge(folder / "runs", told, alone=every)
                )
                assert outcome.how == "returned", (seed, done + killed, outcome)
            for victim in [*alive]:
                killed_one(victim, alive.pop(victim))
                killed += 1
            everything = [note for notes in folder.glob("notes-*") for note in told_in(notes)]
            outcome = forked(lambda folder=folder, told=everything: judge(folder / "runs", told, alone=True))
            assert outcome.how == "returned", (seed, done + killed, outcome)
            done += killed
            yield killed, outcome.what, len(everything)
    finally:
        for pid in alive:
            os.kill(pid, signal.SIGKILL)


def killed_one(pid, notes):
    """Kill a writer; what it had noted."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"a writer ended on its own, with {status}"
    return told_in(notes)


def told_in(notes):
    """The runs and seqs in a file of notes; the last note may be half of one."""
    data = notes.read_bytes()
    whole_notes = (data[at : at + NOTE] for at in range(0, len(data) - NOTE + 1, NOTE))
    return [(note[:16], int.from_bytes(note[16:], "big")) for note in whole_notes]


def judge(folder, told, *, alone):
    """What was told is there; where nobody writes, all of the store is sound and goes on. Returns the number of records."""
    log = LmdbLog(folder)
    try:
        checkers.promise_2(log, told)
        found = log.position()
        if alone:
            oracle.assert_sound(log)
            checkers.promise_1(log)
            oracle.assert_goes_on(log)
        return found
    finally:
        log.close()

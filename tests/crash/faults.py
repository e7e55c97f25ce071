"""
A disk that fails once: at the n-th write or sync of a small program, for every n.

The program goes on as a user would: what is refused for want of room it forgets, and a store that stopped it opens again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import checkers
import pluperfect
from pluperfect.errors import StoreClosed, StoreError, StoreFull
from pluperfect_store.conformance import new_id, whole
from pluperfect_store.lmdb import LmdbLog

from . import oracle, workloads
from .children import forked
from .power import memory

WRITES = ("EIO", "ENOSPC", "HALF", "TORN", "KILL")
SYNCS = ("EIO", "ENOSPC", "KILL")
FATAL = ("TORN", "KILL")


class Told:
    """What somebody was told, in a file that outlives the process: a word, a run and a seq."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledged(self, run, seq):
        os.write(self._file, f"acknowledged {run.hex()} {seq}\n".encode())

    def refused(self, run, seq):
        os.write(self._file, f"refused {run.hex()} {seq}\n".encode())


def told(path, wanted):
    """The runs and seqs of which somebody was told this."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(bytes.fromhex(run), int(seq)) for word, run, seq in lines if word == wanted]


def stubborn(folder, path):
    """The program: appends small and large, then a flow. Returns the errors that it met, by name."""
    note, met = Told(path), []
    workloads.acknowledge = note.acknowledged
    log = opened(folder, met)
    for number in range(8):
        run = new_id()
        try:
            log.append([workloads.large(run, 9_000) if number % 3 == 2 else whole(run)], epoch=1).wait()
        except StoreFull as error:
            met.append(type(error).__name__)
            note.refused(run, 3)
        except StoreClosed as error:
            met.append(type(error).__name__)
            log.close()
            log = opened(folder, met)
        else:
            note.acknowledged(run, 3)
    log.close()
    while True:
        try:
            with pluperfect.open(f"lmdb:{folder}", entry_points=False) as runs:
                workloads.flows(runs, ["once"])
        except StoreError as error:
            met.append(type(error).__name__)
            assert len(met) < 3, met
        else:
            return met


def opened(folder, met):
    """The store, if need be at the second try."""
    try:
        return LmdbLog(folder)
    except StoreError as error:
        met.append(type(error).__name__)
        return LmdbLog(folder)


def rehearsal(folder, path):
    """The program without a fault, from the command line: its writes and syncs are counted in its trace."""
    assert stubborn(Path(folder), Path(path)) == []


def struck(faults):
    """For each fault: itself, what became of the program, and of the store. Runs in a child process under the shim."""
    for kind, n, how in faults:
        with tempfile.TemporaryDirectory(dir=memory()) as place:
            store, notes = Path(place) / "runs", Path(place) / "told"

            def program(fault=(kind, n, how), store=store, notes=notes):
                workloads.shim().crash_fault(":".join(map(str, fault)).encode())
                met = stubborn(store, notes)
                return "not reached" if workloads.shim().crash_fault(None) else met

            yield (kind, n, how), forked(program), forked(lambda store=store, notes=notes: judge(store, notes))


def judge(store, notes):
    """What was acknowledged is there, what was refused is not, all else is sound, and writing goes on."""
    log = LmdbLog(store)
    oracle.assert_sound(log)
    checkers.check(log)
    checkers.promise_2(log, told(notes, "acknowledged"))
    assert [run.hex() for run, _ in told(notes, "refused") if log.head(run) is not None] == []
    oracle.assert_goes_on(log)
    log.close()
    return len(told(notes, "acknowledged"))

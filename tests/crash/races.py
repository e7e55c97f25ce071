"""Two processes that resume one run at the same moment: forks of a child process that has all modules loaded already."""

from __future__ import annotations

import logging
import os
import random
import select
import time
from pathlib import Path

import checkers
import pluperfect
from pluperfect import flow, task
from pluperfect.errors import Fenced
from pluperfect.records import open_record
from pluperfect.testing import kinds

from .children import forked

STEPS = 4
DELAY = 0.004  # seconds, at most, between the signal and the call, and in each step


class Place:
    """What the processes of one round share: a store, a file of what they did to the world, and their chances."""

    notes = None
    chance = random.Random()
    dies_at = -1


@task
def step(n):
    os.write(Place.notes, f"{os.getpid()} {n}\n".encode())
    if n == Place.dies_at:
        os._exit(0)
    nap(Place.chance)
    return n


@flow
def job():
    return [step(n) for n in range(STEPS)]


def nap(chance, times=1):
    """Let others come in between, for as long as the seed says."""
    select.select([], [], [], chance.uniform(0, DELAY * times))


def fork(work):
    """Do this in a process of its own, which ends with it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def dies(folder):
    """Begin the run, and die in one of its steps."""
    with pluperfect.open(f"lmdb:{folder / 'runs'}", entry_points=False):
        job.with_options(idempotency_key="k")()


def resumes(folder, ready, go, told):
    """Resume the run at the signal, and say how that ended."""
    with pluperfect.open(f"lmdb:{folder / 'runs'}", entry_points=False):
        os.write(ready, b".")
        os.read(go, 1)
        nap(Place.chance, Place.chance.choice((1, 1, 20)))  # now and then so late that the other one has ended
        try:
            result = job.with_options(idempotency_key="k")()
        except Fenced:
            os.write(told, f"{os.getpid()} fenced\n".encode())
        else:
            assert result == [*range(STEPS)]
            os.write(told, f"{os.getpid()} result\n".encode())
    os._exit(0)


def race(folder, seed):
    """One round. Returns how the two ended, by pid, and what they did: pairs of pid and step."""
    chance = random.Random(seed)
    folder.mkdir()
    Place.notes = os.open(folder / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    Place.dies_at = chance.randrange(STEPS)
    pid = fork(lambda: dies(folder))
    assert os.waitpid(pid, 0)[1] == 0
    Place.dies_at = -1
    (ready, is_ready), (go, going), (told, tell) = os.pipe(), os.pipe(), os.pipe()
    racers = []
    for _ in range(2):
        Place.chance = random.Random(chance.random())
        racers.append(fork(lambda: resumes(folder, is_ready, go, tell)))
    for _ in racers:
        assert os.read(ready, 1) == b"."
    os.write(going, b"..")
    for pid in racers:
        assert os.waitpid(pid, 0)[1] == 0, "a racer fell over something else"
    os.close(tell)
    with os.fdopen(told) as said:
        ended = dict(line.split() for line in said.read().splitlines())
    for end in (Place.notes, ready, is_ready, go, going):
        os.close(end)
    assert {int(pid) for pid in ended} == set(racers)
    acted = [tuple(line.split()) for line in (folder / "notes").read_text().splitlines()]
    return ended, [(pid, int(n)) for pid, n in acted if pid in ended]


def judge(folder, ended, acted):
    """One of the two went on with the run, alone, and the log says so. Returns how the other one ended."""
    with pluperfect.open(f"lmdb:{folder / 'runs'}", entry_points=False) as log:
        checkers.check(log.log)
        run = log.run("job")
        assert run.result() == [*range(STEPS)]
        assert [child.state.kind for child in run.children] == ["Completed"] * STEPS
        for child in run.children:
            assert kinds(child).count("Completed") == 1
            assert kinds(child) in (
                ["Pending", "Running", "Completed"],
                ["Pending", "Running", "Retrying", "Running", "Completed"],
            )
        winners = {pid for pid, _ in acted}
        assert len(winners) == 1, "both went on"
        assert len({n for _, n in acted}) == len(acted), "a step was made twice"
        (winner,) = winners
        assert ended[winner] == "result"
        (loser,) = {*ended} - winners
        notes = log.journal("job")
        assert [note.kind for note in notes].count("fenced") == (ended[loser] == "fenced")
        terms = [note.body["epoch"] for note in notes if note.kind == "lease"]
        records = [open_record(data) for _, data in checkers.whole(log.log)]
        wrote = {record.epoch for record in records if record.run != log.log.store_id}
        assert len(wrote) == 2, "the process that died, and the one that went on"
        assert max(wrote) in terms
        return ended[loser]


def rounds(place, seed, count):
    """So many races. Yields how the loser of each ended. Runs in a child process."""
    logging.disable(logging.CRITICAL)
    for number in range(count):
        folder = Path(place) / f"{seed}-{number}"
        began = time.monotonic()
        ended, acted = race(folder, f"{seed} {number}")
        outcome = forked(lambda folder=folder, ended=ended, acted=acted: judge(folder, ended, acted))
        assert outcome.how == "returned", (seed, number, outcome)
        yield outcome.what, time.monotonic() - began

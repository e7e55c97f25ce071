"""
Power loss, by enumeration: from a trace of writes and syncs, every kind of image that a disk could hold afterwards.

A disk keeps what was synced. Of what was written since it may keep anything: a subset of the writes, in any order, each
of them whole or as some of its sectors. A write to a descriptor that syncs makes itself durable when it returns, and
nothing else: less than the kernel does, so that nothing is taken for granted.
"""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pluperfect_store.conformance import new_id, whole

from . import oracle
from .children import environment, forked

SECTOR = 512  # bytes; a disk writes one whole or not at all
HEAD = struct.Struct("=cBQQ")


class Event(NamedTuple):
    """One line of a trace: w(rite), s(ync), t(runcate), r(ename) or m(ark)."""

    kind: str
    synced: bool
    at: int
    data: bytes


class Image(NamedTuple):
    """
    What a disk may hold at one moment of a `walk`, when somebody had been told of the first ``told`` records.

    ``kept`` are the unsynced writes that arrived, each with its sectors, or None for all of them.
    """

    moment: int
    told: int
    kept: tuple[tuple[int, tuple[int, ...] | None], ...]


def record(shim, trace, module, function, *arguments):
    """Run a function with these texts under the shim, in a process of its own, to its end, and give its events."""
    code = f"import sys; from crash import {module}; {module}.{function}(*sys.argv[1:])"
    program = [sys.executable, "-c", code, *map(str, arguments)]
    env = environment(LD_PRELOAD=str(shim), CRASH_TRACE=str(trace))
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return events(trace)


def events(trace):
    """The events of a trace."""
    data, at, found = Path(trace).read_bytes(), 0, []
    while at < len(data):
        kind, synced, place, size = HEAD.unpack_from(data, at)
        at += HEAD.size
        found.append(Event(kind.decode(), bool(synced), place, data[at : at + size]))
        at += size
    return found


def put(image, event, sectors=None):
    """Put a write, or some sectors of it, into an image."""
    if event.kind == "t":
        del image[event.at :]
        image.extend(bytes(event.at - len(image)))
        return
    first = event.at // SECTOR
    for sector in range(count(event)) if sectors is not None else ():
        if sector in sectors:
            low, high = max(event.at, (first + sector) * SECTOR), min(end(event), (first + sector + 1) * SECTOR)
            put(image, Event("w", False, low, event.data[low - event.at : high - event.at]))
    if sectors is None:
        image.extend(bytes(max(0, event.at - len(image))))
        image[event.at : end(event)] = event.data


def end(event):
    """Where a write ends in the file."""
    return event.at + len(event.data)


def count(event):
    """How many sectors a write touches."""
    return 1 if event.kind == "t" else (end(event) - 1) // SECTOR - event.at // SECTOR + 1


def walk(trace):
    """After each event: its number, what is durable, what is written since, and the marks so far."""
    durable, pending, marks = bytearray(), [], []
    for point, event in enumerate(trace, 1):
        if event.kind == "m":
            marks.append((event.data[:16], int.from_bytes(event.data[16:], "big")))
        elif event.kind == "s":
            for write in pending:
                put(durable, write)
            pending = []
        elif event.kind in "wt":
            pending.append(event)
            if event.synced:  # while it is under way anything of it may be there ...
                yield point, durable, pending, marks
                pending.pop()  # ... and when it has returned, all of it
                put(durable, event)
        yield point, durable, pending, marks


def choices(pending, chance, subsets):
    """The kinds of images of one moment, as `Image.kept`."""
    everything = [(number, None) for number in range(len(pending))]
    yield ()
    if not everything:
        return
    yield tuple(everything)
    yield tuple(everything[:-1])
    yield (everything[-1],)
    for _ in range(subsets if len(everything) > 2 else 0):
        yield tuple(one for one in everything if chance.random() < 0.5)
    for _ in range(subsets):  # one write is torn, of the others some arrive
        torn = chance.randrange(len(everything))
        size = count(pending[torn])
        sectors = tuple(sector for sector in range(size) if chance.random() < 0.5)
        yield tuple(
            (number, sectors) if number == torn else (number, None)
            for number in range(len(everything))
            if number == torn or chance.random() < 0.7
        )


def build(durable, pending, kept):
    """The bytes of an image."""
    image = bytearray(durable)
    for number, sectors in kept:
        put(image, pending[number], sectors)
    return image


def plan(trace, full, seed, subsets=4):
    """
    All images of a trace that differ in their bytes, each with the most that anybody had been told at that moment.

    The store is made beside its place and moved there: before that nobody could see it.
    """
    places = {key: position for position, key in enumerate(keys(full), 1)}
    chance, found = random.Random(seed), {}
    made = next(number for number, event in enumerate(trace, 1) if event.kind == "r")
    for moment, (point, durable, pending, marks) in enumerate(walk(trace)):
        if point < made:
            continue
        told = max((places[mark] for mark in marks), default=0)
        for kept in choices(pending, chance, subsets):
            digest = hashlib.sha256(build(durable, pending, kept)).digest()
            before = found.get(digest)
            if before is None or before.told < told:
                found[digest] = Image(moment, told, kept)
    return sorted(found.values(), key=lambda image: image.moment)


def keys(full):
    """The run and seq of each record."""
    opened = map(oracle.open_record, full)
    return [(record.run, record.seq) for record in opened]


def images(path, full, wanted):
    """Build these images and yield the verdict on each, from a fork of its own. Runs in a child process."""
    by_moment = {}
    for image in wanted:
        by_moment.setdefault(image.moment, []).append(image)
    for moment, (_, durable, pending, _) in enumerate(walk(events(path))):
        for image in by_moment.get(moment, ()):
            data = build(durable, pending, image.kept)
            with tempfile.TemporaryDirectory(dir=memory()) as folder:
                yield image, forked(lambda data=data, told=image.told: verdict(Path(folder), data, full, told))


def memory():
    """A folder in memory, where there is one: an image needs no disk of its own."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def verdict(folder, data, full, told):
    """
    Open an image and judge it: None where it is sound, or what is wrong.

    Its log has to be the beginning of the whole log, byte for byte: the whole log is judged by all checkers, so that this
    says of each image that it has no gap, no illegal history and no broken chain.
    """
    (folder / "data.mdb").write_bytes(data)
    log = oracle.LmdbLog(folder)
    found = [record for _, record in oracle.checkers.whole(log)]
    if found != full[: len(found)]:
        return "damaged: the log is not as it was written"
    log.append([whole(new_id())], epoch=1).wait()  # of a new run: it overwrites no row that may be wrong
    if log.position() != len(found) + 3:
        return f"damaged: the next append ends at {log.position()}"
    wrong = oracle.findings(log)
    if wrong:
        return f"damaged: {wrong[0]}"
    log.close()
    return None if len(found) >= told else f"lost: {told - len(found)} records that somebody was told of"

"""
A store whose file was damaged: bytes flipped, pages zeroed or exchanged, the end cut off.

Damage may be refused, named, or do no harm. What may never be is that something else is read as if it were true.
"""

from __future__ import annotations

import random
import tempfile
import traceback
from pathlib import Path

import pluperfect
from pluperfect.errors import PluperfectError
from pluperfect_store.lmdb import LmdbLog

from . import oracle, workloads
from .children import forked
from .power import memory

PAGE = 4096
META = 152  # bytes of a meta page that mean something


def make(folder, seed):
    """A store with appends and flows, on as few pages as it can be, so that most damage hits something. Its bytes."""
    workloads.acknowledge = lambda run, seq: None
    log = LmdbLog(folder / "runs")
    workloads.appends(log, random.Random(seed), 3)
    with pluperfect.open(f"lmdb:{folder / 'runs'}", entry_points=False) as runs:
        workloads.flows(runs, ["a", "b"])
    compact = folder / "compact"
    compact.mkdir()
    log._store.environment()._env.copy(str(compact), compact=True)
    log.close()
    # Two more transactions: both meta pages tell of a state of the store, each stamped with a number of this copy's count.
    log = LmdbLog(compact)
    oracle.assert_goes_on(log)
    oracle.assert_goes_on(log)
    log.close()
    return (compact / "data.mdb").read_bytes()


def some(data, seed, count):
    """Damages, as (kind, place, what): a third of them in what says where everything is."""
    chance, size = random.Random(seed), len(data)
    pages = size // PAGE
    found = []
    for _ in range(count):
        kind = chance.choice(["flip", "flip", "flip in meta", "flip in head", "zero", "swap", "cut"])
        place, page, what = chance.randrange(size), chance.randrange(pages), chance.randrange(1, 256)
        if kind == "flip in meta":
            place = chance.randrange(2) * PAGE + chance.randrange(META)
        elif kind == "flip in head":  # of a page: its number, flags, bounds, and where its rows are
            place = page * PAGE + chance.randrange(48)
        elif kind == "swap":
            place, what = page, chance.randrange(pages)
        elif kind == "zero":
            place = page
        elif kind == "cut" and chance.random() < 0.3:
            place = page * PAGE
        found.append((kind, place, what))
    return found


def all_of_meta():
    """Every byte of both meta pages that means something, changed once."""
    return [("flip in meta", page * PAGE + place, 0xFF) for page in (0, 1) for place in range(META)]


def every_page(data):
    """Every page zeroed, and the file cut before each."""
    return [
        (kind, place, 0) for page in range(len(data) // PAGE) for kind, place in (("zero", page), ("cut", page * PAGE))
    ]


def damaged(data, kind, place, what):
    """The bytes of a file with this damage."""
    if kind == "cut":
        return data[:place]
    changed = bytearray(data)
    at = place * PAGE
    if kind == "zero":
        changed[at : at + PAGE] = bytes(PAGE)
    elif kind == "swap":
        other = what * PAGE
        changed[at : at + PAGE], changed[other : other + PAGE] = data[other : other + PAGE], data[at : at + PAGE]
    else:
        changed[place] ^= what
    return bytes(changed)


def pages(kind, place, what):
    """The numbers of the pages that a damage touches."""
    if kind == "swap":
        return {place, what}
    return {place} if kind == "zero" else {place // PAGE}


def struck(data, original, damages, means):
    """For each damage: itself, and what became of a reader with these means of `oracle`. Runs in a child process."""
    for damage in damages:
        with tempfile.TemporaryDirectory(dir=memory()) as folder:
            (Path(folder) / "data.mdb").write_bytes(damaged(data, *damage))
            yield damage, forked(lambda folder=folder: judge(folder, original, getattr(oracle, means)))


def judge(folder, original, means):
    """
    What a reader is told of a file, by LMDB, by the library, and by these means: a function that gives findings.

    Returns:
        A kind and a word more: "refused" by an error of this library, "named" by a finding, "harmless" where nothing that
        is said has changed, "older" where all is as it was one commit before, "unclear" where an error is none of this
        library's, "silent" where something has changed and nobody says so.
    """
    try:
        log = LmdbLog(folder)
        found = means(log)
        said = oracle.content(log)
        log.close()
    except PluperfectError as error:
        return "refused", type(error).__name__
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1].name
        return "unclear", f"{error!r} in {where}"
    if found:
        return "named", found[0].split(":")[0]
    if said == original:
        return "harmless", ""
    if said["log"] == original["log"][: len(said["log"])]:
        return "older", ""
    changed = [table for table in said if said[table] != original[table]]
    return "silent", ", ".join(changed)

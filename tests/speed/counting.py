"""Counts what one more call costs: a work is done with more and with fewer calls, and the difference is divided."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "subjects"))

import ours

import pluperfect
from pluperfect import flow

FEW, MANY = 20, 70
ROOMS = ("pluperfect", "pluperfect_store", "pluperfect_plugins")
PLUGINS = "pluperfect_plugins"


def lead(name, count, log, level="lazy"):
    ours._failed.clear()
    answer = ours.FLOWS[name].with_options(durability=level)(count)
    if ours.FLOWS[name].is_async:
        asyncio.run(answer)
    log.log.flush()


def traced(name, count, log, place):
    """Byte codes of this library that the calling thread carried out, and its calls, by ``place(module, code)``."""
    codes, calls = Counter(), Counter()

    def trace(frame, event, arg):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in ROOMS:
            return None
        if event == "call":
            calls[place(module, frame.f_code)] += 1
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            codes[place(module, frame.f_code)] += 1
        return trace

    sys.settrace(trace)
    try:
        lead(name, count, log)
    finally:
        sys.settrace(None)
    return codes, calls


def steps(name, count, log):
    """Byte codes, calls, and calls of plugins among them."""
    codes, calls = traced(name, count, log, lambda module, code: module.partition(".")[0])
    return {"opcodes": codes.total(), "calls": calls.total(), "hooks": calls[PLUGINS]}


def commits(calls):
    """Synced transactions for one call that nobody may lose."""
    with tempfile.TemporaryDirectory() as folder, pluperfect.open(f"lmdb:{folder}/runs", entry_points=False) as log:
        lead("sequential", FEW, log, "effect")
        before = transactions(folder)
        lead("sequential", calls, log, "effect")
        return round((transactions(folder) - before) / calls, 1)


def transactions(folder):
    """How many were committed. Asked from another process: LMDB opens a file only once in each."""
    look = f"import lmdb; print(lmdb.open({folder + '/runs'!r}, readonly=True, lock=False).info()['last_txnid'])"
    return int(subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout)


@flow(durability="lazy")
def keeping(how, calls):
    """How many blocks of memory are kept for one call that has ended, while its flow goes on, and how many objects to collect."""

    def blocks():
        keeping.log.log.flush()
        ours.noop(0)  # the writer keeps its last batch: however large that was, it is of one call now
        keeping.log.log.flush()
        gc.collect()
        return sys.getallocatedblocks(), len(gc.get_objects())

    for number in range(FEW):
        ours.noop(number)
    ours.noop.map(range(FEW)).result()
    before = blocks()
    if how == "map":
        futures = ours.noop.map(range(calls))
        futures.result()
    else:
        for number in range(calls):
            ours.noop(number % 100)  # greater numbers are remembered for a while, with the run that gave them
    return [round((now - then) / calls, 1) for now, then in zip(blocks(), before, strict=True)]


def kept(how):
    with tempfile.TemporaryDirectory() as folder, pluperfect.open(f"lmdb:{folder}/runs", entry_points=False) as log:
        keeping.__dict__["log"] = log
        keeping(how, MANY)
        return keeping(how, 10 * MANY)


def count(name):
    with pluperfect.open("memory:", entry_points=False) as log:
        lead(name, max(FEW, ours.KEYS if name == "cached" else 0), log)
        few, many = steps(name, FEW, log), steps(name, MANY, log)
        told = {key: round((many[key] - few[key]) / (MANY - FEW), 1) for key in ("opcodes", "calls", "hooks")}
    with tempfile.TemporaryDirectory() as folder, pluperfect.open(f"lmdb:{folder}/runs", entry_points=False) as log:
        lead(name, max(FEW, ours.KEYS if name == "cached" else 0), log)
        sizes = []
        for calls in (FEW, MANY):
            before = log.log.position()
            lead(name, calls, log)
            rows = log.log.feed(before, 100_000)
            sizes.append((sum(len(row) for _, row in rows), len(rows)))
        told["bytes"] = round((sizes[1][0] - sizes[0][0]) / (MANY - FEW), 1)
        told["records"] = round((sizes[1][1] - sizes[0][1]) / (MANY - FEW), 1)
    if name == "sequential":
        told["commits"] = commits(MANY)
        told["blocks kept"], told["objects kept"] = kept("calls")
        told["blocks kept for a future"], told["objects kept for a future"] = kept("map")
    return told


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(count(sys.argv[1])))

"""
Traces of the real store: a program that notes what it does, and the log that it leaves.

What was recorded, by whom and in which order, is read from the log. What was done outside of it stands in the
notes, a file to which all processes append: a body began, an outcome was shown, a process died. Each line has
the position of the log that its writer saw then, so that it comes after that record and before the next one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pluperfect
from checkers import whole
from pluperfect import records
from pluperfect.states import Failed, Retrying, Running
from pluperfect.transitions import Transition

PROGRAM = '''
import os, queue, sys, threading
import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.cache_policies import INPUTS
from pluperfect.runtime import flow_run, task_run

store, notes, level = sys.argv[1:]
file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
asked = queue.Queue()

def note(word, run, attempt=0, loop=0):
    line = f"{word} {log.log.position()} {run.replace('-', '')} {attempt} {loop}"
    os.write(file, (line + "\\n").encode())

def begins():
    note("user", task_run.id, task_run.run_count, task_run.loop_count)

@task(retries=2)
def shaky(x):
    begins()
    if task_run.run_count == 1:
        raise ConnectionError
    return x

@task
def counts():
    begins()
    n = task_run.loop_result or 0
    if n == 3:
        return n
    raise LOOP(result=n + 1)

@task(cache_policy=INPUTS)
def square(x):
    begins()
    return x * x

@task(on_interrupt="fail", durability="effect")
def once(x):
    begins()
    return x

@flow
def part(x):
    note("user", flow_run.id, flow_run.run_count)
    return shaky(x) + square(x)

@flow(retries=1, durability=level)
def job():
    note("user", flow_run.id, flow_run.run_count)
    found = [shaky(1), counts(), part(2), square(3)]
    futures = [*square.map(range(3, 6)), counts.submit(), once.submit(7)]
    for future in futures:
        asked.put(future)
    for future in futures:
        future.wait()
    if flow_run.run_count == 1:
        raise ConnectionError
    return found

def asks():
    """Somebody outside of the flow, who is shown what its calls came to."""
    while (future := asked.get()) is not None:
        future.result(raise_on_failure=False)
        note("ack", str(future.task_run_id))

with pluperfect.open(store, entry_points=False) as log:
    outside = threading.Thread(target=asks, daemon=True)
    outside.start()
    job.with_options(idempotency_key="job")(return_state=True)  # also where the call in doubt has failed it
    (root,) = log.runs(roots=True)
    note("ack", root.folded.id.hex())
    asked.put(None)
    outside.join()
'''


class Recorder:
    """One store, the program on it, killed and resumed, and the trace of it all."""

    def __init__(self, folder, level="effect"):
        self.folder, self.level = folder, level
        folder.mkdir()
        self.notes, self.script = folder / "notes", folder / "program.py"
        self.script.write_text(PROGRAM)
        self.notes.touch()
        self.store = f"lmdb:{folder / 'runs'}"
        self.owners = {}  # the process that wrote each epoch
        self.processes = 0

    def start(self):
        self.processes += 1
        arguments = [str(self.script), self.store, str(self.notes), self.level]
        return subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE)

    def run(self, *, kill_after=None, then=0.0):
        """
        Run the program to its end, or kill it so many notes, and some seconds, after it has started.

        Returns:
            Whether it came to its end.
        """
        lines, process = self.lines(), self.start()
        while kill_after is not None and process.poll() is None:
            if self.lines() >= lines + kill_after:
                time.sleep(then)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.0005)
        _, errors = process.communicate()
        ended = process.returncode == 0
        assert ended or process.returncode == -signal.SIGKILL, errors.decode()
        self.buried()
        return ended

    def lines(self):
        return self.notes.read_bytes().count(b"\n")

    def buried(self):
        """The process is gone: what was written since the last one went was its own."""
        name = f"p{self.processes}"
        stored = self.read()
        for _, data in stored:
            self.owners.setdefault(records.open_record(data).epoch, name)
        # An exit is a kill at a moment when nothing is left to lose.
        with self.notes.open("a") as file:
            file.write(f"kill {len(stored)} {name} 0 0\n")

    def read(self):
        with pluperfect.open(self.store, entry_points=False) as log:
            return whole(log.log)

    def trace(self):
        """The steps, as `traces.follow` takes them."""
        steps, numbers, starts, last = [], {}, {}, {}
        notes = sorted(
            ((int(line.split()[1]), n, line.split()) for n, line in enumerate(self.notes.read_text().splitlines())),
            reverse=True,
        )
        rows = [(position, records.open_row(data)) for position, data in self.read()]
        # What the store notes of itself moves no run.
        stored = [(position, None if row.record.type.startswith("store/") else row) for position, row in rows]
        for _, row in stored:
            if row is None:
                continue
            number = numbers.setdefault(row.record.run, len(numbers))
            state = row.entry().to
            if isinstance(state, Running):
                mine = starts.setdefault(number, [])
                mine.append((state.attempt, state.loop_count))
        epoch, unsynced = 0, False
        for position, row in [(0, None), *stored]:
            if row is not None:
                record = row.record
                while epoch < record.epoch:
                    epoch += 1
                    # An epoch of which the log has nothing was taken by somebody who died of it.
                    owner = self.owners.get(epoch, "nobody")
                    steps.append({"a": "acquire", "p": owner, "epoch": epoch})
                    if owner == "nobody":
                        steps.append({"a": "kill", "p": owner})
                steps.append(self.append(row, numbers[record.run], last))
                unsynced = True
            while notes and notes[-1][0] == position:
                _, _, (word, _, who, attempt, loop) = notes.pop()
                if word == "kill":
                    steps.append({"a": "kill", "p": who})
                    continue
                process = self.process_of(steps, notes)
                if unsynced:
                    # It can be seen, so its commit has returned; or its process is gone, and opening has synced it.
                    steps.append({"a": "sync"})
                    unsynced = False
                run = numbers.get(bytes.fromhex(who), len(numbers))
                if word == "ack":
                    steps.append({"a": "ack", "p": process, "r": run})
                else:
                    place, mine = (int(attempt), int(loop) or 1), starts.get(run, [])
                    n = mine.index(place) + 1 if place in mine else 0
                    steps.append({"a": "user", "p": process, "r": run, "n": n})
        assert not notes, notes
        return steps

    def append(self, row, number, last):
        record, entry = row.record, row.entry()
        assert isinstance(entry, Transition), entry
        state, before = entry.to, last.get(number)
        last[number] = state.kind
        why = "body" if before == "Running" else ""
        if isinstance(state, Retrying | Failed) and state.cause in ("interrupted", "in_doubt"):
            why = state.cause
        return {
            "a": "append",
            "p": self.owners[record.epoch],
            "r": number,
            "epoch": record.epoch,
            "seq": record.seq,
            "st": state.kind,
            "why": why,
        }

    @staticmethod
    def process_of(steps, notes):
        """Who wrote a note: processes follow one another, so the one that dies next."""
        return next(words[2] for _, _, (*words, _, _) in reversed(notes) if words[0] == "kill")

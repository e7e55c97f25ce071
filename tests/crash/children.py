"""
Work that may kill its process: done in forks of two child processes, so that a signal is an outcome and no accident.

The children have one thread and open no store themselves, so that they can fork at any time.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
WORKERS = 2
PATIENCE = 60  # seconds; what takes longer hangs, and dies of SIGALRM


class Outcome(NamedTuple):
    """
    What became of one piece of work.

    ``how`` is "returned", "raised" or "died"; ``what`` the answer, the text of the error, or the name of the signal.
    """

    how: str
    what: object


def forked(work, patience=PATIENCE):
    """Do this in a fork of this process, and wait for its outcome."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LMDB says there why it aborts
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(patience)
            try:
                outcome = Outcome("returned", work())
            except BaseException:
                outcome = Outcome("raised", traceback.format_exc())
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(outcome, pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Outcome("died", signal.Signals(os.WTERMSIG(status)).name)
    return pickle.loads(answer)


def environment(**more):
    """That of a child process, which finds the modules of the tests."""
    return {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1", **more}


def spread(jobs, shares, timeout=600, prefix=(), **env):
    """
    Run ``jobs(*share)`` in a child process for each share, two at a time, and give all that they yield, in a list.

    Args:
        jobs: A generator at the top of an importable module. What it yields has to be picklable.
        shares: The arguments, one tuple for each child.
        timeout: Seconds for a child.
        prefix: A command that is to run the child.
        env: More of its environment.
    """

    def run(share):
        done = subprocess.run(
            [*prefix, sys.executable, "-c", "from crash import children; children.serve()"],
            input=pickle.dumps((jobs, share)),
            capture_output=True,
            env=environment(**env),
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr.decode()}"
        return pickle.loads(done.stdout)

    with ThreadPoolExecutor(WORKERS) as pool:
        return [result for share in pool.map(run, shares) for result in share]


def serve():
    """The child's side of `spread`."""
    jobs, share = pickle.load(sys.stdin.buffer)
    answer = os.dup(1)
    os.dup2(2, 1)
    results = list(jobs(*share))
    with os.fdopen(answer, "wb") as pipe:
        pickle.dump(results, pipe)

"""Programs in processes of their own, for tests that kill."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PROLOGUE = """
import os, signal, sys, threading, time
from pathlib import Path
from pluperfect.errors import *
from pluperfect_store.conformance import *
from pluperfect_store.lmdb import LmdbLog
path = Path(sys.argv[1])
"""


class Program:
    """A Python program in a process of its own, which is ended with the test."""

    def __init__(self, text, path, *arguments, uid=None):
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", PROLOGUE + textwrap.dedent(text), str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=uid,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def line(self):
        """The next line that it prints."""
        line = self.process.stdout.readline().strip()
        if not line:
            raise AssertionError(self.process.stderr.read())
        return line

    def say(self, text="go"):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self):
        """Wait for its end; what it printed since the last `line`."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, f"exit {self.process.returncode}\n{out}\n{err}"
        return out.split()

    def kill(self, how=9):
        self.process.send_signal(how)
        return self.process.communicate(timeout=60)


@pytest.fixture
def program():
    """Starts a program: ``program(text, path, *arguments)``; ``path``, ``LmdbLog`` and the conformance helpers are its names."""
    started = []

    def start(*arguments, **options):
        started.append(Program(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()
        for pipe in (one.process.stdin, one.process.stdout, one.process.stderr):
            pipe.close()

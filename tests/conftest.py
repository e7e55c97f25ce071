from __future__ import annotations

import os
import platform
import re
import signal
from importlib.metadata import version
from pathlib import Path

import pytest

import pluperfect
from pluperfect.testing import FakeClock

COUNTED = re.compile(r"^(?P<what>[a-z][\w -]*): seed (?P<seed>\w+), (?P<counts>.+)$", re.MULTILINE)
"""What a test prints that counts what it tried: "kills: seed 2, 100 kills, 101 runs ended right"."""

EVIDENCE = """# Evidence

What was tried to break the promises of `specs/invariants.md`, counted by the tests themselves. `make evidence` runs the long
tests and writes this page. A control is a store with a part of its safety taken out: there the same harness has to find losses
or damage. With a seed, a command draws the same numbers again; threads and kills still fall as they like.

Python {python}, lmdb {lmdb}, {system}.

| what | seed | count | result | command |
|---|---|---|---|---|
{rows}
"""


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log(clock):
    with pluperfect.open("memory:", clock=clock, entry_points=False) as opened:
        yield opened
        assert opened.compare() == []
        assert [str(o) for o in opened.rejudge()] == []


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite", action="store_true", help="write the transcripts in specs/scenarios anew; read the diff"
    )
    parser.addoption("--evidence", metavar="PATH", help="write a table of what the tests counted to this file")


def pytest_configure(config):
    # A shell that starts this in the background has SIGINT ignored, here and in every process that a test starts.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter, config):
    """Gather what the tests counted."""
    path = config.getoption("--evidence")
    if path:
        rows = [row for outcome in ("passed", "failed", "skipped") for row in _rows(terminalreporter, outcome)]
        facts = {"python": platform.python_version(), "lmdb": version("lmdb"), "system": platform.system()}
        Path(path).write_text(EVIDENCE.format(rows="\n".join(sorted(rows)), **facts))


def _rows(terminalreporter, outcome):
    for report in terminalreporter.stats.get(outcome, ()):
        command = f"pytest {report.nodeid}"
        if outcome == "skipped":
            yield f"| {report.nodeid.partition('::')[2]} | | | skipped: {report.longrepr[2]} | `{command}` |"
        for found in COUNTED.finditer(report.capstdout) if report.when == "call" else ():
            what, seed, counts = found.group("what", "seed", "counts")
            held = "found, as it must be" if what.startswith("control") else "held"
            drawn = f"PLUPERFECT_SEED={seed} " if seed.isdigit() else ""
            yield f"| {what} | {seed} | {counts} | {held if outcome == 'passed' else '**failed**'} | `{drawn}{command}` |"


@pytest.fixture(scope="session", autouse=True)
def _a_home_of_their_own(tmp_path_factory):
    """Whoever runs the tests has settings and runs; they are neither read nor written here."""
    mine = [name for name in os.environ if name.startswith("PLUPERFECT_") and name != "PLUPERFECT_SEED"]
    before = {name: os.environ.pop(name) for name in mine}
    os.environ["PLUPERFECT_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    del os.environ["PLUPERFECT_HOME"]
    os.environ.update(before)


@pytest.fixture
def seed():
    """A function that gives the seed: PLUPERFECT_SEED where it is set, else the test's own."""
    return lambda own: int(os.environ.get("PLUPERFECT_SEED", own))

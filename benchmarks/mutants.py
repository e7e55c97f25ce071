"""
What a replay catches: the same changes to the same program, at this library and at its peers.

    python benchmarks/mutants.py                  this library alone: the program below, and the whole corpus of the tests
    benchmarks/peers/install.sh FOLDER            the peers, each in an environment of its own
    python benchmarks/mutants.py FOLDER [-v]      beside them; with what each of them says

A run of the program is recorded, the program is changed, and the recorded run is led through the changed program by what each
system offers for that: this library's replay, Temporal's replayer, DBOS's recovery of a pending workflow, LangGraph's resuming of
an interrupted one. A change is caught where the system says so, by an error or a report; one that is carried out in silence is not.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pluperfect
from pluperfect import flow, task

HERE = Path(__file__).resolve().parent

PROGRAM = """
OPTIONS = {"fetch": {"retries": 2, "timeout": 60}}

def fetch(page, size=10):
    return page * size

def clean(value):
    return value + 1

def audit(value):
    return value

def store(value, label="t"):
    return f"{label}{value}"

async def program(run, start):
    raw = await run(fetch, start)
    neat = await run(clean, raw)
    if neat > 5:
        await run(audit, neat)
    else:
        await run(store, 0)
    found = []
    for page in range(3):
        found.append(await run(fetch, page))
    done = await run(store, neat, "t")
    last = await run(audit, 7)
    return [done, neat, last, sum(found)]
"""

_DONE = '    done = await run(store, neat, "t")\n'
_LAST = "    last = await run(audit, 7)\n"

MUTANTS = [
    ("argument changed", "audit, 7", "audit, 8"),
    ("default changed", "size=10", "size=11"),
    ("option changed (retries)", '"retries": 2', '"retries": 3'),
    ("timeout changed", '"timeout": 60', '"timeout": 61'),
    ("call dropped", "await run(audit, neat)", "pass"),
    ("last call dropped (leftover)", "last = await run(audit, 7)", "last = 7"),
    ("call inserted", _DONE, f"    await run(audit, 1)\n{_DONE}"),
    ("call inserted at the end", _LAST, f"{_LAST}    await run(audit, 1)\n"),
    ("calls swapped", _DONE + _LAST, _LAST + _DONE),
    ("call renamed", "audit", "checked"),
    ("conditional flipped", "> 5", "<= 5"),
    ("number of calls changed", "range(3)", "range(2)"),
    ("final result changed", "return [done,", "return [done + done,"),
]

NEUTRAL = [
    ("variable renamed", "neat", "tidy"),
    ("comment added", "    found = []", "    # the pages\n    found = []"),
    ("loop written otherwise", "range(3)", "(0, 1, 2)"),
]

PEERS = ("temporal", "dbos", "langgraph")

NOT_EXPRESSED = {("timeout changed", "dbos"), ("timeout changed", "langgraph")}
"""What the program at a peer does not say, so that it cannot be changed there: its calls have no timeout of their own."""


def edited(old: str, new: str) -> str:
    """The program with a text replaced wherever it stands."""
    assert old in PROGRAM
    return PROGRAM.replace(old, new)


def made(source: str) -> Any:
    """The program as a flow of this library."""
    names: dict[str, Any] = {"__name__": "mutants"}
    exec(source, names)
    tasks: dict[Any, Any] = {}
    for name, function in list(names.items()):
        if callable(function) and name not in ("program", "__builtins__"):
            given = names["OPTIONS"].get(name, {})
            options = {"retries": given["retries"], "timeout_seconds": given["timeout"]} if given else {}
            tasks[function] = task(**options)(function)

    async def run(function: Any, *args: Any) -> Any:
        return tasks[function](*args)

    @flow(name="program")
    async def program(start: int) -> Any:
        return await names["program"](run, start)

    return program


def ours(sources: list[str]) -> list[str]:
    """What this library says of each program."""
    found = []
    with pluperfect.open("memory:") as log:
        asyncio.run(made(PROGRAM)(1))
        for source in sources:
            replay = log.replay("program", made(source))
            found.append("" if replay.first is None else f"{replay.first.part}: {replay.first.recorded.what}")
    return found


def theirs(folder: Path, name: str, sources: list[str]) -> list[str] | None:
    """What a peer says of each program; None where it is not installed."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        return None
    done = subprocess.run(
        [python, HERE / "peers" / f"{name}.py"],
        input=json.dumps({"program": PROGRAM, "sources": sources}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def corpus() -> tuple[int, int, int, int]:
    """The corpus of the tests: mutants caught of how many, neutral edits that pass of how many."""
    sys.path.insert(0, str(HERE.parent / "tests" / "replay"))
    import corpus as tests

    with pluperfect.open("memory:") as log, redirect_stdout(io.StringIO()):
        runs = {}
        for shape, source in tests.PROGRAMS.items():
            program = tests.load(source + tests.HELPERS)
            begun = program()
            if program.is_async:
                asyncio.run(begun)
            runs[shape] = log.run("program").id

        def outcome(edit: Any, *, bodies: bool) -> str:
            return log.replay(runs[edit.shape], tests.load(tests.edited(edit)), bodies=bodies).outcome

        caught = sum(outcome(mutant, bodies=mutant.bodies) == "diverged" for mutant in tests.MUTANTS)
        passed = sum(outcome(edit, bodies=True) == "same" for edit in tests.NEUTRAL)
    return caught, len(tests.MUTANTS), passed, len(tests.NEUTRAL)


def main() -> None:
    """Print the table."""
    logging.disable(logging.CRITICAL)
    sources = [edited(old, new) for _, old, new in [*MUTANTS, *NEUTRAL]]
    columns = {"pluperfect": ours(sources)}
    if len(sys.argv) > 1:
        for name in PEERS:
            said = theirs(Path(sys.argv[1]), name, sources)
            if said is not None:
                columns[name] = said
    print(f"{'change':<30}", *(f"{name:<11}" for name in columns))
    for place, (kind, _, _) in enumerate([*MUTANTS, *NEUTRAL]):
        words = ("caught", "-") if place < len(MUTANTS) else ("FALSE ALARM", "passes")
        told = [
            "n/a" if (kind, name) in NOT_EXPRESSED else words[0] if said[place] else words[1]
            for name, said in columns.items()
        ]
        print(f"{kind:<30}", *(f"{word:<11}" for word in told))
        if "-v" in sys.argv:
            for name, said in columns.items():
                if said[place]:
                    print(f"    {name}: {said[place][:200]}")
    count = len(MUTANTS)
    print(f"{'caught of ' + str(count):<30}", *(f"{sum(map(bool, said[:count])):<11}" for said in columns.values()))
    caught, mutants, passed, neutral = corpus()
    print(f"\nthe corpus of the tests: {caught} of {mutants} mutants caught, {passed} of {neutral} neutral edits pass")


if __name__ == "__main__":
    main()

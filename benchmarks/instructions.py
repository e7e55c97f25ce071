"""
How many instructions of the processor one call takes, as cachegrind counts them; byte codes do not show what each of them costs.

It needs valgrind, and is the difference of two runs, so that what happens once is not in it:

    python benchmarks/instructions.py sequential.lazy gather.lazy
    python benchmarks/instructions.py --constructs           # and what Python takes for things that look small

Two counts of the same work lie within 1 %, of submitted calls within 3. `tests/speed` asserts them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "subjects"))

import ours

FEW, MANY = 200, 600
CONSTRUCTS = {
    "a function of two": ("def f(a, b): return None", "f(1, 2)"),
    "the same, one by name": ("def f(a, *, b): return None", "f(1, b=2)"),
    "a method": ("class C:\n  def m(self, a, b): return None\nc = C()", "c.m(1, 2)"),
    "an object that is called": ("class C:\n  def __call__(self, a, b): return None\nc = C()", "c(1, 2)"),
    "an attribute": ("class C: __slots__ = ('a',)\nc = C(); c.a = 1", "c.a"),
    "a property": ("class C:\n  @property\n  def a(self): return None\nc = C()", "c.a"),
    "an object with __init__": (
        "class C:\n  __slots__ = ('a', 'b')\n  def __init__(self, a, b): self.a, self.b = a, b",
        "C(1, 2)",
    ),
    "the same as a Struct": ("import msgspec\nclass C(msgspec.Struct):\n  a: int\n  b: int", "C(1, 2)"),
    "a loop over two": ("t = (1, 2)", "for x in t: pass"),
    "the same with enumerate": ("t = (1, 2)", "for i, x in enumerate(t): pass"),
    "a loop over nothing": ("t = ()", "for x in t: pass"),
    "a tuple of nothing": ("t = []", "(*t,)"),
    "a range, indexed twice": ("pass", "r = range(3, 6); r[0]; r[-1]"),
    "types held against a set, as a set": ("P = frozenset({int}); t = (1,)", "set(map(type, t)) <= P"),
    "the same by issuperset": ("P = frozenset({int}); t = (1,)", "P.issuperset(map(type, t))"),
    "a lock, by with": ("import threading\nl = threading.Lock()", "with l: pass"),
    "SHA-256 of 100 bytes": ("from hashlib import sha256\nd = b'x' * 100", "sha256(d).digest()"),
}


def carry_out(work: str, count: int) -> None:
    """The work itself, in the process that is counted."""
    import logging

    from pluperfect.authoring.sessions import HOLDS
    from pluperfect_store import environment, writer

    logging.disable()
    environment.MAP_SIZE = 1 << 28  # type: ignore[misc] - valgrind has no room for more
    # All is fifty times as slow there: what goes by the clock would go otherwise than it does.
    HOLDS["lazy"] = 1_000.0
    writer._QUICK = 1_000.0  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        ours.WORKS[work](count, folder)()
    os._exit(0)


def counted(work: str, count: int) -> int:
    """The instructions of a whole process that carries out so much of a work."""
    return _counted([__file__, "--inner", work, str(count)], work)


def _counted(arguments: list[str], work: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/out"]
        command += [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(r"I +refs: +([\d,]+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{work} was not counted: {done.stderr[-1_000:]}")
    return int(found[-1].replace(",", ""))  # the last to end is the process itself; what it forked came before


def of_one_call(work: str) -> int:
    """The instructions that one more call takes."""
    counted(work, 10)  # so that everything is compiled
    return (counted(work, MANY) - counted(work, FEW)) // (MANY - FEW)


def of_one_construct(before: str, statement: str) -> int:
    """The instructions that one more turn of a loop takes with this in it."""

    def counted_with(count: int) -> int:
        lines = [*before.split("\n"), f"for _ in range({count}):", f"  {statement}"]
        return _counted(["-c", "\n".join(["def main():", *(f"  {line}" for line in lines), "main()"])], statement)

    return (counted_with(6_000) - counted_with(1_000)) // 5_000


def main() -> None:
    """Count each work that is named."""
    if sys.argv[1:2] == ["--inner"]:
        carry_out(sys.argv[2], int(sys.argv[3]))
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("works", nargs="*", metavar="work", help="such as map.lazy; sequential.lazy where none is named")
    asked.add_argument("--constructs", action="store_true", help="what Python takes for things that look small")
    given = asked.parse_args()
    if unknown := sorted(set(given.works) - set(ours.WORKS)):
        asked.error(f"no such work: {', '.join(unknown)}; there are {', '.join(ours.WORKS)}")
    if given.constructs:
        turn = of_one_construct("pass", "pass")
        for what, (before, statement) in CONSTRUCTS.items():
            print(f"{what:35} {of_one_construct(before, statement) - turn:7,}")
        return
    for work in given.works or ["sequential.lazy"]:
        print(f"{work:20} {of_one_call(work):12,} instructions for a call")


if __name__ == "__main__":
    main()

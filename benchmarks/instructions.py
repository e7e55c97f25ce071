"""
How many instructions of the processor one call takes, as cachegrind counts them; byte codes do not show what each of them costs.

It needs valgrind, and is the difference of two runs, so that what happens once is not in it:

    python benchmarks/instructions.py sequential.lazy gather.lazy

Two counts of the same work lie within 1 %, of submitted calls within 3. `tests/speed` asserts them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FEW, MANY = 200, 600


def carry_out(work: str, count: int) -> None:
    """The work itself, in the process that is counted."""
    sys.path.insert(0, str(Path(__file__).parent / "subjects"))
    import logging

    import ours

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
    """The instructions of a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/out"]
        command += [sys.executable, __file__, "--inner", work, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(r"I +refs: +([\d,]+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{work} was not counted: {done.stderr[-1_000:]}")
    return int(found[-1].replace(",", ""))  # the last to end is the process itself; what it forked came before


def of_one_call(work: str) -> int:
    """The instructions that one more call takes."""
    counted(work, 10)  # so that everything is compiled
    return (counted(work, MANY) - counted(work, FEW)) // (MANY - FEW)


def main() -> None:
    """Count each work that is named."""
    if sys.argv[1:2] == ["--inner"]:
        carry_out(sys.argv[2], int(sys.argv[3]))
    for work in sys.argv[1:] or ["sequential.lazy"]:
        print(f"{work:20} {of_one_call(work):12,} instructions for a call")


if __name__ == "__main__":
    main()

"""
Where the byte codes of one call go, module by module: what no clock and no neighbour changes.

    python benchmarks/rooms.py sequential            # or submit, map, loop, retry, cached, subflow, gather
    python benchmarks/rooms.py sequential --functions

Counted is the thread that makes the call, over a store on disk; what the writer's thread does besides is not.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "subjects"), str(HERE.parent / "tests" / "speed")]

import counting  # noqa: E402

import pluperfect  # noqa: E402

FEW, MANY = 20, 120


def counted(name: str, count: int, log: Any, *, functions: bool) -> tuple[Counter[str], Counter[str]]:
    """Byte codes and calls of a work, by module or function."""
    codes: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in counting.ROOMS:
            return None
        place = f"{module}.{frame.f_code.co_qualname}" if functions else module
        if event == "call":
            calls[place] += 1
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            codes[place] += 1
        return trace

    sys.settrace(trace)
    try:
        counting.lead(name, count, log)
    finally:
        sys.settrace(None)
    return codes, calls


def main() -> None:
    """Count and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("work", choices=sorted(counting.ours.FLOWS))
    asked.add_argument("--functions", action="store_true", help="function by function")
    given = asked.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, pluperfect.open(f"lmdb:{folder}/runs", entry_points=False) as log:
        counting.lead(given.work, MANY, log)
        few, few_calls = counted(given.work, FEW, log, functions=given.functions)
        many, many_calls = counted(given.work, MANY, log, functions=given.functions)
    share = MANY - FEW
    total = (many.total() - few.total()) / share
    print(f"{given.work}: {total:.0f} byte codes in {(many_calls.total() - few_calls.total()) / share:.0f} calls")
    for place, codes in (many - few).most_common(40):
        if codes >= share:
            calls = (many_calls[place] - few_calls[place]) / share
            print(f"{codes / share:8.0f} {codes / share / total:5.0%} {calls:6.1f}  {place}")


if __name__ == "__main__":
    main()

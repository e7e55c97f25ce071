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
from pathlib import Path
from types import CodeType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "subjects"), str(HERE.parent / "tests" / "speed")]

import counting  # noqa: E402

import pluperfect  # noqa: E402

FEW, MANY = 20, 120


def main() -> None:
    """Count and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("work", choices=sorted(counting.ours.FLOWS))
    asked.add_argument("--functions", action="store_true", help="function by function")
    given = asked.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, pluperfect.open(f"lmdb:{folder}/runs", entry_points=False) as log:
        counting.lead(given.work, MANY, log)

        def place(module: str, code: CodeType) -> str:
            return f"{module}.{code.co_qualname}" if given.functions else module

        few, few_calls = counting.traced(given.work, FEW, log, place)
        many, many_calls = counting.traced(given.work, MANY, log, place)
    share = MANY - FEW
    total = (many.total() - few.total()) / share
    print(f"{given.work}: {total:.0f} byte codes in {(many_calls.total() - few_calls.total()) / share:.0f} calls")
    for place, codes in (many - few).most_common(40):
        if codes >= share:
            calls = (many_calls[place] - few_calls[place]) / share
            print(f"{codes / share:8.0f} {codes / share / total:5.0%} {calls:6.1f}  {place}")


if __name__ == "__main__":
    main()

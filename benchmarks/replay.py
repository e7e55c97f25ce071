"""
How long a replay of code takes.

    python benchmarks/replay.py [CALLS]    ten thousand where left out
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time

import pluperfect
from pluperfect import flow, task


@task
def one(n: int) -> int:
    """A task."""
    return n


@task
async def later(n: int) -> int:
    """An async task."""
    return n


@flow(durability="lazy")
def direct(count: int) -> int:
    """One call after the other."""
    return sum(one(n) for n in range(count))


@flow(durability="lazy")
def mapped(count: int) -> int:
    """One map."""
    return sum(one.map(range(count)).result())


@flow(durability="lazy")
async def gathered(count: int) -> int:
    """Calls side by side."""
    return sum(await asyncio.gather(*(later(n) for n in range(count))))


def main() -> None:
    """Record a run of each flow, and replay it."""
    logging.disable(logging.CRITICAL)
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder, pluperfect.open(f"lmdb:{folder}/runs") as log:
        for made in (direct, mapped, gathered):
            begun = time.monotonic()
            answer = made(calls)
            if made.is_async:
                asyncio.run(answer)
            ran = time.monotonic() - begun
            begun = time.monotonic()
            found = log.replay(made.name, made)
            took = time.monotonic() - begun
            print(f"{made.name:<10} {calls} calls: run {ran:.1f} s, replayed {took:.1f} s, {found.outcome}")


if __name__ == "__main__":
    main()

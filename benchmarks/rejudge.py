"""
How long it takes to fold a log again and to ask rules about every proposal in it.

    python benchmarks/rejudge.py [TRANSITIONS]    100,000 where left out

The log has trees of 100 tasks, of which every tenth is retried once. Reading and decoding are shown apart from folding and asking.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

import pluperfect
from pluperfect import Proposal, Verdict
from pluperfect.records import Record, decode_each
from pluperfect.states import PLAIN, Completed, Error, Failed, Packed, Retrying, Running
from pluperfect.transitions import Entry, Run, Transition, apply
from pluperfect_store.conformance import AT, born, new_id, part

CALLS = 100


def decoded(stored: list[bytes]) -> list[tuple[Record, Any]]:
    """All entries."""
    return list(decode_each(stored))


def fill(log: Any, transitions: int) -> None:
    """Append trees until there are so many transitions."""
    error = Error("builtins.ConnectionError", "busy", "Traceback ...")
    done = Completed(data=Packed(PLAIN, b"\xc4\x10" + new_id()))
    while log.position() < transitions:
        root = new_id()
        parts = []
        for place in range(CALLS):
            run = root if not place else root[:6] + new_id()[6:]
            birth = born(run, None if run == root else root, tags=("bench",))
            assert birth.spec is not None
            states: list[Any] = [replace(birth, spec=replace(birth.spec, options={"retries": 1})), Running()]
            if place % 10 == 1:
                retry = Retrying("busy", "error", AT + 3, error=error)
                states += [
                    Transition(3, AT + 3, retry, Failed("busy", error=error), "retries", "retry 1 of 1"),
                    Running(attempt=2),
                ]
            parts.append(part(run, root, 0, *states, done))
        ticket = log.append(parts, epoch=1)
        ticket.wait()


def no_second_attempt(run: Run, proposal: Proposal) -> Verdict | None:
    """The rule that is tried."""
    if proposal.to.is_running() and proposal.to.attempt > 1:
        return Verdict(refuse="one attempt is enough")
    return None


def timed(what: str, count: int, act: Callable[[], Any], times: int = 3) -> Any:
    """The best of some runs, in seconds of the clock and of the processor."""
    best, used, answer = float("inf"), float("inf"), None
    for _ in range(times):
        began, spent = time.perf_counter(), time.process_time()
        answer = act()
        best, used = min(best, time.perf_counter() - began), min(used, time.process_time() - spent)
    print(f"{what:<44} {best:6.2f} s, {used:5.2f} s of the processor: {count / used:>9,.0f} transitions/s", flush=True)
    return answer


def rows(log: Any) -> list[bytes]:
    """All rows, as they are stored."""
    found: list[bytes] = []
    after = 0
    while page := log.feed(after, 2_000):
        after = page[-1][0]
        found += [data for _, data in page]
    return found


def fold_and_ask(entries: list[tuple[Record, Entry | None]]) -> int:
    """The least that a judgement is: fold every run, and ask one rule about each proposal."""
    runs: dict[bytes, Run] = {}
    spoken = 0
    for record, entry in entries:
        assert entry is not None
        run = runs.get(record.run) or Run(record.run)
        asked = entry.asked if entry.to is None or entry.asked is not None else entry.to
        assert asked is not None
        spoken += no_second_attempt(run, Proposal(asked, entry.at, entry.facts)) is not None
        runs[record.run] = apply(run, entry)
    return spoken


def main() -> None:
    """Make a log in a temporary folder and measure."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with (
        tempfile.TemporaryDirectory() as folder,
        pluperfect.open(str(Path(folder) / "runs"), entry_points=False) as log,
    ):
        fill(log.log, wanted)
        count = log.log.position()
        gc.disable()  # a hundred thousand entries at once are this program's wish, not the library's
        stored = timed("read", count, partial(rows, log.log))
        entries = timed("decode", count, partial(decoded, stored))
        timed("fold, ask one rule", count, partial(fold_and_ask, entries))
        del stored, entries
        gc.enable()
        for what, given in (
            ("rejudge: one rule", {"rule": no_second_attempt}),
            ("rejudge: one rule among all", {"rule": no_second_attempt, "among": True}),
            ("rejudge: the built-in rules", {}),
        ):
            found = timed(what, count, lambda given=given: sum(1 for _ in log.rejudge(**given)))
            print(f"{'':<44} {found:,} of {count:,} would have gone otherwise")


if __name__ == "__main__":
    main()

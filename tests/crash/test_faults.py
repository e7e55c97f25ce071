"""Any single write or sync fails, comes to half, or is the last thing that the process does."""

from __future__ import annotations

from collections import Counter

import pytest

from crash import faults, power
from crash.children import WORKERS, spread


def every(shim, folder):
    """All faults that the program can meet."""
    trace = power.record(shim, folder / "trace", "faults", "rehearsal", folder / "runs", folder / "told")
    kinds = Counter(event.kind for event in trace)
    return [("w", n, how) for n in range(1, kinds["w"] + 1) for how in faults.WRITES] + [
        ("s", n, how) for n in range(1, kinds["s"] + 1) for how in faults.SYNCS
    ]


def judged(shim, chosen, of):
    """Have each of these faults, assert what must hold after each, and print a line that says all."""
    shares = [(chosen[share::WORKERS],) for share in range(WORKERS)]
    results = spread(faults.struck, shares, LD_PRELOAD=str(shim))
    ends = Counter()
    for fault, (how, what), after in results:
        assert after.how == "returned", (fault, how, what, after.what)
        if what == "not reached":  # threads of a flow share commits now and then, so that there are fewer of them
            ends["not reached"] += 1
        elif how == "died":
            assert fault[2] in faults.FATAL, (fault, what)
            assert what == "SIGKILL", (fault, what)
            ends["killed"] += 1
        else:
            assert how == "returned", (fault, what)
            assert fault[2] not in faults.FATAL, fault
            ends[" and ".join(what) or "no error"] += 1
    told = ", ".join(f"{number} {end}" for end, number in sorted(ends.items()))
    acknowledged = sum(after.what for _, _, after in results)
    print(
        f"faults at writes and syncs: seed none, {len(results)} of {of} faults, {acknowledged} acknowledged, 0 lost; {told}"
    )
    assert len(results) == len(chosen)
    assert ends["killed"]
    assert ends["StoreClosed"]
    assert ends["StoreFull"]
    return ends


def test_whatever_write_or_sync_fails_nothing_acknowledged_is_lost_and_writing_goes_on(shim, tmp_path):
    possible = every(shim, tmp_path)

    # Every 23rd: coprime to the number of ways to fail, so that each way is taken at writes of every kind.
    judged(shim, possible[::23], len(possible))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_at_every_write_and_sync_nothing_acknowledged_is_lost_and_writing_goes_on(shim, tmp_path):
    possible = every(shim, tmp_path)

    judged(shim, possible, len(possible))

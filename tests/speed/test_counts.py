"""What one call costs, in counts that no machine and no neighbour changes: they must not creep up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from recorded import ROOM, recorded

HERE = Path(__file__).resolve().parent
LEAST = {"blocks kept": 1.0, "objects kept": 1.0, "blocks kept for a future": 8.0, "objects kept for a future": 3.0}
"""What is around none has no tenth, and threads end their calls when they like."""
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"  # each counts its byte codes in its own way


@pytest.mark.parametrize("work", ["sequential", "loop", "retry", "cached", "subflow", "gather"])
def test_one_call_costs_no_more_than_it_did(work, pytestconfig):
    """`pytest --rewrite tests/speed` writes what it costs now: read the diff."""
    command = [sys.executable, HERE / "counting.py", work]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rewrite = pytestconfig.getoption("--rewrite")
    expected = recorded(HERE / "counts.json", VERSION, work, found if rewrite else None)
    assert expected is not None, f"nobody has counted it with Python {VERSION}: --rewrite does"
    assert found.keys() == expected.keys()
    more = {
        key: (value, expected[key])
        for key, value in found.items()
        if value > max(expected[key], 0.0) * ROOM + LEAST.get(key, 0)
    }
    assert not more, f"now and then, for one call of {work}: {more}"

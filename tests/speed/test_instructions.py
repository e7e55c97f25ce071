"""What one call costs the processor, as valgrind counts it: byte codes do not show what each of them costs."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))

import instructions  # noqa: E402

ROOM = 1.1
FLAGS = f"{sysconfig.get_config_var('CONFIG_ARGS')} {sysconfig.get_config_var('PY_CFLAGS')}"
BUILD = f"{platform.python_version()} {platform.machine()} {hashlib.sha256(FLAGS.encode()).hexdigest()[:8]}"
"""The same interpreter, built with other flags, takes others."""
WORKS = [
    *(f"{name}.lazy" for name in ("sequential", "submit", "map", "gather", "loop", "retry", "cached", "subflow")),
    "sequential.effect",
    "resume",
]


@pytest.mark.long
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind, which counts instructions, is not installed")
@pytest.mark.parametrize("work", WORKS)
def test_one_call_takes_no_more_instructions_than_it_did(work, pytestconfig):
    """`pytest --rewrite -m long tests/speed` writes what it takes now, for this build of Python: read the diff."""
    page = HERE / "instructions.json"
    known = json.loads(page.read_text())
    rewrite = pytestconfig.getoption("--rewrite")
    if not rewrite and work not in known.get(BUILD, {}):
        pytest.skip(f"what it takes was not recorded for this build of Python, {BUILD}")
    found = instructions.of_one_call(work)
    if rewrite:
        known.setdefault(BUILD, {})[work] = found
        page.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    assert found <= known[BUILD][work] * ROOM, (
        f"{found:,} instructions for one call of {work}, {known[BUILD][work]:,} once"
    )

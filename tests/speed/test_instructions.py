"""What one call costs the processor, as valgrind counts it: byte codes do not show what each of them costs."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from recorded import ROOM, recorded

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))

import instructions  # noqa: E402

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
    page, rewrite = HERE / "instructions.json", pytestconfig.getoption("--rewrite")
    if not rewrite and recorded(page, BUILD, work) is None:
        pytest.skip(f"what it takes was not recorded for this build of Python, {BUILD}")
    found = instructions.of_one_call(work)
    once = recorded(page, BUILD, work, found if rewrite else None)
    assert found <= once * ROOM, f"{found:,} instructions for one call of {work}, {once:,} once"

"""The shim, built by the system's C compiler where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]  # preloading, tmpfs and what a kill leaves are asked of Linux


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The path of the built shim."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        message = "no C compiler here, so that writes cannot be traced; install gcc to run this"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-lpthread"], check=True
    )
    return library

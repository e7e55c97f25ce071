from __future__ import annotations

import pytest

from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog
from processes import program

__all__ = ["program"]


@pytest.fixture(params=["memory", "lmdb"])
def log(request, tmp_path):
    """A fresh log, of each kind."""
    log = MemoryLog() if request.param == "memory" else LmdbLog(tmp_path / "runs")
    yield log
    log.close()


@pytest.fixture
def store(tmp_path):
    """A fresh log in a folder."""
    log = LmdbLog(tmp_path / "runs")
    yield log
    log.close()

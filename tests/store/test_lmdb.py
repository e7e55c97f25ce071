from __future__ import annotations

import pytest

from pluperfect_store.conformance import LogConformance
from pluperfect_store.lmdb import LmdbLog


class TestLmdbLog(LogConformance):
    @pytest.fixture
    def log(self, tmp_path):
        log = LmdbLog(tmp_path / "runs")
        yield log
        log.close()

    @pytest.fixture
    def reopen(self):
        return lambda log: LmdbLog(log.path)


class TestReopenedLmdbLog(TestLmdbLog):
    """The same promises, kept by a store that another opening has made, and with a map that has to grow."""

    @pytest.fixture
    def log(self, tmp_path):
        LmdbLog(tmp_path / "runs", map_size=128 << 10).close()
        log = LmdbLog(tmp_path / "runs", map_size=128 << 10)
        yield log
        log.close()

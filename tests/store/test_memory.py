from __future__ import annotations

import pytest

from pluperfect.errors import UnknownStore
from pluperfect_store.conformance import LogConformance, new_id, whole
from pluperfect_store.memory import MemoryLog, open_log


class TestMemoryLog(LogConformance):
    @pytest.fixture
    def log(self):
        log = MemoryLog()
        yield log
        log.close()


def test_each_log_in_memory_is_its_own():
    first, second = open_log("memory:"), open_log("memory:")
    first.append([whole(new_id())], epoch=1)

    assert (first.position(), second.position()) == (3, 0)


def test_a_log_in_memory_has_no_name():
    with pytest.raises(UnknownStore, match="has no name"):
        open_log("memory:mine")


@pytest.mark.parametrize("uri", ["memory", "lmdb:x", "", "memory-mapped:"])
def test_other_addresses_are_left_to_other_plugins(uri):
    assert open_log(uri) is None

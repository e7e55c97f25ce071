from __future__ import annotations

import pytest

from interrupting import interrupted
from pluperfect.errors import Fenced, UnknownStore
from pluperfect_store.conformance import LogConformance, born, new_id, part, whole
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


def test_another_owner_beside_sees_the_same_log_and_carries_out_only_what_the_first_let_go_of():
    first, root = MemoryLog(), new_id()
    second = first.beside()
    first.append([part(root, None, 0, born(root))], epoch=1, claim=True).wait()

    assert second.position() == 1
    with pytest.raises(Fenced, match="is carried out by process"):
        second.claim(root, 0.0)
    first.close()
    assert second.holder(root) is None
    assert second.claim(root, 0.0) == 2
    assert second.compare() == []


def test_a_log_in_memory_has_no_name():
    with pytest.raises(UnknownStore, match="has no name"):
        open_log("memory:mine")


@pytest.mark.parametrize("uri", ["memory", "lmdb:x", "", "memory-mapped:"])
def test_other_addresses_are_left_to_other_plugins(uri):
    assert open_log(uri) is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that is about to be closed
def test_wherever_an_append_is_interrupted_it_is_there_whole_or_not_at_all():
    """1. Also a log in memory, in whose steps a handler of a signal may come."""
    log = MemoryLog()
    places, there = 0, 0
    for nth in range(1, 1_000):
        first, second = new_id(), new_id()
        error, rung = interrupted(lambda a=first, b=second: log.append([whole(a), whole(b)], epoch=1, claim=True), nth)
        if not rung:
            break
        assert type(error) is KeyboardInterrupt
        places += 1
        found = [len(log.records(first)), len(log.records(second))]
        assert found in ([0, 0], [3, 3]), error
        there += found == [3, 3]
        assert log.compare() == [], error
        assert {*log.find()} >= ({first, second} if found[0] else set())

    assert places > 100
    assert 0 < there < places
    assert log.position() == 6 * (there + 1)
    assert log.verify().sound

"""Whatever a method of a log is given, it answers or says what is wrong with it: it does not hang, break or half-write."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluperfect.errors import PluperfectError, UnknownRun
from pluperfect.hooks import Part
from pluperfect.states import Running
from pluperfect.transitions import Transition
from pluperfect_store.conformance import AT, born, new_id, whole
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

CLEAR = (ValueError, TypeError, OverflowError, IndexError, PluperfectError)
PYTHONS = re.compile(
    "not supported between|has no attribute|has no len|cannot be interpreted|must be a bytes|unsupported"
)
"""What the interpreter says on its own of an argument that nobody looked at."""

numbers = st.one_of(st.integers(), st.sampled_from([-1, 0, 2**32, 2**63, 2**64, 2**200]), st.floats())
ids = st.binary(max_size=600)
bad = st.one_of(st.none(), st.text(max_size=8), numbers, ids, st.lists(st.integers(), max_size=2))
entries = st.lists(
    st.builds(lambda seq: Transition(seq, AT, born(bytes(16)) if seq == 1 else Running()), st.integers(-2, 4)),
    max_size=3,
)
parts = st.builds(Part, ids | st.just(bytes(16)), ids | st.just(bytes(16)), st.integers(-2, 2**33), entries.map(tuple))


def _waits(timeout):
    """Whether this asks to wait for long: that is what it gets then."""
    return timeout is None or (isinstance(timeout, int | float) and timeout > 0.01)


CALLS = {
    "append": st.tuples(st.one_of(bad, st.lists(parts | bad, max_size=2)), bad | st.just(1)),
    "claim": st.tuples(bad, bad),
    "release": st.tuples(bad, bad),
    "holder": st.tuples(bad),
    "blob": st.tuples(bad),
    "settle_key": st.tuples(bad),
    "head": st.tuples(bad),
    "records": st.tuples(bad, bad, bad),
    "record_at": st.tuples(bad),
    "children": st.tuples(bad),
    "matching": st.tuples(bad, bad),
    "cached": st.tuples(bad, bad),
    "due": st.tuples(bad),
    "feed": st.tuples(bad, bad),
    "placed": st.tuples(bad),
    "find": st.fixed_dictionaries({}, optional={"state": bad, "name": bad, "tag": bad, "roots": bad}),
    "await_position": st.tuples(bad, bad.filter(lambda given: not _waits(given))),
    "verify": st.tuples(bad, bad),
    "tree": st.tuples(bad),
    "prove": st.tuples(bad, bad),
    "consistency": st.tuples(bad, bad),
}


NAMED = ("placed", "find", "await_position", "verify", "tree", "prove", "consistency", "claim", "release")


@pytest.fixture(params=["memory", "lmdb"])
def log(request, tmp_path):
    log = MemoryLog() if request.param == "memory" else LmdbLog(tmp_path / "runs")
    yield log
    log.flush()
    assert log.compare() == []
    log.close()


@pytest.mark.parametrize("method", CALLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bad_input_is_refused_clearly_or_answered(log, method, data):
    given_to = data.draw(CALLS[method])
    before = log.position()
    try:
        if method == "append":
            answer = log.append(given_to[0], epoch=given_to[1])
        elif method == "find":
            answer = [*log.find(**given_to)]
        else:
            answer = getattr(log, method)(*given_to)
        if hasattr(answer, "wait"):
            answer.wait(10)
    except CLEAR as error:
        assert method not in NAMED or not PYTHONS.search(str(error))
        log.flush()
        assert log.position() == before or method in ("append", "claim"), "a refusal left a trace"


def test_an_id_with_more_bytes_answers_for_no_run(log):
    """Cut to its first 16 bytes it would be another run's."""
    run = new_id()
    log.append([whole(run)], epoch=1).wait()
    for method in ("placed", "verify", "prove"):
        for other in (run + b"x", run[:15], b"", run.hex()):
            with pytest.raises(ValueError, match="has 16 bytes"):
                getattr(log, method)(other)
    for other in (run + b"x", run[:15]):
        assert (log.head(other), log.records(other), log.children(other)) == (None, [], [])


def test_a_run_that_is_not_there_is_not_said_to_be_sound(log):
    with pytest.raises(UnknownRun):
        log.verify(new_id())


def test_who_waits_for_no_time_at_all_is_told_and_does_not_wait_for_ever(log):
    for timeout in (math.nan, "1", b""):
        with pytest.raises(ValueError, match="in seconds"):
            log.await_position(0, timeout)

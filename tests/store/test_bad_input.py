"""Whatever a method of a log is given, it answers or says what is wrong with it: it does not hang, break or half-write."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluperfect.errors import PluperfectError
from pluperfect.hooks import Part
from pluperfect.states import Running
from pluperfect.transitions import Transition
from pluperfect_store.conformance import AT, born
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

CLEAR = (ValueError, TypeError, OverflowError, PluperfectError)

numbers = st.one_of(st.integers(), st.sampled_from([-1, 0, 2**32, 2**63, 2**64, 2**200]), st.floats())
ids = st.binary(max_size=600)
bad = st.one_of(st.none(), st.text(max_size=8), numbers, ids, st.lists(st.integers(), max_size=2))
entries = st.lists(
    st.builds(lambda seq: Transition(seq, AT, born(bytes(16)) if seq == 1 else Running()), st.integers(-2, 4)),
    max_size=3,
)
parts = st.builds(Part, ids | st.just(bytes(16)), ids | st.just(bytes(16)), st.integers(-2, 2**33), entries.map(tuple))

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
}


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
        else:
            answer = getattr(log, method)(*given_to)
        if hasattr(answer, "wait"):
            answer.wait(10)
    except CLEAR:
        log.flush()
        assert log.position() == before or method in ("append", "claim"), "a refusal left a trace"

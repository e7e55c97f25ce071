from __future__ import annotations

import pytest

import pluperfect


@pytest.fixture(params=["memory", "lmdb"])
def uri(request, tmp_path):
    return "memory:" if request.param == "memory" else f"lmdb:{tmp_path / 'runs'}"


@pytest.fixture
def log(uri, clock):
    with pluperfect.open(uri, clock=clock, entry_points=False) as opened:
        yield opened
        assert opened.compare() == []
        assert [str(o) for o in opened.rejudge()] == []

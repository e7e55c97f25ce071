from __future__ import annotations

import pytest

import pluperfect
from pluperfect.testing import FakeClock


@pytest.fixture
def log():
    with pluperfect.open("memory:", clock=FakeClock(), entry_points=False) as opened:
        yield opened
        assert opened.compare() == []

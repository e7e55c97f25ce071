from __future__ import annotations

import pytest

import pluperfect
from pluperfect.settings import temporary_settings
from pluperfect.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log(clock):
    with pluperfect.open("memory:", clock=clock, entry_points=False) as opened:
        yield opened
        assert opened.compare() == []


@pytest.fixture
def setting():
    """Set settings until the end of the test: ``setting(TASKS_DEFAULT_RETRIES=1)``."""
    import contextlib

    with contextlib.ExitStack() as stack:
        yield lambda **values: stack.enter_context(temporary_settings(values))

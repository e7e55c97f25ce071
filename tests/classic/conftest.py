from __future__ import annotations

import pytest

import pluperfect
from pluperfect.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log(clock):
    with pluperfect.open("memory:", clock=clock, entry_points=False) as opened:
        yield opened
        assert opened.compare() == []


class Changes(list):
    """A state handler that notes what it is shown."""

    def __call__(self, subject, old, new):
        self.append((type(old).__name__, type(new).__name__))

    @property
    def text(self):
        return [f"{old} -> {new}" for old, new in self]


@pytest.fixture
def changes():
    return Changes()

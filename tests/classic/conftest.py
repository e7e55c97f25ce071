from __future__ import annotations

import pytest


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

"""The pytest plugin: a log and a clock for tests that record runs. Installing this library makes its fixtures known to pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..authoring.logs import OpenLog
    from . import FakeClock

__all__ = ["pluperfect_clock", "pluperfect_log"]


@pytest.fixture
def pluperfect_clock() -> FakeClock:
    """A clock that makes nobody wait: sleeps move it, and end at once."""
    from . import FakeClock

    return FakeClock()


@pytest.fixture
def pluperfect_log(pluperfect_clock: FakeClock) -> Iterator[OpenLog]:
    """A log in memory that the runs of this test are recorded in, with the time of ``pluperfect_clock``."""
    from ..authoring.logs import open

    with open("memory:", clock=pluperfect_clock) as log:
        yield log

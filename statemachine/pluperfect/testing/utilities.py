"""A log that is gone after the test, and a way to compare exceptions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ..authoring.logs import OpenLog, open

__all__ = ["exceptions_equal", "harness", "prefect_test_harness"]


@contextmanager
def harness(server_startup_timeout: int | None = None) -> Iterator[OpenLog]:
    """
    Have every run inside recorded in a store that is removed at the end.

    Args:
        server_startup_timeout: Taken for the sake of old code: there is no server to wait for.

    Yields:
        The log, to look at what was recorded.
    """
    with tempfile.TemporaryDirectory(prefix="pluperfect-") as folder, open(f"lmdb:{folder}/runs") as log:
        yield log


prefect_test_harness = harness


def exceptions_equal(a: object, b: object) -> bool:
    """Whether two exceptions have the same class and the same arguments."""
    return a == b or (type(a) is type(b) and getattr(a, "args", None) == getattr(b, "args", None))

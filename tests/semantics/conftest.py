from __future__ import annotations

import pytest

from pluperfect.settings import temporary_settings


@pytest.fixture
def setting():
    """Set settings until the end of the test: ``setting(TASKS_DEFAULT_RETRIES=1)``."""
    import contextlib

    with contextlib.ExitStack() as stack:
        yield lambda **values: stack.enter_context(temporary_settings(values))

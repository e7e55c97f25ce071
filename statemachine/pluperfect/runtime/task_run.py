"""The task run whose body this code is. ``loop_result`` is None in the first iteration and after a bare LOOP."""

from __future__ import annotations

from typing import Any

from .places import TASK_RUN


def __getattr__(name: str) -> Any:
    return getattr(TASK_RUN, name)


def __dir__() -> list[str]:
    return dir(TASK_RUN)

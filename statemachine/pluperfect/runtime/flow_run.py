"""The nearest flow run around the code at hand."""

from __future__ import annotations

from typing import Any

from .places import FLOW_RUN


def __getattr__(name: str) -> Any:
    return getattr(FLOW_RUN, name)


def __dir__() -> list[str]:
    return dir(FLOW_RUN)

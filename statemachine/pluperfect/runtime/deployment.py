"""There are no deployments here: all is empty."""

from __future__ import annotations

from typing import Any

from .places import DEPLOYMENT


def __getattr__(name: str) -> Any:
    return getattr(DEPLOYMENT, name)


def __dir__() -> list[str]:
    return dir(DEPLOYMENT)

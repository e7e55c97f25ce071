"""Prefect's place for futures; its own names for them are kept as aliases."""

from __future__ import annotations

from typing import Any

from .authoring.arguments import Found, resolved
from .authoring.futures import Future, FutureList, as_completed, wait

PrefectFuture = Future
PrefectFutureList = FutureList

__all__ = [
    "Future",
    "FutureList",
    "PrefectFuture",
    "PrefectFutureList",
    "as_completed",
    "resolve_futures_to_results",
    "resolve_futures_to_states",
    "wait",
]


def resolve_futures_to_states(expr: Any) -> Any:
    """The same with each future in it, wherever it stands in containers, waited for and replaced by its final state."""
    return resolved(expr, _state_of)


def resolve_futures_to_results(expr: Any) -> Any:
    """
    The same with each future in it, wherever it stands in containers, waited for and replaced by its result.

    Raises:
        Exception: What a failed call raised.
    """
    return resolved(expr, lambda found: found.run.result())


def _state_of(found: Found) -> Any:
    if isinstance(found.run, Future):
        found.run.wait()
    return found.state

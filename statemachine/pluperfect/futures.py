"""Futures: handles of submitted calls, and how to wait for them. Prefect's names for them are kept as aliases."""

from __future__ import annotations

from typing import Any

from .authoring.arguments import Found, each_run, resolved
from .authoring.futures import Future, FutureList, as_completed, wait
from .errors import UpstreamTaskError
from .states import State

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
    """The same value with the final state in the place of each future, in collections, dataclasses and models too."""
    _wait_for_all(expr)
    return resolved(expr, lambda found: found.state)


def resolve_futures_to_results(expr: Any) -> Any:
    """
    The same value with the result in the place of each future, in collections, dataclasses and models too.

    Raises:
        UpstreamTaskError: A call has no result; its exception is the cause.
    """
    _wait_for_all(expr)
    return resolved(expr, _result_of)


def _wait_for_all(expr: Any) -> None:
    for found in each_run(expr):
        if isinstance(found.run, Future):
            found.run.wait()


def _result_of(found: Found) -> Any:
    if isinstance(found.run, State):
        return found.run
    state = found.state
    if state.is_completed():
        return found.run.result()
    error: Any = found.run.result(raise_on_failure=False)
    raise UpstreamTaskError(
        f"At least one result did not complete successfully: {found.run.run_name} ended as {state}."
    ) from (error if isinstance(error, BaseException) else None)

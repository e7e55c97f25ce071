"""The options of tasks and flows, checked where they are given: what is wrong is said there, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

__all__ = [
    "Handler",
    "OnFailure",
    "classes_of_exceptions",
    "count_of_results",
    "handlers",
    "keep_for",
    "limit",
    "retries_and_delay",
    "tags_of",
]

Handler = Callable[[Any, Any, Any], Any]
"""Called with a task or flow, the old state and the new one; may give another state."""


class OnFailure:
    """
    The option ``on_failure``, as a state handler.

    Args:
        call: Called ``(task or flow, state)``.
    """

    def __init__(self, call: Callable[[Any, Any], Any]) -> None:
        if not callable(call):
            raise TypeError(f"on_failure is called with (task, state); {call!r} is not callable.")
        self.call: Callable[[Any, Any], Any] = call

    def __call__(self, subject: Any, old_state: Any, new_state: Any) -> None:
        if new_state.is_failed():
            self.call(subject, new_state)


def handlers(given: Iterable[Handler] | None, on_failure: Callable[[Any, Any], Any] | None = None) -> list[Handler]:
    """The options ``state_handlers`` and ``on_failure`` as one list."""
    if callable(given) or isinstance(given, str):
        raise TypeError(
            f"state_handlers is a list of callables, each called with (task, old_state, new_state), not {given!r}."
        )
    listed = list(given or ())
    for handler in listed:
        if not callable(handler):
            raise TypeError(
                f"A state handler is called with (task, old_state, new_state); {handler!r} is not callable."
            )
    return listed if on_failure is None else [*listed, OnFailure(on_failure)]


def retries_and_delay(given: int | None, delay: timedelta | None) -> tuple[int, timedelta | None]:
    """The options ``max_retries`` and ``retry_delay``: neither goes without the other."""
    count = 0 if given is None else given
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"max_retries is a whole number from 0, not {given!r}.")
    if delay is not None and not isinstance(delay, timedelta):
        raise TypeError(f"retry_delay is a timedelta, such as timedelta(seconds=2), not {delay!r}.")
    if count and delay is None:
        raise ValueError(
            "max_retries needs retry_delay: say how long to wait, such as retry_delay=timedelta(seconds=2)."
        )
    if delay is not None and not count:
        raise ValueError("retry_delay needs max_retries: say how often to try again, such as max_retries=3.")
    return count, delay


def classes_of_exceptions(given: Any, retries: int) -> tuple[type[BaseException], ...]:
    """The option ``retry_on``."""
    if given is None:
        return ()
    listed: tuple[Any, ...] = (given,) if isinstance(given, type) else tuple(given)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_on names classes of exceptions, not {kind!r}.")
    if not retries:
        raise ValueError("retry_on needs max_retries and retry_delay.")
    return listed


def limit(given: Any) -> float | None:
    """The option ``timeout``, in seconds."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise TypeError(f"timeout is a number of seconds, more than 0, not {given!r}.")
    return seconds


def keep_for(given: timedelta | None) -> timedelta | None:
    """The option ``cache_for``."""
    if given is not None and not isinstance(given, timedelta):
        raise TypeError(f"cache_for is a timedelta, not {given!r}.")
    return given


def count_of_results(given: int | None) -> int | None:
    """The option ``nout``."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise ValueError(f"nout is a whole number from 0, not {given!r}.")
    return given


def tags_of(given: Iterable[str] | None) -> set[str]:
    """The option ``tags``."""
    if isinstance(given, str):
        raise TypeError(f"tags is a list of strings, not {given!r}.")
    return set(given or ())

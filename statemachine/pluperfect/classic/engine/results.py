"""
Where Prefect 1 kept results. Here they are in the log, so these are taken, and say nothing about a place.

A task with ``target=`` is answered by the result that was recorded under that target.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LocalResult", "PrefectResult", "Result"]


class Result:
    """
    A value, and the location that it would have had.

    Args:
        value: The value.
        location: A template over the context and the task's inputs, as for ``target=``.
    """

    def __init__(self, value: Any = None, location: str | None = None, **_: Any) -> None:
        self.value: Any = value
        self.location: str | None = location

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value and other.location == self.location  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.location))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.value!r}>"


class PrefectResult(Result):
    """A value kept with the run."""


class LocalResult(Result):
    """
    A value kept in a file by Prefect 1, and in the log here.

    Args:
        dir: Taken, and without effect.
        value: The value.
        location: As for `Result`.
    """

    def __init__(self, dir: str | None = None, value: Any = None, location: str | None = None, **_: Any) -> None:
        super().__init__(value, location)
        self.dir: str | None = dir

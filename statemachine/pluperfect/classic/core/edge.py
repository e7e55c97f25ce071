"""The arrows of a graph: which task comes after which, and what it is given from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task

__all__ = ["Edge"]


class Edge:
    """
    One arrow.

    Args:
        upstream_task: The task that comes before.
        downstream_task: The task that comes after.
        key: The argument that the result is handed on as; None: nothing is handed on.
        mapped: Whether each item of the result goes to a child of its own.
        flattened: Whether lists in the result are put end to end first.
    """

    __slots__ = ("downstream_task", "flattened", "key", "mapped", "upstream_task")

    upstream_task: Task
    downstream_task: Task
    key: str | None
    mapped: bool
    flattened: bool

    def __init__(
        self,
        upstream_task: Task,
        downstream_task: Task,
        key: str | None = None,
        mapped: bool | None = None,
        flattened: bool | None = None,
    ) -> None:
        if key is not None and not key.isidentifier():
            raise ValueError(f"The key of an edge is the name of an argument, not {key!r}.")
        self.upstream_task, self.downstream_task = upstream_task, downstream_task
        self.key, self.mapped, self.flattened = key, bool(mapped), bool(flattened)

    @property
    def tasks(self) -> set[Task]:
        """Both ends."""
        return {self.upstream_task, self.downstream_task}

    def _parts(self) -> tuple[Any, ...]:
        return (self.upstream_task, self.downstream_task, self.key, self.mapped, self.flattened)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edge) and other._parts() == self._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        key = f" as {self.key}" if self.key else ""
        return (
            f"<Edge{' (mapped)' if self.mapped else ''}: {self.upstream_task.name} to {self.downstream_task.name}{key}>"
        )

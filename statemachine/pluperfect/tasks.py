"""Prefect's place for tasks."""

from typing import Any

from .assets import MaterializingTask
from .authoring.tasks import Task, exponential_backoff, task
from .utilities.hashing import hash_objects

__all__ = ["MaterializingTask", "Task", "exponential_backoff", "task", "task_input_hash"]


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """A ``cache_key_fn``: the same task with the same arguments; None, and so no caching, where one cannot be hashed."""
    return hash_objects(context.task.key, context.task.code, arguments)

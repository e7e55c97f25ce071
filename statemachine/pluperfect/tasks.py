"""Prefect's place for tasks."""

from .authoring.tasks import Task, exponential_backoff, task

__all__ = ["Task", "exponential_backoff", "task"]

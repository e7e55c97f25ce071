"""
The interface of Prefect 1: programs for it run when ``prefect`` in their imports becomes ``pluperfect.classic``.

A classic flow is a graph; running it is one flow run of the engine, in which each task is a task run. What is
recorded, retried, resumed and read is what `pluperfect` does anyhow; there is no second engine.
"""

from __future__ import annotations

from . import core, engine, executors, tasks, triggers, utilities
from .core import Edge, Flow, Parameter, Task
from .tasks.control_flow import case
from .tasks.resources import resource_manager
from .utilities.context import config, context
from .utilities.edges import flatten, mapped, unmapped
from .utilities.tasks import apply_map, tags, task

__all__ = [
    "Edge",
    "Flow",
    "Parameter",
    "Task",
    "apply_map",
    "case",
    "config",
    "context",
    "core",
    "engine",
    "executors",
    "flatten",
    "mapped",
    "resource_manager",
    "tags",
    "task",
    "tasks",
    "triggers",
    "unmapped",
    "utilities",
]

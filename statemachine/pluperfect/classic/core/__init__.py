"""Flows, tasks, parameters and edges, at Prefect 1's place."""

from __future__ import annotations

from .edge import Edge
from .flow import Flow
from .parameter import Parameter
from .task import Task

__all__ = ["Edge", "Flow", "Parameter", "Task"]

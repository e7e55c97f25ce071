"""
Prefect's place for task runners, and what one needs to write another.

A runner is anything that has the methods of `TaskRunner`. One with ``remote = True`` has besides
``call(payload, limit)``: it has `work` called with these in another process and gives back what that gave.
"""

from .authoring.abroad import work
from .authoring.runners import AsyncioTaskRunner, ExecutorTaskRunner, ProcessPoolTaskRunner, ThreadPoolTaskRunner
from .hooks import Runner as TaskRunner

ConcurrentTaskRunner = ThreadPoolTaskRunner

__all__ = [
    "AsyncioTaskRunner",
    "ConcurrentTaskRunner",
    "ExecutorTaskRunner",
    "ProcessPoolTaskRunner",
    "TaskRunner",
    "ThreadPoolTaskRunner",
    "work",
]

"""Prefect's place for task runners."""

from .authoring.runners import ThreadPoolTaskRunner
from .hooks import Runner as TaskRunner

ConcurrentTaskRunner = ThreadPoolTaskRunner

__all__ = ["ConcurrentTaskRunner", "TaskRunner", "ThreadPoolTaskRunner"]

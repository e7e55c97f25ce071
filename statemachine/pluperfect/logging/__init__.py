"""Loggers for flows, tasks and those who listen to them."""

from .loggers import (
    LogEavesdropper,
    disable_run_logger,
    flow_run_logger,
    get_logger,
    get_run_logger,
    task_run_logger,
)

__all__ = [
    "LogEavesdropper",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "task_run_logger",
]

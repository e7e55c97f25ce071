"""Runs and states under the names that Prefect's users import for annotations."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ...states import State, StateType
from ...transitions import Run

__all__ = ["FlowRun", "State", "StateDetails", "StateType", "TaskRun"]

FlowRun = Run
TaskRun = Run


class StateDetails(Struct, frozen=True):
    """
    What is known beside a state.

    Attributes:
        flow_run_id: The flow run.
        task_run_id: The task run.
        scheduled_time: Not before this time.
        cache_key: The key of a cached result.
        retriable: Whether another attempt may be made.
    """

    flow_run_id: str | None = None
    task_run_id: str | None = None
    scheduled_time: Any = None
    cache_key: str | None = None
    retriable: bool | None = None

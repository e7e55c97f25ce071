"""What the engine is given for one task of a graph: a task of its own, and for maps the task that is their parent."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...authoring.tasks import Task as ModernTask
from .. import triggers
from .asking import Body, Naming, RetryOn, Trigger
from .handling import Handlers
from .keeping import Keeper
from .mapping import MapBody

if TYPE_CHECKING:
    from ..executors import Executor
    from .flow import Flow
    from .options import Handler
    from .task import Task

__all__ = ["Node"]


class Node:
    """One task of one flow, as the engine knows it."""

    def __init__(self, flow: Flow, task: Task, module: str, runner_handlers: list[Handler], executor: Executor) -> None:
        self.flow: Flow = flow
        self.task: Task = task
        self.executor: Executor = executor
        self.body: Body = Body(task, flow.slugs[task], module)
        self.name: str = re.sub(r"[/%&><]", "_", task.name) or "_"
        self.asked: dict[str, Any] = {"tags": sorted(task.tags), "description": self.body.__doc__ or None}
        mapped = any(mapped for _, mapped, _ in flow.constants.get(task, {}).values())
        if flow.arrows_to(task) or mapped or task.trigger is not triggers.all_successful:
            self.asked["trigger"] = Trigger()
        if task.state_handlers or runner_handlers:
            self.asked["state_handlers"] = Handlers(task, task.state_handlers, runner_handlers)

    @property
    def key(self) -> str:
        """The call key of the task, or of a map's children."""
        return self.task_of_engine.key

    @cached_property
    def task_of_engine(self) -> ModernTask[..., Any]:
        """The task."""
        task, options = self.task, dict(self.asked)
        if task.max_retries:
            assert task.retry_delay is not None
            options |= {
                "retries": task.max_retries,
                "retry_delay_seconds": task.retry_delay.total_seconds(),
                "retry_condition_fn": RetryOn(task.retry_on),
            }
        if task.timeout:
            options["timeout_seconds"] = task.timeout
        if task.log_stdout:
            options["log_prints"] = True
        if task.cache_for is not None or task.target is not None:
            options["classic_cache"] = Keeper(task)
        elif task.checkpoint is False:
            options["persist_result"] = False
        if task.task_run_name is not None:
            options["task_run_name"] = Naming(task.task_run_name)
        return ModernTask(self.body, name=self.name, **options)

    @cached_property
    def parent_of_map(self) -> ModernTask[..., Any]:
        """The task that is the parent of a map."""
        body = MapBody(self, parallel=self.executor.parallel)
        return ModernTask(body, name=self.name, **self.asked)

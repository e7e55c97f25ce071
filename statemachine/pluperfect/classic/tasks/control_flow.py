"""Tasks that choose which others are skipped, and that bring branches together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from .. import triggers
from ..core.task import FunctionTask, Task, current_flow
from ..engine.signals import SKIP
from ..utilities.context import context

if TYPE_CHECKING:
    from ..core.flow import Flow

__all__ = ["CompareValue", "FilterTask", "case", "ifelse", "merge", "switch"]


class CompareValue(Task):
    """
    Is skipped, and with it what comes after it, unless its input has this value.

    Args:
        value: The value.
        kwargs: As for `Task`.
    """

    def __init__(self, value: Any, **kwargs: Any) -> None:
        self.value: Any = value
        kwargs.setdefault("name", f'CompareValue: "{value}"')
        super().__init__(**kwargs)

    def run(self, value: Any) -> None:
        """Compare."""
        if value != self.value:
            raise SKIP(f'"{value}" is not "{self.value}".', result=None)


class case:  # noqa: N801 - the field's word
    """
    ``with case(task, value):`` the tasks made inside are skipped unless the task's result has this value.

    Args:
        task: The task.
        value: The value.
    """

    def __init__(self, task: Task, value: Any) -> None:
        if isinstance(value, Task):
            raise TypeError(f"case compares with a value, not with {value!r}.")
        self.task: Task = task
        self.value: Any = value
        self._tasks: list[Task] = []
        self._flow: Flow | None = None

    def add_task(self, task: Task, flow: Flow) -> None:
        """Take in a task that is made inside of the block."""
        if self._flow is not None and self._flow is not flow:
            raise ValueError("The tasks of one `with case(...)` belong to one flow.")
        self._flow = flow
        if task is not self.task:
            self._tasks.append(task)

    def __enter__(self) -> Self:
        self._block = context(case=self)
        self._block.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)
        if self._flow is None or error[0] is not None or not self._tasks:
            return
        compare = CompareValue(self.value).bind(value=self.task, flow=self._flow)
        inside = set(self._tasks)
        for task in self._tasks:
            if not inside & self._flow.upstream_tasks(task):
                task.set_upstream(compare, flow=self._flow)


def switch(condition: Task, cases: Mapping[Any, Task], mapped: bool = False) -> None:
    """
    Skip every task of ``cases`` but the one under the value that ``condition`` gives.

    Args:
        condition: A task.
        cases: Tasks by value.
        mapped: Whether to compare, and skip, item by item.
    """
    flow = current_flow()
    for value, task in cases.items():
        compare = CompareValue(value).bind(value=condition, mapped=mapped, flow=flow)
        task.set_dependencies(flow, upstream_tasks=[compare], mapped=mapped)


def _as_bool(value: Any) -> bool:
    return bool(value)


def ifelse(condition: Task, true_task: Task | None, false_task: Task | None, mapped: bool = False) -> None:
    """Skip ``false_task`` where the condition's result is true, else ``true_task``; either may be None."""
    truth = FunctionTask(_as_bool, name="as_bool").bind(condition, mapped=mapped)
    switch(truth, {value: task for value, task in ((True, true_task), (False, false_task)) if task is not None}, mapped)


class _First:
    """The first result, in the order of the arguments, that is not None."""

    __name__ = "merge"

    def __call__(self, **results: Any) -> Any:
        ordered = sorted(results, key=lambda key: int(key.rpartition("_")[2]))
        return next((results[key] for key in ordered if results[key] is not None), None)


def merge(*tasks: Task, flow: Flow | None = None, mapped: bool = False, **kwargs: Any) -> Task:
    """
    A task that gives the first result that is not None: the one of the branch that was not skipped.

    Args:
        tasks: The ends of the branches.
        flow: By default the active one.
        mapped: Whether to merge item by item.
        kwargs: As for `Task`.
    """
    options: dict[str, Any] = {"name": "Merge", "skip_on_upstream_skip": False, "trigger": triggers.not_all_skipped}
    made = FunctionTask(_First(), **{**options, **kwargs})
    return made.bind(mapped=mapped, flow=flow, **{f"task_{place + 1}": task for place, task in enumerate(tasks)})


def _worth_keeping(result: Any) -> bool:
    return result is not None and not isinstance(result, BaseException)


class FilterTask(Task):
    """
    Drops items of a list: by default None and exceptions, so that a map's losses can be left behind.

    Args:
        filter_func: Says which items stay.
        log_func: Gives a line about each item that is dropped.
        kwargs: As for `Task`; it begins however the tasks before it ended.
    """

    def __init__(
        self,
        filter_func: Callable[[Any], bool] | None = None,
        log_func: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.filter_func: Callable[[Any], bool] = filter_func or _worth_keeping
        self.log_func: Callable[[Any], str] | None = log_func
        kwargs.setdefault("skip_on_upstream_skip", False)
        kwargs.setdefault("trigger", triggers.all_finished)
        super().__init__(**kwargs)

    def run(self, task_results: list[Any]) -> list[Any]:
        """The items that stay."""
        kept = [item for item in task_results if self.filter_func(item)]
        if self.log_func is not None:
            for item in task_results:
                if not self.filter_func(item):
                    self.logger.info("%s", self.log_func(item))
        return kept

"""Resources that are set up before some tasks and cleaned up after them, however they ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..core.task import Task, current_flow
from ..engine.signals import SKIP, TRIGGERFAIL
from ..utilities.context import context

if TYPE_CHECKING:
    from ..core.edge import Edge
    from ..core.flow import Flow
    from ..engine.state import State

__all__ = ["ResourceCleanupTask", "ResourceManager", "resource_manager"]


class ResourceInitTask(Task):
    """Makes the manager."""

    def __init__(self, made: type[Any], **kwargs: Any) -> None:
        self.run: Callable[..., Any] = made
        super().__init__(**kwargs)


class ResourceSetupTask(Task):
    """Calls the manager's ``setup``."""

    def run(self, mgr: Any) -> Any:
        """Set up."""
        return mgr.setup()


class ResourceCleanupTask(Task):
    """Calls the manager's ``cleanup``. It does not count where it is asked how a flow run ended."""

    cleans_up: ClassVar[bool] = True

    def run(self, mgr: Any, resource: Any = None) -> None:
        """Clean up."""
        mgr.cleanup(resource)


def cleanup_trigger(upstream_states: Mapping[Edge, State]) -> bool:
    """Clean up what was set up, however the tasks in between ended."""
    for edge, state in upstream_states.items():
        if edge.key in {"mgr", "resource"}:
            if state.is_skipped():
                raise SKIP("There is nothing to clean up: the resource was skipped.", result=None)
            if state.is_failed():
                raise TRIGGERFAIL("There is nothing to clean up: the resource was not set up.")
    return True


class ResourceContext:
    """``with manager(...) as resource:`` tasks inside come after the set-up and before the clean-up."""

    def __init__(self, manager: ResourceManager, args: tuple[Any, ...], kwargs: dict[str, Any], flow: Flow) -> None:
        self.flow: Flow = flow
        self._tasks: list[Task] = []
        self.init_task: Task = ResourceInitTask(manager.resource_class, **manager.init_task_kwargs)
        self.init_task.bind(*args, flow=flow, **kwargs)
        self.setup_task: Task = ResourceSetupTask(**manager.setup_task_kwargs).bind(self.init_task, flow=flow)
        self.cleanup_task: Task = ResourceCleanupTask(**manager.cleanup_task_kwargs)

    def add_task(self, task: Task, flow: Flow) -> None:
        """Take in a task that is made inside of the block."""
        if self._above is not None:
            self._above.add_task(task, flow)
        self._tasks.append(task)

    def __enter__(self) -> Task:
        self._above: Any = context.get("case")
        self._block = context(case=self)
        self._block.__enter__()
        return self.setup_task

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)
        self.cleanup_task.bind(self.init_task, resource=self.setup_task, flow=self.flow)
        inside = {*self._tasks, self.setup_task} - {self.init_task}
        for task in self._tasks:
            if task is self.setup_task:
                continue
            if not inside & self.flow.upstream_tasks(task):
                task.set_upstream(self.setup_task, flow=self.flow)
            if not inside & self.flow.downstream_tasks(task):
                self.cleanup_task.set_upstream(task, flow=self.flow)


class ResourceManager:
    """
    A class with ``setup()``, which gives the resource, and ``cleanup(resource)``, for use in flows.

    Args:
        resource_class: The class.
        name: By default its name.
        init_task_kwargs: Options of the task that makes it.
        setup_task_kwargs: Options of the task that sets it up.
        cleanup_task_kwargs: Options of the task that cleans it up.
    """

    def __init__(
        self,
        resource_class: type[Any],
        name: str | None = None,
        init_task_kwargs: dict[str, Any] | None = None,
        setup_task_kwargs: dict[str, Any] | None = None,
        cleanup_task_kwargs: dict[str, Any] | None = None,
    ) -> None:
        for method in ("setup", "cleanup"):
            if not callable(getattr(resource_class, method, None)):
                raise TypeError(f"{resource_class!r} has no method {method}(), which a resource manager needs.")
        self.resource_class: type[Any] = resource_class
        self.name: str = name or resource_class.__name__
        self.init_task_kwargs: dict[str, Any] = {"name": self.name, **(init_task_kwargs or {})}
        self.setup_task_kwargs: dict[str, Any] = {"name": f"{self.name}.setup", **(setup_task_kwargs or {})}
        self.cleanup_task_kwargs: dict[str, Any] = {
            "name": f"{self.name}.cleanup",
            "trigger": cleanup_trigger,
            "skip_on_upstream_skip": False,
            **(cleanup_task_kwargs or {}),
        }

    def __call__(self, *args: Any, flow: Flow | None = None, **kwargs: Any) -> ResourceContext:
        """The block in which the resource is there; the arguments are those of the class."""
        return ResourceContext(self, args, kwargs, current_flow(flow))


def resource_manager(resource_class: type[Any] | None = None, **kwargs: Any) -> Any:
    """Make a resource manager of a class, bare or with the options of `ResourceManager`."""
    if resource_class is not None:
        return ResourceManager(resource_class, **kwargs)
    made: Callable[[type[Any]], ResourceManager] = lambda found: ResourceManager(found, **kwargs)  # noqa: E731
    return made

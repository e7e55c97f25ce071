"""Flows: graphs of tasks, and their runs."""

from __future__ import annotations

import copy as copying
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from ..utilities.context import context
from .edge import Edge
from .operators import as_task_value
from .task import Handlers, Parameter, Task, _handlers, _note_used, _OnFailure, annotated

if TYPE_CHECKING:
    from ..engine.results import Result
    from ..engine.state import State
    from ..executors import Executor

__all__ = ["Flow"]


class Flow:
    """
    A graph of tasks.

    Args:
        name: Of the flow and its runs.
        schedule: Refused: schedules are not there yet.
        executor: Where tasks are called; see `pluperfect.classic.executors`.
        environment: Refused.
        run_config: Refused: there is no server that would read it.
        storage: Refused, likewise.
        tasks: Tasks to add.
        edges: Edges to add.
        reference_tasks: Those that decide how a run ends; by default the last ones.
        state_handlers: Called ``(flow, old_state, new_state)`` before each change is recorded.
        on_failure: Called ``(flow, state)`` when a run fails.
        validate: Whether to look for cycles at each edge, and not only when it is run.
        result: Taken; results are kept in the log.
        terminal_state_handler: Called ``(flow, state, reference_states)`` once at the end; may give another state.
    """

    def __init__(
        self,
        name: str,
        schedule: Any = None,
        executor: Executor | None = None,
        environment: Any = None,
        run_config: Any = None,
        storage: Any = None,
        tasks: Iterable[Task] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Task] | None = None,
        state_handlers: Handlers | None = None,
        on_failure: Callable[[Any, Any], Any] | None = None,
        validate: bool | None = None,
        result: Result | None = None,
        terminal_state_handler: Callable[..., Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"A flow needs a name: Flow('my flow'), not Flow({name!r}).")
        for what, given in {
            "schedule": schedule,
            "environment": environment,
            "run_config": run_config,
            "storage": storage,
        }.items():
            if given is not None:
                why = "flows are run by calling run()" if what == "schedule" else "there is no server or agent to read it"
                raise TypeError(f"Flow({name!r}) was given {what}=, which does not exist here: {why}. Leave it out.")
        from ..executors import Executor, LocalExecutor

        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(f"executor is one of pluperfect.classic.executors, such as LocalExecutor(), not {executor!r}.")
        if terminal_state_handler is not None and not callable(terminal_state_handler):
            raise TypeError(f"terminal_state_handler is called with (flow, state, states), not {terminal_state_handler!r}.")
        self.name, self.result = name, result
        self.executor: Executor = executor or LocalExecutor()
        self.tasks: set[Task] = set()
        self.edges: set[Edge] = set()
        self.constants: dict[Task, dict[str, tuple[Any, bool, bool]]] = {}
        self.slugs: dict[Task, str] = {}
        self.state_handlers = _handlers(state_handlers)
        if on_failure is not None:
            self.state_handlers.append(_OnFailure(on_failure))
        self.terminal_state_handler = terminal_state_handler
        self._reference_tasks: list[Task] = []
        self._validate = bool(validate)
        self._order: list[Task] = []  # the tasks as they were added
        self._arrows: list[Edge] = []
        self._module: str = sys._getframe(1).f_globals.get("__name__", "")
        for task in tasks or ():
            self.add_task(task)
        for edge in edges or ():
            self.add_edge(edge.upstream_task, edge.downstream_task, edge.key, edge.mapped, edge.flattened)
        if reference_tasks is not None:
            self.set_reference_tasks(reference_tasks)

    # --- building

    @contextmanager
    def _building(self) -> Generator[Self]:
        unused: set[Task] = set()
        with context(flow=self, _unused=unused):
            yield self
        left = sorted(task.name for task in unused - self.tasks)
        if left:
            warnings.warn(
                f"Tasks were made inside of `with Flow({self.name!r})` and never became part of it: {', '.join(left)}."
                " Call them, or add them by flow.add_task().",
                stacklevel=3,
            )

    def __enter__(self) -> Self:
        self.__dict__.setdefault("_open", []).append(self._building())
        return self._open[-1].__enter__()

    def __exit__(self, *error: Any) -> None:
        self._open.pop().__exit__(*error)

    def add_task(self, task: Task) -> Task:
        """
        Add a task.

        Raises:
            TypeError: It is no task.
            ValueError: Its slug, or a parameter's name, is taken.
        """
        if not isinstance(task, Task):
            raise TypeError(f"A flow is made of tasks, not of {task!r}.")
        _note_used(task)
        if task in self.tasks:
            return task
        slug = task.slug or self._free_slug(task.name)
        if slug in self.slugs.values():
            what = "a parameter" if isinstance(task, Parameter) else "a task with the slug"
            raise ValueError(f"Flow {self.name!r} has {what} {slug!r} already. Give this one another name.")
        self.slugs[task] = slug
        self.tasks.add(task)
        self._order.append(task)
        case = context.get("case")
        if case is not None:
            case.add_task(task, self)
        return task

    def _free_slug(self, name: str) -> str:
        taken, number = set(self.slugs.values()), 1
        while f"{name}-{number}" in taken:
            number += 1
        return f"{name}-{number}"

    def add_edge(
        self,
        upstream_task: Task,
        downstream_task: Task,
        key: str | None = None,
        mapped: bool = False,
        flattened: bool = False,
        validate: bool | None = None,
    ) -> Edge:
        """
        Add an arrow.

        Raises:
            ValueError: The argument has an arrow already, or there is a cycle.
        """
        if isinstance(downstream_task, Parameter):
            raise ValueError(f"{downstream_task!r} is given from outside, so that nothing comes before it.")
        edge = Edge(self.add_task(upstream_task), self.add_task(downstream_task), key, mapped, flattened)
        if key is not None:
            taken = key in self.constants.get(downstream_task, {}) or any(
                known.key == key and known != edge for known in self.edges_to(downstream_task)
            )
            if taken:
                raise ValueError(f"{downstream_task.name} has a value for {key!r} already.")
        if edge not in self.edges:
            self.edges.add(edge)
            self._arrows.append(edge)
        if self._validate if validate is None else validate:
            self.validate()
        return edge

    def chain(self, *tasks: Task, validate: bool | None = None) -> list[Edge]:
        """Let these tasks come one after another."""
        return [self.add_edge(before, after, validate=validate) for before, after in pairwise(tasks)]

    def set_dependencies(
        self,
        task: Task,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> None:
        """Say what comes before and after a task, and what it is given."""
        self.add_task(task)
        for given in upstream_tasks or ():
            value, is_mapped, flattened = annotated(given, mapped)
            before = as_task_value(value, self)
            if isinstance(before, Task):
                self.add_edge(before, task, None, is_mapped, flattened, validate)
        for given in downstream_tasks or ():
            value, is_mapped, flattened = annotated(given, mapped)
            if not isinstance(value, Task):
                raise TypeError(f"What comes after {task.name} is a task, not {value!r}.")
            self.add_edge(task, value, None, is_mapped, flattened, validate)
        for key, given in (keyword_tasks or {}).items():
            value, is_mapped, flattened = annotated(given, mapped)
            before = as_task_value(value, self)
            if isinstance(before, Task):
                self.add_edge(before, task, key, is_mapped, flattened, validate)
            else:
                self.constants.setdefault(task, {})[key] = (before, is_mapped, flattened)

    def set_reference_tasks(self, tasks: Iterable[Task]) -> None:
        """
        Say which tasks decide how a run ends.

        Raises:
            ValueError: One is not in the flow.
        """
        listed = list(tasks)
        for task in listed:
            if task not in self.tasks:
                raise ValueError(f"{task!r} cannot be a reference task of flow {self.name!r}: it is not in it.")
        self._reference_tasks = listed

    def replace(self, old: Task, new: Task, validate: bool = True) -> None:
        """Put a task in the place of another one."""
        if old not in self.tasks:
            raise ValueError(f"{old!r} is not in flow {self.name!r}.")
        arrows, given = [edge for edge in self._arrows if old in edge.tasks], self.constants.pop(old, None)
        self._arrows = [edge for edge in self._arrows if old not in edge.tasks]
        self.edges = set(self._arrows)
        place = self._order.index(old)
        self._order.remove(old)
        self.tasks.discard(old)
        del self.slugs[old]
        if new not in self.tasks:
            self.add_task(new)
            self._order.insert(place, self._order.pop())
        if given:
            self.constants[new] = given
        for edge in arrows:
            before = new if edge.upstream_task is old else edge.upstream_task
            after = new if edge.downstream_task is old else edge.downstream_task
            self.add_edge(before, after, edge.key, edge.mapped, edge.flattened, validate=False)
        self._reference_tasks = [new if task is old else task for task in self._reference_tasks]
        if validate:
            self.validate()

    def update(self, flow: Flow, merge_parameters: bool = False, validate: bool | None = None) -> None:
        """Take in the tasks and arrows of another flow; with ``merge_parameters``, parameters of one name are one."""
        own = {parameter.name: parameter for parameter in self.parameters()}
        same: dict[Task, Task] = {
            task: own[task.name]
            for task in flow.tasks
            if merge_parameters and isinstance(task, Parameter) and task.name in own
        }
        for task in flow._order:
            if task not in same:
                self.add_task(task)
        for edge in flow._arrows:
            before, after = same.get(edge.upstream_task, edge.upstream_task), edge.downstream_task
            self.add_edge(before, after, edge.key, edge.mapped, edge.flattened, validate)
        for task, given in flow.constants.items():
            self.constants.setdefault(task, {}).update(given)

    def copy(self) -> Flow:
        """A copy with the same tasks, to which others can be added."""
        made = copying.copy(self)
        for name in ("tasks", "edges", "slugs", "state_handlers", "_reference_tasks", "_order", "_arrows"):
            setattr(made, name, copying.copy(getattr(self, name)))
        made.constants = {task: dict(given) for task, given in self.constants.items()}
        made.__dict__.pop("_open", None)
        return made

    # --- looking

    def get_tasks(
        self,
        name: str | None = None,
        slug: str | None = None,
        tags: Iterable[str] | None = None,
        task_type: type[Task] | None = None,
    ) -> list[Task]:
        """The tasks that match all that is given, in the order in which they were added."""
        wanted = set(tags or ())
        return [
            task
            for task in self._order
            if (name is None or task.name == name)
            and (slug is None or self.slugs[task] == slug)
            and wanted <= task.tags
            and (task_type is None or isinstance(task, task_type))
        ]

    def parameters(self) -> set[Parameter]:
        """The parameters."""
        return {task for task in self.tasks if isinstance(task, Parameter)}

    def edges_to(self, task: Task) -> set[Edge]:
        """The arrows that end at a task."""
        return {edge for edge in self.edges if edge.downstream_task is task}

    def edges_from(self, task: Task) -> set[Edge]:
        """The arrows that begin at a task."""
        return {edge for edge in self.edges if edge.upstream_task is task}

    def arrows_to(self, task: Task) -> list[Edge]:
        """The arrows that end at a task, in the order in which they were added."""
        return [edge for edge in self._arrows if edge.downstream_task is task]

    def upstream_tasks(self, task: Task) -> set[Task]:
        """The tasks right before this one."""
        return {edge.upstream_task for edge in self.edges_to(task)}

    def downstream_tasks(self, task: Task) -> set[Task]:
        """The tasks right after this one."""
        return {edge.downstream_task for edge in self.edges_from(task)}

    def root_tasks(self) -> set[Task]:
        """The tasks that nothing comes before."""
        return self.tasks - {edge.downstream_task for edge in self.edges}

    def terminal_tasks(self) -> set[Task]:
        """The tasks that nothing comes after."""
        return self.tasks - {edge.upstream_task for edge in self.edges}

    def reference_tasks(self) -> set[Task]:
        """The tasks that decide how a run ends: those that were set, else the last ones but for clean-ups."""
        if self._reference_tasks:
            return set(self._reference_tasks)
        from ..tasks.resources import ResourceCleanupTask

        return {
            task
            for task in self.tasks
            if not isinstance(task, ResourceCleanupTask)
            and all(isinstance(after, ResourceCleanupTask) for after in self.downstream_tasks(task))
        }

    def sorted_tasks(self, root_tasks: Iterable[Task] | None = None) -> tuple[Task, ...]:
        """
        The tasks, each after those that it depends on; otherwise as they were added.

        Args:
            root_tasks: Only these and what comes after them.

        Raises:
            ValueError: There is a cycle.
        """
        after: dict[Task, list[Task]] = {}
        missing = {task: 0 for task in self._order}
        for edge in self._arrows:
            after.setdefault(edge.upstream_task, []).append(edge.downstream_task)
            missing[edge.downstream_task] += 1
        made: list[Task] = []
        ready = [task for task in self._order if not missing[task]]
        while ready:
            task = ready.pop(0)
            made.append(task)
            for following in after.get(task, ()):
                missing[following] -= 1
                if not missing[following]:
                    ready.append(following)
        if len(made) < len(self._order):
            names = ", ".join(sorted(task.name for task in set(self._order) - set(made)))
            raise ValueError(f"Flow {self.name!r} has a cycle, among: {names}. No task can come before itself.")
        if root_tasks is None:
            return tuple(made)
        reached = set(root_tasks)
        for task in made:
            if task in reached:
                reached.update(after.get(task, ()))
        return tuple(task for task in made if task in reached)

    def validate(self) -> None:
        """
        Look at the graph.

        Raises:
            ValueError: There is a cycle, or a reference task is missing.
        """
        self.sorted_tasks()
        if any(task not in self.tasks for task in self._reference_tasks):
            raise ValueError(f"A reference task of flow {self.name!r} is not in it.")

    def __contains__(self, task: Task) -> bool:
        return task in self.tasks

    def __repr__(self) -> str:
        return f'<Flow: name="{self.name}">'

    # --- running

    def run(
        self,
        parameters: dict[str, Any] | None = None,
        run_on_schedule: bool | None = None,
        *,
        task_states: Mapping[Task, State] | None = None,
        context: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        task_runner_state_handlers: Handlers | None = None,
        idempotency_key: str | None = None,
        resume: str | None = None,
        **kwargs: Any,
    ) -> State:
        """
        Run it, here and now, and record it.

        Args:
            parameters: By name. They may be given as keywords too.
            run_on_schedule: Taken; there are no schedules.
            task_states: States to begin with: a finished one stands for the task's run, a Looped one begins the loop there.
            context: What tasks find in the context besides.
            executor: Instead of the flow's.
            task_runner_state_handlers: Called ``(runner, old_state, new_state)`` for each task; ``runner.task`` is the task.
            idempotency_key: One run for ever under this key: calling again goes on with it, or gives what it gave.
            resume: The id of a paused or interrupted run to go on with, with the parameters recorded there.
            kwargs: Parameters.

        Returns:
            The state of the run; ``result`` has the state of each task by task, also where it failed or is paused.

        Raises:
            RuntimeError: It is called inside of ``with Flow(...)``.
            ValueError: A parameter is missing or unknown.
            TypeError: A keyword is neither a parameter nor an argument.
        """
        from .running import run_flow

        return run_flow(
            self,
            {**(parameters or {})},
            kwargs,
            task_states=dict(task_states or {}),
            given=dict(context or {}),
            executor=executor,
            runner_handlers=_handlers(task_runner_state_handlers),
            idempotency_key=idempotency_key,
            resume=resume,
        )

    @property
    def __pluperfect_flow__(self) -> Any:
        """What the engine runs: how `pluperfect resume` finds it."""
        from .running import modern_flow

        return modern_flow(self)[0]

    @property
    def place(self) -> tuple[str, str]:
        """The module and the name under which others can import it, as far as it has one."""
        for name, value in list(vars(sys.modules.get(self._module, object)).items()):
            if value is self:
                return self._module, name
        return self._module, f"<locals>.{self.name}"

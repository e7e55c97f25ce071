"""Graphs: tasks, the arrows between them, and the values that they are bound to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from ..utilities.context import context
from ..utilities.edges import annotated
from .edge import Edge
from .operators import as_task_value
from .parameter import Parameter
from .task import Task, note_used

__all__ = ["Bound", "Graph"]

Bound = tuple[Any, bool, bool]
"""A value that an argument is bound to, whether it is mapped over, and whether it is flattened."""


class Graph:
    """
    Tasks and the arrows between them: what a flow is, apart from its runs.

    Args:
        name: The name of the flow.
        validate: Whether to look for cycles at each arrow.
    """

    def __init__(self, name: str, *, validate: bool) -> None:
        self.name: str = name
        self.tasks: set[Task] = set()
        self.edges: set[Edge] = set()
        self.constants: dict[Task, dict[str, Bound]] = {}
        self.slugs: dict[Task, str] = {}
        self._reference_tasks: list[Task] = []
        self._validate: bool = validate
        self._order: list[Task] = []  # the tasks as they were added
        self._arrows: list[Edge] = []

    # --- building

    def add_task(self, task: Task) -> Task:
        """
        Add a task.

        Raises:
            TypeError: It is no task.
            ValueError: Its slug, or a parameter's name, is taken.
        """
        if not isinstance(task, Task):
            raise TypeError(f"A flow is made of tasks, not of {task!r}.")
        note_used(task)
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
        if case is not None and not isinstance(task, Parameter):  # a value from outside belongs to no block
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

    def update(self, flow: Graph, merge_parameters: bool = False, validate: bool | None = None) -> None:
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
        return {
            task
            for task in self.tasks
            if not task.cleans_up and all(after.cleans_up for after in self.downstream_tasks(task))
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
        missing = dict.fromkeys(self._order, 0)
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

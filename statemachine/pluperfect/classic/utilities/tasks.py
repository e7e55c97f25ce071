"""The decorator, tags, and helpers around tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from ...authoring.binding import signature_of
from ..core.task import FunctionTask, Task, current_flow
from ..engine.signals import PAUSE
from .context import context
from .edges import EdgeAnnotation, annotated, mapped

if TYPE_CHECKING:
    from ..core.flow import Flow

__all__ = ["apply_map", "as_task", "defaults_from_attrs", "pause_task", "tags", "task"]


def task(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """
    Make a task of a function, bare or with the options of `Task`.

    Called inside of ``with Flow(...)`` it is added to the graph; ``run`` is the function itself.
    """
    if fn is None:
        return lambda function: FunctionTask(function, **options)  # type: ignore[reportUnknownLambdaType]
    return FunctionTask(fn, **options)


@contextmanager
def tags(*names: str) -> Generator[None]:
    """Tag every task that is made or called inside."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"A tag is a string, not {name!r}.")
    with context(tags={*(context.get("tags") or ()), *names}):
        yield


def defaults_from_attrs(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    For the ``run`` of a subclass of `Task`: the arguments of these names, where they are not given, are its attributes.

    Args:
        names: Of arguments of ``run`` that are attributes of the task too.
    """

    def decorate(run: Callable[..., Any]) -> Callable[..., Any]:
        signature = signature_of(run)
        unknown = [name for name in names if name not in signature.parameters]
        if unknown:
            raise TypeError(f"defaults_from_attrs names {unknown[0]!r}, which is no argument of {run.__name__}().")

        @wraps(run)
        def with_defaults(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = signature.bind_partial(self, *args, **kwargs).arguments
            return run(self, *args, **kwargs, **{name: getattr(self, name) for name in names if name not in given})

        return with_defaults

    return decorate


def pause_task(message: str | None = None) -> None:
    """In a task's body: pause the flow run here, unless this attempt began by resuming it."""
    if not context.get("resume"):
        raise PAUSE(message or "The task paused itself.")


def as_task(value: Any, flow: Flow | None = None) -> Any:
    """A container with tasks in it as one task; a task, and every other value, as it is."""
    from ..core.operators import as_task_value

    return as_task_value(value, current_flow(flow))


def apply_map(func: Callable[..., Any], *args: Any, flow: Flow | None = None, **kwargs: Any) -> Any:
    """
    Map every task that a function adds to a flow: the graph that it builds for one item, over all items.

    Args:
        func: Builds tasks from its arguments.
        args: Tasks or values, mapped unless ``unmapped``.
        flow: By default the active one.
        kwargs: As ``args``.

    Raises:
        ValueError: No flow is active.
    """
    from ..core.flow import Flow

    here = current_flow(flow)
    bound = signature_of(func).bind(*args, **kwargs)
    given: dict[Task, EdgeAnnotation] = {}
    arguments: dict[str, Any] = {}

    def stand_in(value: Any) -> Any:
        marked = value if isinstance(value, EdgeAnnotation) else mapped(value)
        made = FunctionTask(_nothing, name="argument")
        given[made] = marked
        return made

    sub = Flow(here.name)
    with context(flow=sub, case=None, _unused=None):
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                arguments[name] = tuple(stand_in(one) for one in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                arguments[name] = {key: stand_in(one) for key, one in value.items()}
            else:
                arguments[name] = stand_in(value)
        bound.arguments.update(arguments)
        result = func(*bound.args, **bound.kwargs)
    for made in sub._order:
        if made not in given:
            here.add_task(made)
    for edge in sub._arrows:
        before, after = edge.upstream_task, edge.downstream_task
        if before not in given:
            here.add_edge(before, after, edge.key, mapped=not _constant(sub, before, given), flattened=edge.flattened)
        elif edge.key is not None:
            here.set_dependencies(after, keyword_tasks={edge.key: given[before]})
        else:
            here.set_dependencies(after, upstream_tasks=[given[before]])
    for made, values in sub.constants.items():
        here.constants.setdefault(made, {}).update(values)
    return result


def _nothing() -> None:
    return None


def _constant(flow: Flow, task: Task, given: dict[Task, EdgeAnnotation]) -> bool:
    """Whether a task depends on no item: it is called once, and its result is the same for every item."""
    edges = flow.edges_to(task)
    for edge in edges:
        before = edge.upstream_task
        if before in given:
            if annotated(given[before], True)[1]:
                return False
        elif not _constant(flow, before, given):
            return False
    return True

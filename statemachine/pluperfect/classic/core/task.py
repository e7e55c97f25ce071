"""Tasks: the nodes of a graph, which a flow calls when it runs."""

from __future__ import annotations

import copy as copying
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from ...authoring.binding import signature_of
from ..utilities.context import context
from . import options
from .operable import Operable

if TYPE_CHECKING:
    from ..engine.results import Result
    from .flow import Flow

__all__ = ["FunctionTask", "Task", "active_flow", "current_flow", "note_used"]


def active_flow() -> Flow | None:
    """The flow of the nearest ``with Flow(...)``."""
    return context.get("flow")


def current_flow(given: Flow | None = None) -> Flow:
    """
    The given flow, else the active one.

    Raises:
        ValueError: There is none.
    """
    found = given if given is not None else active_flow()
    if found is None:
        raise ValueError("No flow is active here. Do this inside of `with Flow(...) as flow:`, or give `flow=`.")
    return found


_RESERVED: Final = frozenset({"upstream_tasks", "mapped", "task_args", "flow"})


class Task(Operable):
    """
    A step of a flow: subclass it and define ``run``, or decorate a function with ``@task``.

    Calling a task inside of ``with Flow(...)`` adds a copy of it to the graph, bound to the arguments; nothing is
    executed before `Flow.run`.

    Args:
        name: By default the function's or the class's name.
        slug: What tells it from others in its flow; by default made of the name.
        tags: Labels to find its runs by.
        max_retries: Attempts after the first; needs ``retry_delay``.
        retry_delay: The wait between attempts.
        retry_on: Retry only on exceptions of these classes.
        timeout: Seconds that one attempt, or one iteration of a loop, may take.
        trigger: Whether it may begin, asked with the states of what came before it; see `pluperfect.classic.triggers`.
        skip_on_upstream_skip: Whether it is skipped when something before it was.
        cache_for: How long its results answer later runs.
        cache_validator: Which of them do; see ``engine.cache_validators``.
        cache_key: What they are kept under; by default the name.
        checkpoint: False: the result is not recorded.
        state_handlers: Called ``(task, old_state, new_state)`` before each change is recorded; may give another state.
        on_failure: Called ``(task, state)`` on each failed attempt.
        log_stdout: Whether what it prints goes to the log of its run.
        result: Taken; results are kept in the log.
        target: A name, as a template over the context and the inputs: what was recorded under it answers the call.
        task_run_name: The run's own name, likewise.
        nout: How many results it returns, so that they can be unpacked.
    """

    cleans_up: ClassVar[bool] = False
    """Whether it only cleans up after others, so that it does not count where it is asked how a run ended."""

    if TYPE_CHECKING:

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """What is executed, with the results that are handed on: subclasses have arguments of their own."""

    else:

        def run(self) -> None:
            """Nothing; a task that only stands between others needs no more."""

    def __init__(
        self,
        name: str | None = None,
        slug: str | None = None,
        tags: Iterable[str] | None = None,
        max_retries: int | None = None,
        retry_delay: timedelta | None = None,
        retry_on: type[BaseException] | Iterable[type[BaseException]] | None = None,
        timeout: float | timedelta | None = None,
        trigger: Callable[[Mapping[Any, Any]], bool] | None = None,
        skip_on_upstream_skip: bool = True,
        cache_for: timedelta | None = None,
        cache_validator: Callable[..., bool] | None = None,
        cache_key: str | None = None,
        checkpoint: bool | None = None,
        state_handlers: Iterable[options.Handler] | None = None,
        on_failure: Callable[[Any, Any], Any] | None = None,
        log_stdout: bool = False,
        result: Result | None = None,
        target: str | Callable[..., str] | None = None,
        task_run_name: str | Callable[..., str] | None = None,
        nout: int | None = None,
    ) -> None:
        from .. import triggers  # both speak of states, which know the signals, which tasks raise
        from ..engine.cache_validators import duration_only

        self.name: str = name or type(self).__name__
        self.slug: str | None = slug
        self.tags: set[str] = {*options.tags_of(tags), *(context.get("tags") or ())}
        count, delay = options.retries_and_delay(max_retries, retry_delay)
        self.max_retries: int = count
        self.retry_delay: timedelta | None = delay
        self.retry_on: tuple[type[BaseException], ...] = options.classes_of_exceptions(retry_on, count)
        self.timeout: float | None = options.limit(timeout)
        if trigger is not None and not callable(trigger):
            raise TypeError(f"trigger is called with the states of what came before; {trigger!r} is not callable.")
        self.trigger: Callable[[Mapping[Any, Any]], bool] = trigger or triggers.all_successful
        self.skip_on_upstream_skip: bool = bool(skip_on_upstream_skip)
        self.cache_for: timedelta | None = options.keep_for(cache_for)
        if cache_for is None and cache_validator is not None:
            warnings.warn("cache_validator without cache_for: nothing is cached. Give cache_for too.", stacklevel=2)
        self.cache_validator: Callable[..., bool] = cache_validator or duration_only
        self.cache_key: str | None = cache_key
        self.checkpoint: bool | None = checkpoint
        self.state_handlers: list[options.Handler] = options.handlers(state_handlers, on_failure)
        self.log_stdout: bool = bool(log_stdout)
        self.result: Result | None = result
        self.target: str | Callable[..., str] | None = target or getattr(result, "location", None)
        self.task_run_name: str | Callable[..., str] | None = task_run_name
        self.nout: int | None = options.count_of_results(nout)
        self.auto_generated: bool = False
        self._check_run()
        _note_unused(self)

    def _check_run(self) -> None:
        if inspect.iscoroutinefunction(self.run) or inspect.isgeneratorfunction(self.run):
            raise TypeError(
                f"{self.name}: a classic task is a plain function, neither async nor a generator."
                " Those are tasks of pluperfect itself: `from pluperfect import flow, task`."
            )
        for parameter in signature_of(self.run).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise ValueError(
                    f"{self.name}: a task's function takes no *{parameter.name}, since edges have names. Take a list."
                )
            if parameter.name in _RESERVED:
                raise ValueError(f"{self.name}: the argument {parameter.name!r} has another meaning. Rename it.")

    # --- the graph

    def copy(self, **task_args: Any) -> Self:
        """
        A copy, with these attributes changed.

        Raises:
            AttributeError: There is no such attribute.
        """
        made = copying.copy(self)
        made.slug, made.tags = None, {*self.tags, *(context.get("tags") or ())}
        made.state_handlers = list(self.state_handlers)
        for name, value in task_args.items():
            if not hasattr(made, name):
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r} that a copy could change.")
            setattr(made, name, _changed(made, name, value))
        made.max_retries, made.retry_delay = options.retries_and_delay(made.max_retries, made.retry_delay)
        _note_unused(made)
        return made

    def __call__(
        self,
        *args: Any,
        mapped: bool = False,
        task_args: dict[str, Any] | None = None,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Flow | None = None,
        **kwargs: Any,
    ) -> Self:
        """
        Add a copy to the flow, bound to these arguments.

        Args:
            args: Values, or tasks whose results are handed on.
            mapped: Call it once for each item of the arguments.
            task_args: Attributes of the copy.
            upstream_tasks: Tasks that come before it, and hand on nothing.
            flow: By default the active one.
            kwargs: As ``args``.
        """
        made = self.copy(**(task_args or {}))
        note_used(self)
        return made.bind(*args, mapped=mapped, upstream_tasks=upstream_tasks, flow=flow, **kwargs)

    def bind(
        self,
        *args: Any,
        mapped: bool = False,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Flow | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add this very task to the flow, bound to these arguments."""
        here = current_flow(flow)
        signature = signature_of(self.run)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}; it is called as {self.name}{signature}.") from None
        arguments = dict(bound.arguments)
        for name, parameter in bound.signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments.update(arguments.pop(name, {}))
        here.set_dependencies(self, upstream_tasks=upstream_tasks, keyword_tasks=arguments, mapped=mapped)
        return self

    def map(
        self,
        *args: Any,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Flow | None = None,
        task_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add a copy that is called once for each item of its arguments; ``unmapped(x)`` is the same for every call."""
        return self(*args, mapped=True, task_args=task_args, upstream_tasks=upstream_tasks, flow=flow, **kwargs)

    def pipe(self, task: Task, *args: Any, **kwargs: Any) -> Task:
        """``b.pipe(c, x)`` is ``c(b, x)``."""
        return task(self, *args, **kwargs)

    def set_dependencies(
        self,
        flow: Flow | None = None,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
    ) -> Self:
        """Say what comes before and after it, and what it is given."""
        current_flow(flow).set_dependencies(
            self,
            upstream_tasks=upstream_tasks,
            downstream_tasks=downstream_tasks,
            keyword_tasks=keyword_tasks,
            mapped=mapped,
        )
        return self

    def set_upstream(self, task: Any, flow: Flow | None = None, key: str | None = None, mapped: bool = False) -> Self:
        """This one comes after ``task``, and is given its result as ``key``."""
        if key is not None:
            return self.set_dependencies(flow, keyword_tasks={key: task}, mapped=mapped)
        return self.set_dependencies(flow, upstream_tasks=[task], mapped=mapped)

    def set_downstream(
        self, task: Task, flow: Flow | None = None, key: str | None = None, mapped: bool = False
    ) -> Self:
        """``task`` comes after this one, and is given its result as ``key``."""
        task.set_upstream(self, flow=flow, key=key, mapped=mapped)
        return self

    def inputs(self) -> dict[str, dict[str, Any]]:
        """The arguments: by name, whether they are required and of which type."""
        found: dict[str, dict[str, Any]] = {}
        for name, parameter in signature_of(self.run).parameters.items():
            kind = Any if parameter.annotation is parameter.empty else parameter.annotation
            found[name] = {"required": parameter.default is parameter.empty, "type": kind}
        return found

    @property
    def logger(self) -> logging.Logger:
        """Where its lines go."""
        return context.get("logger") or logging.getLogger("pluperfect.task_runs")

    def __iter__(self) -> Iterator[Any]:
        if self.nout is None:
            raise TypeError(
                f"{self.name} cannot be unpacked here, where it has not run. If it returns several results, give `nout=`."
            )
        return iter([self[place] for place in range(self.nout)])

    def __len__(self) -> int:
        if self.nout is None:
            raise TypeError(f"{self.name} has no length here, where it has not run. Give `nout=`.")
        return self.nout

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"

    def __or__(self, other: Any) -> Any:
        """``a | b``: b comes after a."""
        self.set_dependencies(downstream_tasks=[other])
        return other

    def __ror__(self, other: Any) -> Self:
        return self.set_dependencies(upstream_tasks=[other])


class FunctionTask(Task):
    """
    A task made of a function.

    Args:
        fn: The function; it is the ``run`` of the task.
        name: By default the function's.
        kwargs: As for `Task`.
    """

    def __init__(self, fn: Callable[..., Any], name: str | None = None, **kwargs: Any) -> None:
        if not callable(fn):
            raise TypeError(f"@task decorates a function, not {fn!r}.")
        self.run: Callable[..., Any] = fn
        super().__init__(name=name or getattr(fn, "__name__", type(fn).__name__), **kwargs)
        self.__doc__ = getattr(fn, "__doc__", None)
        self.__wrapped__: Callable[..., Any] = fn


def _changed(task: Task, name: str, value: Any) -> Any:
    """A changed attribute of a copy, checked as it would be where a task is made."""
    if name == "tags":
        return {*task.tags, *options.tags_of(value)}
    if name == "state_handlers":
        return options.handlers(value)
    return options.limit(value) if name == "timeout" else value


def _note_unused(task: Task) -> None:
    tracker: set[Task] | None = context.get("_unused")
    if tracker is not None:
        tracker.add(task)


def note_used(task: Task) -> None:
    """Let the nearest ``with Flow(...)`` know that a task became part of a flow."""
    tracker: set[Task] | None = context.get("_unused")
    if tracker is not None:
        tracker.discard(task)

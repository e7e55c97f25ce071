"""Tasks and parameters: the nodes of a graph, which a flow calls when it runs."""

from __future__ import annotations

import copy as copying
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self, cast

from ..utilities.context import context
from ..utilities.edges import EdgeAnnotation, flatten, mapped, unmapped

if TYPE_CHECKING:
    from ..engine.results import Result
    from .flow import Flow

__all__ = ["FunctionTask", "NoDefault", "Parameter", "Task", "active_flow", "current_flow"]

Handlers = Iterable[Callable[[Any, Any, Any], Any]]


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


class Task:
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

    run: Callable[..., Any]

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
        state_handlers: Handlers | None = None,
        on_failure: Callable[[Any, Any], Any] | None = None,
        log_stdout: bool = False,
        result: Result | None = None,
        target: str | Callable[..., str] | None = None,
        task_run_name: str | Callable[..., str] | None = None,
        nout: int | None = None,
    ) -> None:
        from .. import triggers
        from ..engine.cache_validators import duration_only

        self.name: str = name or type(self).__name__
        self.slug = slug
        given = context.get("tags")
        self.tags: set[str] = {*_tags(tags), *(given or ())}
        self.max_retries, self.retry_delay = _retries(max_retries, retry_delay)
        self.retry_on = _classes(retry_on, self.max_retries)
        self.timeout = _timeout(timeout)
        if trigger is not None and not callable(trigger):
            raise TypeError(f"trigger is called with the states of what came before; {trigger!r} is not callable.")
        self.trigger = trigger or triggers.all_successful
        self.skip_on_upstream_skip = bool(skip_on_upstream_skip)
        if cache_for is not None and not isinstance(cache_for, timedelta):
            raise TypeError(f"cache_for is a timedelta, not {cache_for!r}.")
        if cache_for is None and cache_validator is not None:
            warnings.warn("cache_validator without cache_for: nothing is cached. Give cache_for too.", stacklevel=2)
        self.cache_for = cache_for
        self.cache_validator = cache_validator or duration_only
        self.cache_key = cache_key
        self.checkpoint = checkpoint
        self.state_handlers = _handlers(state_handlers)
        if on_failure is not None:
            self.state_handlers.append(_OnFailure(on_failure))
        self.log_stdout = bool(log_stdout)
        self.result = result
        self.target: Any = target if target is not None else getattr(result, "location", None)
        self.task_run_name = task_run_name
        if nout is not None and (isinstance(nout, bool) or not isinstance(nout, int) or nout < 0):
            raise ValueError(f"nout is a whole number from 0, not {nout!r}.")
        self.nout = nout
        self.auto_generated = False
        self._check_run()
        _note_unused(self)

    def _check_run(self) -> None:
        found = getattr(self, "run", None)
        if found is None:
            return
        for parameter in inspect.signature(found).parameters.values():
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
        _note_used(self)
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
        bound = inspect.signature(self.run).bind(*args, **kwargs)
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
        for name, parameter in inspect.signature(self.run).parameters.items():
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

    # --- operators: each adds a task that applies it when the flow runs

    def _operated(self, symbol: str, other: Any, *, swapped: bool = False) -> Task:
        from .operators import operator_task

        pair = (other, self) if swapped else (self, other)
        return operator_task(symbol).bind(*pair)

    def is_equal(self, other: Any) -> Task:
        """``self == other``, as a task."""
        return self._operated("==", other)

    def not_equal(self, other: Any) -> Task:
        """``self != other``, as a task."""
        return self._operated("!=", other)

    def or_(self, other: Any) -> Task:
        """``self or other``, as a task."""
        return self._operated("or", other)

    def not_(self) -> Task:
        """``not self``, as a task."""
        from .operators import operator_task

        return operator_task("not").bind(self)

    def __or__(self, other: Any) -> Any:
        """``a | b``: b comes after a."""
        self.set_dependencies(downstream_tasks=[other])
        return other

    def __ror__(self, other: Any) -> Self:
        return self.set_dependencies(upstream_tasks=[other])

    def __getitem__(self, key: Any) -> Task:
        from .operators import operator_task

        name = f"{self.name}[{key!r}]" if not isinstance(key, Task) else None
        return operator_task("[]", name).bind(self, key)


_OPERATORS: Final = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "and": "and",
    "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
}  # fmt: skip


def _operator(symbol: str, *, swapped: bool = False) -> Callable[[Task, Any], Task]:
    def apply(self: Task, other: Any) -> Task:
        return self._operated(symbol, other, swapped=swapped)

    return apply


for _name, _symbol in _OPERATORS.items():
    setattr(Task, f"__{_name}__", _operator(_symbol))
    if _symbol not in {">", ">=", "<", "<="}:
        setattr(Task, f"__r{_name}__", _operator(_symbol, swapped=True))


class FunctionTask(Task):
    """A task made of a function."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None, **kwargs: Any) -> None:
        if not callable(fn):
            raise TypeError(f"@task decorates a function, not {fn!r}.")
        self.run = fn
        super().__init__(name=name or getattr(fn, "__name__", type(fn).__name__), **kwargs)
        for attribute in ("__doc__", "__wrapped__"):
            self.__dict__[attribute] = fn if attribute == "__wrapped__" else getattr(fn, attribute, None)


class _NoDefault:
    def __repr__(self) -> str:
        return "no default"


NoDefault: Final = _NoDefault()


class Parameter(Task):
    """
    A value that `Flow.run` is given by name.

    Args:
        name: Of its own in its flow.
        default: The value where none is given.
        required: Whether a value has to be given; by default, if there is no default.
        tags: Labels.
    """

    def __init__(
        self, name: str, default: Any = NoDefault, required: bool | None = None, tags: Iterable[str] | None = None
    ) -> None:
        if required is None:
            required = default is NoDefault
        self.required, self.default = required, (None if default is NoDefault else default)
        super().__init__(name=name, slug=name, tags=tags)

    def run(self) -> Any:  # type: ignore[reportIncompatibleVariableOverride]
        """The value in the flow run at hand."""
        given: Mapping[str, Any] = context.get("parameters") or {}
        return given.get(self.name, self.default)

    def copy(self, name: str | None = None, **task_args: Any) -> Self:  # type: ignore[reportIncompatibleMethodOverride]
        """A copy, under another name."""
        made = super().copy(**task_args)
        made.name = made.slug = name or self.name
        return made

    def __call__(self, *args: Any, flow: Flow | None = None, **kwargs: Any) -> Self:  # type: ignore[reportIncompatibleMethodOverride]
        """Add this parameter to the flow: there is one of each name."""
        return self.bind(flow=flow)

    def __repr__(self) -> str:
        return f"<Parameter: {self.name}>"


# --- what is checked where it is given ----------------------------------------------------------------------

_RESERVED: Final = frozenset({"upstream_tasks", "mapped", "task_args", "flow"})


class _OnFailure:
    """``on_failure`` as a state handler."""

    def __init__(self, call: Callable[[Any, Any], Any]) -> None:
        if not callable(call):
            raise TypeError(f"on_failure is called with (task, state); {call!r} is not callable.")
        self.call = call

    def __call__(self, task: Any, old_state: Any, new_state: Any) -> None:
        if new_state.is_failed():
            self.call(task, new_state)


def _retries(given: int | None, delay: timedelta | None) -> tuple[int, timedelta | None]:
    count = 0 if given is None else given
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"max_retries is a whole number from 0, not {given!r}.")
    if delay is not None and not isinstance(delay, timedelta):
        raise TypeError(f"retry_delay is a timedelta, such as timedelta(seconds=2), not {delay!r}.")
    if count and delay is None:
        raise ValueError("max_retries needs retry_delay: say how long to wait, such as retry_delay=timedelta(seconds=2).")
    if delay is not None and not count:
        raise ValueError("retry_delay needs max_retries: say how often to try again, such as max_retries=3.")
    return count, delay


def _classes(given: Any, retries: int) -> tuple[type[BaseException], ...]:
    if given is None:
        return ()
    listed = (given,) if isinstance(given, type) else tuple(given)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_on names classes of exceptions, not {kind!r}.")
    if not retries:
        raise ValueError("retry_on needs max_retries and retry_delay.")
    return listed


def _timeout(given: Any) -> float | None:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise TypeError(f"timeout is a number of seconds, more than 0, not {given!r}.")
    return seconds


def _tags(given: Iterable[str] | None) -> set[str]:
    if isinstance(given, str):
        raise TypeError(f"tags is a list of strings, not {given!r}.")
    return set(given or ())


def _handlers(given: Handlers | None) -> list[Callable[[Any, Any, Any], Any]]:
    if given is None:
        return []
    if callable(given) or isinstance(given, str):
        raise TypeError(f"state_handlers is a list of callables, each called with (task, old_state, new_state), not {given!r}.")
    listed = list(given)
    for handler in listed:
        if not callable(handler):
            raise TypeError(f"A state handler is called with (task, old_state, new_state); {handler!r} is not callable.")
    return listed


def _changed(task: Task, name: str, value: Any) -> Any:
    """A changed attribute of a copy, checked as it would be where a task is made."""
    if name == "tags":
        return {*task.tags, *_tags(value)}
    if name == "state_handlers":
        return _handlers(value)
    return _timeout(value) if name == "timeout" else value


def _note_unused(task: Task) -> None:
    tracker: set[Task] | None = context.get("_unused")
    if tracker is not None and not isinstance(task, Parameter):
        tracker.add(task)


def _note_used(task: Task) -> None:
    tracker: set[Task] | None = context.get("_unused")
    if tracker is not None:
        tracker.discard(task)


def annotated(value: Any, default_mapped: bool) -> tuple[Any, bool, bool]:
    """A bound argument without its marks: the value, whether it is mapped, whether it is flattened."""
    is_mapped, flattened = default_mapped, False
    while isinstance(value, EdgeAnnotation):
        if isinstance(value, mapped):
            is_mapped = True
        elif isinstance(value, unmapped):
            is_mapped = False
        elif isinstance(value, flatten):
            flattened = True
        value = cast("EdgeAnnotation", value).value
    return value, is_mapped, flattened

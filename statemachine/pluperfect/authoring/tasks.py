"""Tasks: the steps of a flow, each a run of its own in the log."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast, overload

from ..errors import MappingLengthMismatch, MappingMissingIterable, UpstreamFailed
from ..sites import call_site
from ..states import State
from . import engine
from .annotations import Annotation, allow_failure, opaque, quote, unmapped
from .births import Request
from .context import current_frame
from .definitions import Authored
from .futures import Future, FutureList

if TYPE_CHECKING:
    from ..cache_policies import CachePolicy

__all__ = ["Task", "exponential_backoff", "task"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
S = TypeVar("S")
T = TypeVar("T")

Delays = float | Iterable[float] | Callable[[int], Iterable[float] | float] | None
Level = Literal["effect", "result", "lazy"]


class Task(Authored, Generic[P, R]):
    """
    A function whose calls are recorded, retried, cached and timed.

    Called inside of a flow or another task, a call is a run under that one; outside, a run of its own. The
    value is returned and the original exception raised, as if there were no task.
    """

    kind = "task"

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        super().__init__(fn, options)

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: Task[..., Coroutine[Any, Any, Any]], *args: Any, return_state: Literal[True], **kwargs: Any
    ) -> Coroutine[Any, Any, State]: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State: ...
    @overload
    def __call__(self, *args: Any, wait_for: Any, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; ``return_state=True`` gives the final state, ``wait_for=[...]`` is awaited first."""
        return engine.enter(self, args, kwargs)

    @overload
    def submit(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def submit(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State: ...  # type: ignore[reportOverlappingOverload]
    @overload
    def submit(self: Task[..., Coroutine[Any, Any, T]], *args: Any, wait_for: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, *args: Any, wait_for: Any, **kwargs: Any) -> Future[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """
        Begin the call in the flow's runner and go on; with ``return_state=True``, wait for its state.

        ``wait_for=[...]`` names futures and states to wait for first.

        Raises:
            MissingContextError: No flow runs here.
        """
        return_state, wait_for = kwargs.pop("return_state", False), _as_it_is(kwargs.pop("wait_for", None))
        future = engine.submit(Request(self, args, kwargs, wait_for, site=call_site(2)))
        if return_state:
            future.wait()
            return future.state
        return future

    @overload
    def map(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> list[State]: ...  # type: ignore[reportOverlappingOverload]
    @overload
    def map(self: Task[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> FutureList[T]: ...
    @overload
    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]: ...
    def map(self, *args: Any, **kwargs: Any) -> Any:
        """
        Submit one call for each item of the iterables, which go side by side.

        An argument in ``unmapped(...)``, a string, bytes, and whatever cannot be iterated over is the same
        for every call. A future is waited for and its result iterated over.

        Raises:
            MappingLengthMismatch: The iterables have different lengths.
            MappingMissingIterable: There is nothing to iterate over.
            MissingContextError: No flow runs here.
        """
        return_state, wait_for = kwargs.pop("return_state", False), _as_it_is(kwargs.pop("wait_for", None))
        given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        columns = {place: column(value) for place, value in given.items()}
        mapped = {place: items for place, items in columns.items() if items is not None}
        if not mapped:
            raise MappingMissingIterable(
                f"{self.name}.map() was given nothing to iterate over. Give at least one list, or call it directly."
            )
        lengths = {place: len(items) for place, items in mapped.items()}
        if len(set(lengths.values())) > 1:
            named = ", ".join(f"{self._parameter(place)}: {length}" for place, length in lengths.items())
            raise MappingLengthMismatch(f"{self.name}.map() was given iterables of different lengths: {named}.")
        parent = current_frame.get()
        if parent is None or parent.flow is None:
            raise engine.needs_flow(self, "map")
        index, number = parent.children.place(self.key, self.name, next(iter(lengths.values())))
        each = [mapped[place] if place in mapped else repeat(constant(value)) for place, value in given.items()]
        names, width = tuple(kwargs), len(args)
        site = call_site()
        futures: FutureList[Any] = FutureList(
            engine.submit_each(
                Request(
                    self,
                    row[:width],
                    dict(zip(names, row[width:], strict=True)) if names else {},
                    wait_for,
                    (index, number + i),
                    i,
                    site=site,
                )
                for i, row in enumerate(zip(*each, strict=False))  # what is repeated has no end
            )
        )
        if return_state:
            futures.wait()
            return [future.state for future in futures]
        return futures

    def _parameter(self, place: int | str) -> str:
        names = list(self.binder.signature.parameters)
        return names[place] if isinstance(place, int) and place < len(names) else str(place)

    @property
    def task_key(self) -> str:
        """What tells the task from others: a hash of its name, its function's qualified name, and its tags."""
        return self.key

    def with_options(self, **options: Any) -> Task[P, R]:
        """A copy with other options: whatever is passed counts, also 0, None and the empty string."""
        return type(self)(cast("Callable[P, R]", self.fn), **self._with(options))

    @overload
    def __get__(self: Task[Concatenate[type[S], Q], R], obj: Any, owner: type[S]) -> Task[Q, R]: ...
    @overload
    def __get__(self, obj: None, owner: type) -> Task[P, R]: ...
    @overload
    def __get__(self: Task[Concatenate[S, Q], R], obj: S, owner: type | None = None) -> Task[Q, R]: ...
    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        """As a method: bound to its object, which is the first argument of the call."""
        return self.bound_to(obj, owner)


def _as_it_is(wait_for: Any) -> Any:
    """What a call waits for, as it stands now: the caller's list may go on to collect the call's own future."""
    return tuple(cast("list[Any]", wait_for)) if isinstance(wait_for, list) else wait_for or ()


def constant(value: Any) -> Any:
    """What every call of a map is given where an argument is not iterated over: the value without its `unmapped`."""
    if not isinstance(value, Annotation):
        return value
    mark = cast("Annotation[Any]", value)
    return constant(mark.value) if isinstance(mark, unmapped) else mark.rewrap(constant(mark.value))


def column(value: Any) -> list[Any] | None:
    """
    The items of a mapped argument; None where it is one value for every call.

    A run is waited for. Marks other than ``unmapped`` hold for each item.

    Raises:
        UpstreamFailed: It has no result.
    """
    if isinstance(value, unmapped | str | bytes | bytearray | quote):
        return None
    if isinstance(value, Annotation):
        mark = cast("Annotation[Any]", value)
        if isinstance(mark, opaque):
            return None
        inner: Any = mark.value
        held = isinstance(mark, allow_failure) and isinstance(inner, Future | State)
        if held and _ended(cast("Future[Any] | State", inner)).is_failed():
            return None  # each call is given the exception
        items = column(inner)
        return None if items is None else [mark.rewrap(item) for item in items]
    if isinstance(value, Future | State):
        return column(_result_of(cast("Future[Any] | State", value)))
    if hasattr(value, "read") or not isinstance(value, Iterable):
        return None
    return list(cast("Iterable[Any]", value))


def _ended(found: Future[Any] | State) -> State:
    if not isinstance(found, Future):
        return found
    found.wait()
    found.look()
    return found.state


def _result_of(found: Future[Any] | State) -> Any:
    state = _ended(found)
    if state.is_completed():
        return state.result()
    name = found.run_name if isinstance(found, Future) else getattr(state, "name", state.kind)
    error = UpstreamFailed(f"map() cannot iterate over the result of {name}, which ended as {state}.")
    raise error from (state.result(raise_on_failure=False) if state.is_failed() else None)


@overload
def task(fn: classmethod[Any, P, R], /) -> Task[P, R]: ...
@overload
def task(fn: staticmethod[P, R], /) -> Task[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    tags: Iterable[str] = ...,
    task_run_name: str | Callable[..., str] | None = None,
    retries: int = ...,
    retry_delay_seconds: Delays = ...,
    retry_jitter_factor: float | None = ...,
    retry_condition_fn: Callable[..., Any] | None = None,
    timeout_seconds: float | None = None,
    cache_policy: CachePolicy | None = None,
    cache_key_fn: Callable[..., str | None] | None = None,
    cache_expiration: timedelta | float | None = None,
    refresh_cache: bool | None = None,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    result_storage_key: str | None = None,
    cache_result_in_memory: bool = True,
    asset_deps: Iterable[Any] | None = None,
    validate: bool | Literal["strict"] = False,
    log_prints: bool | None = None,
    on_running: Iterable[Callable[..., Any]] | None = None,
    on_completion: Iterable[Callable[..., Any]] | None = None,
    on_failure: Iterable[Callable[..., Any]] | None = None,
    on_interrupt: Literal["retry", "fail"] | Callable[..., Any] = "retry",
    durability: Level | None = None,
    **plugin_options: Any,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """
    Make a task of a function, bare or with options.

    The options of the engine: ``name description version tags task_run_name timeout_seconds on_interrupt
    durability``. Plugins add theirs: retries, caching, callbacks, prints and results those of the signature,
    third-party plugins any other.

    Raises:
        TypeError, ValueError: An option is unknown, or its value is not possible.
    """
    if fn is not None:
        return Task(fn, **options)
    return lambda function: Task(function, **options)  # type: ignore[reportUnknownLambdaType]


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """
    Delays that double: ``backoff_factor`` seconds, then twice that, and so on, for at most 50 retries.

    Give it as ``retry_delay_seconds``.
    """

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2.0**k for k in range(min(retries, 50))]

    return delays

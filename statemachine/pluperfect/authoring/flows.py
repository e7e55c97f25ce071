"""Flows: functions whose runs hold the runs of what they call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast, overload

from ..states import State
from . import engine
from .births import Request
from .definitions import Authored

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ..hooks import Runner
    from ..values import Forked
    from .tasks import Delays, Level

__all__ = ["Flow", "flow"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
S = TypeVar("S")
T = TypeVar("T")


class Flow(Authored, Generic[P, R]):
    """
    A function whose call is a run, and whose calls of tasks and flows are runs under it.

    A call returns the function's value and raises its exception; ``return_state=True`` gives the final
    state instead.
    """

    kind = "flow"

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        super().__init__(fn, options)

    @staticmethod
    def _default_name(fn: Callable[..., Any]) -> str:
        name = str(getattr(fn, "__name__", type(fn).__name__))
        return "unknown-lambda" if name == "<lambda>" else name.replace("_", "-")

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: Flow[..., Coroutine[Any, Any, Any]], *args: Any, return_state: Literal[True], **kwargs: Any
    ) -> Coroutine[Any, Any, State]: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State: ...
    @overload
    def __call__(self, *args: Any, wait_for: Any, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; ``return_state=True`` gives the final state, ``wait_for=[...]`` is awaited first."""
        return engine.enter(self, args, kwargs)

    def resume(self, run_id: bytes, parameters: dict[str, Any]) -> Any:
        """Go on with a root run of this flow, found in the log at hand, with the parameters recorded there."""
        return self._carry_out(parameters, root_id=run_id, unpause=True)

    def fork(self, run_id: bytes, forked: Forked, parameters: dict[str, Any]) -> Any:
        """Begin a root run of this flow under a new id, with the parameters of the one whose beginning it shares."""
        return self._carry_out(parameters, root_id=run_id, forked=forked)

    def _carry_out(self, parameters: dict[str, Any], **how: Any) -> Any:
        make = engine.call_async if self.is_async else engine.call
        return make(Request(self, *self.binder.arguments(parameters), **how))

    def _default_version(self) -> str | None:
        """The MD5 of the file that defines it: another file, another version. None where there is no file."""
        file = getattr(getattr(self.fn, "__code__", None), "co_filename", "")
        try:
            with open(file, "rb") as source:  # noqa: PTH123 - pathlib is not loaded for this
                return hashlib.md5(source.read(), usedforsecurity=False).hexdigest()
        except OSError:
            return None

    def on_cancellation(self, fn: T) -> T:
        """Have this called, with (flow, run, state), when a run is cancelled. A decorator."""
        return self._add_callback("on_cancellation", fn)

    def on_crashed(self, fn: T) -> T:
        """Have this called, with (flow, run, state), when a run crashes. A decorator."""
        return self._add_callback("on_crashed", fn)

    @property
    def on_cancellation_hooks(self) -> list[Callable[..., Any]]:
        """The callbacks of ``on_cancellation``."""
        return self._callbacks("on_cancellation")

    @property
    def on_crashed_hooks(self) -> list[Callable[..., Any]]:
        """The callbacks of ``on_crashed``."""
        return self._callbacks("on_crashed")

    @property
    def should_validate_parameters(self) -> bool:
        """Whether parameters are checked and converted."""
        return bool(self.given.get("validate_parameters", True))

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """
        The parameters as the function would receive them, by name.

        Raises:
            ParameterTypeError: Some fit in no way.
            ParameterBindError: They are not those of the signature.
        """
        from .validation import Validator

        self.binder.bind((), parameters)
        _, checked = Validator(self.fn, self.binder.signature, name=self.name)((), parameters)
        return {name: value for name, value in self.binder.bind((), checked).items() if name in parameters}

    def with_options(self, **options: Any) -> Flow[P, R]:
        """A copy with other options: whatever is passed counts, also 0, None and the empty string."""
        return type(self)(cast("Callable[P, R]", self.fn), **self._with(options))

    @overload
    def __get__(self: Flow[Concatenate[type[S], Q], R], obj: Any, owner: type[S]) -> Flow[Q, R]: ...
    @overload
    def __get__(self, obj: None, owner: type) -> Flow[P, R]: ...
    @overload
    def __get__(self: Flow[Concatenate[S, Q], R], obj: S, owner: type | None = None) -> Flow[Q, R]: ...
    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        """As a method: bound to its object, which is the first argument of the call."""
        return self.bound_to(obj, owner)


@overload
def flow(fn: classmethod[Any, P, R], /) -> Flow[P, R]: ...
@overload
def flow(fn: staticmethod[P, R], /) -> Flow[P, R]: ...
@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    tags: Iterable[str] = ...,
    flow_run_name: str | Callable[..., str] | None = None,
    retries: int = ...,
    retry_delay_seconds: Delays = ...,
    retry_jitter_factor: float | None = ...,
    retry_condition_fn: Callable[..., Any] | None = None,
    timeout_seconds: float | None = None,
    task_runner: str | Runner | type[Runner] | Executor | None = "threads",
    validate_parameters: bool | Literal["strict"] = True,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    log_prints: bool | None = None,
    on_running: Iterable[Callable[..., Any]] | None = None,
    on_completion: Iterable[Callable[..., Any]] | None = None,
    on_failure: Iterable[Callable[..., Any]] | None = None,
    on_cancellation: Iterable[Callable[..., Any]] | None = None,
    on_crashed: Iterable[Callable[..., Any]] | None = None,
    on_interrupt: Literal["retry", "fail"] | Callable[..., Any] = "retry",
    on_divergence: Literal["refuse", "rerun"] = "refuse",
    durability: Level | None = None,
    idempotency_key: str | None = None,
    **plugin_options: Any,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(fn: Any = None, /, **options: Any) -> Any:
    """
    Make a flow of a function, bare or with options.

    The options of the engine: ``name description version tags flow_run_name timeout_seconds task_runner
    validate_parameters on_interrupt on_divergence durability idempotency_key``. Plugins add the others.

    Raises:
        TypeError, ValueError: An option is unknown, or its value is not possible.
    """
    if fn is not None:
        return Flow(fn, **options)
    return lambda function: Flow(function, **options)  # type: ignore[reportUnknownLambdaType]

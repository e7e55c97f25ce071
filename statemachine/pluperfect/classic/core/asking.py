"""
What the engine calls of a Prefect 1 task: its body, its trigger, its name, and which exceptions are retried.

Each is an object, so that a task can be sent to a worker: only the body goes there, the others stay behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ... import states as modern
from ...authoring.binding import signature_of
from ...authoring.context import current_frame
from ...authoring.signals import Signal
from ...consoles import run_logger
from ...transitions import Run
from ..engine.signals import ENDRUN
from .calls import called, calling, filled, own_context

if TYPE_CHECKING:
    from .task import Task

__all__ = ["Body", "Inert", "Naming", "RetryOn", "Trigger"]


class Inert:
    """A callable that stays where it is: in a worker there is one that does nothing."""

    def __reduce__(self) -> Any:
        return _gone, ()


def _gone() -> Callable[..., None]:
    return _nothing


def _nothing(*_: Any) -> None:
    return None


# --- the body -----------------------------------------------------------------------------------------------


class Body:
    """What the engine calls for a task: the user's ``run``, in its context."""

    __pluperfect_flow__ = None

    def __init__(self, task: Task, slug: str, module: str) -> None:
        self.task: Task = task
        run: Any = task.run
        self.__name__: str = task.name
        self.__qualname__: str = f"{getattr(run, '__qualname__', task.name)}/{slug}"
        self.__module__: str = module
        self.__doc__: str = inspect.getdoc(run) or ""
        self.__signature__: inspect.Signature = keywords(signature_of(run))

    @property
    def __code__(self) -> Any:
        return getattr(inspect.unwrap(self.task.run), "__code__", None)

    def __call__(self, /, **inputs: Any) -> Any:
        """Call it, unless something was decided instead."""
        here: Any = current_frame.get()
        call = calling.get()
        if call is None:
            return called(self.task.run, inputs, own_context(here, {}))
        call.begun_elsewhere(here.run)
        instead = call.taken()
        if instead is not None:
            raise instead
        return called(self.task.run, inputs, own_context(here, call.known))

    def __reduce__(self) -> Any:
        here: Any = current_frame.get()
        call = calling.get()
        instead = None
        if call is not None:
            call.begun_elsewhere(here.run)
            instead = call.taken()
        known = own_context(here, {} if call is None else call.known)
        for name in ("flow", "caches", "logger", "case", "_unused"):
            known.pop(name, None)
        return _Sent, (self.task.run, known, instead)


class _Sent:
    """A body in a worker: the user's ``run``, the context that it was sent with, what was decided instead."""

    def __init__(self, run: Callable[..., Any], known: dict[str, Any], instead: Signal | None) -> None:
        self.run, self.known, self.instead = run, known, instead
        self.__name__ = getattr(run, "__name__", "run")
        self.__signature__ = keywords(signature_of(run))

    def __call__(self, /, **inputs: Any) -> Any:
        if self.instead is not None:
            raise self.instead
        here: Any = current_frame.get()
        return called(self.run, inputs, {**self.known, "logger": run_logger(here.run)})


def keywords(signature: inspect.Signature) -> inspect.Signature:
    """The signature with every parameter by keyword: edges have names."""
    made: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        keep = parameter.kind in (parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY)
        made.append(parameter if keep else parameter.replace(kind=parameter.KEYWORD_ONLY))
    return signature.replace(parameters=made)


# --- what is asked before a state is recorded ---------------------------------------------------------------


class Trigger(Inert):
    """The option ``trigger``."""

    def __call__(self, _task: Any, _run: Run, _about: modern.State) -> Any:
        call = calling.get()
        return True if call is None else call.decide()


class RetryOn(Inert):
    """The option ``retry_condition_fn``: only exceptions of these classes, and never an ENDRUN."""

    def __init__(self, classes: tuple[type[BaseException], ...]) -> None:
        self.classes: tuple[type[BaseException], ...] = classes

    def __call__(self, _task: Any, _run: Run, state: modern.State) -> bool:
        error = state.live if isinstance(state.live, BaseException) else state.result(raise_on_failure=False)
        return not isinstance(error, ENDRUN) and (not self.classes or isinstance(error, self.classes))


class Naming(Inert):
    """The option ``task_run_name``: a template over the context and the inputs."""

    def __init__(self, template: str | Callable[..., str]) -> None:
        self.template: str | Callable[..., str] = template

    def __call__(self, parameters: Mapping[str, Any]) -> str:
        call = calling.get()
        known = own_context(current_frame.get(), {} if call is None else call.known)
        return filled(self.template, known, parameters)

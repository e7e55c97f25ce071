"""The options of flows and tasks that the engine itself understands, and what each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..hooks import Option

__all__ = ["ENGINE"]

LEVELS: Final = ("effect", "result", "lazy")


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"timeout_seconds is a number of seconds or None, not {value!r}.")
    if not value >= 0:
        raise ValueError(f"timeout_seconds must be 0 or more, not {value!r}.")
    return float(value) or None


def _one_of(name: str, *words: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"{name} is one of {', '.join(map(repr, words))}, not {value!r}.")
        return value

    return check


def _interrupt(value: Any) -> Any:
    if value in ("retry", "fail") or callable(value):
        return value
    raise ValueError(f"on_interrupt is 'retry', 'fail' or a callable, not {value!r}.")


def _runner(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value or "threads"
    from .runners import checked_runner

    return checked_runner(value)


def _validation(value: Any) -> Any:
    if value is True or value is False or value == "strict":
        return value
    raise ValueError(f"parameters are validated (True), not validated (False), or 'strict', not {value!r}.")


def _assets(name: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is None:
            return None
        from .assets import assets_from

        return assets_from(value, name)

    return check


def _text(name: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} is a string, not {value!r}.")
        return value

    return check


def _name(kind: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            hint = " Perhaps you meant to call it?" if callable(value) else ""
            raise TypeError(f"Expected string for {kind} parameter 'name'; got {type(value).__name__} instead.{hint}")
        return value

    return check


def _template(name: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, str) and not callable(value):
            raise TypeError(
                f"Expected string or callable for {name!r}; got {type(value).__name__} instead. It is a template over the"
                " parameters, or a callable that gives a string."
            )
        return value

    return check


_COMMON: Final = (
    Option("description", None, "by default the function's docstring", _text("description")),
    Option("version", None, "a version of your own", _text("version")),
    Option("tags", (), "labels to find its runs by"),
    Option("timeout_seconds", None, "how long one attempt may take", _seconds),
    Option("durability", None, "who waits for the disk: effect, result or lazy", _one_of("durability", *LEVELS, None)),  # type: ignore[arg-type]
    Option(
        "on_interrupt", "retry", "what becomes of a call whose process died: retry, fail, or ask a callable", _interrupt
    ),
)

ENGINE: Final[Mapping[str, Mapping[str, Option]]] = {
    "flow": {
        option.name: option
        for option in (
            Option("name", None, "what it is called; by default the function's name", _name("flow")),
            *_COMMON,
            Option("flow_run_name", None, "a template over the parameters, or a callable", _template("flow_run_name")),
            Option("task_runner", "threads", "where submitted calls run: a name, a runner, or an executor", _runner),
            Option(
                "validate_parameters",
                True,
                "whether parameters are checked and converted: True, False, 'strict'",
                _validation,
            ),
            Option(
                "on_divergence",
                "refuse",
                "what to do where a recorded call is met with other inputs: refuse, or rerun",
                _one_of("on_divergence", "refuse", "rerun"),
            ),
            Option("idempotency_key", None, "one run for ever under this key", _text("idempotency_key")),
        )
    },
    "task": {
        option.name: option
        for option in (
            Option("name", None, "what it is called; by default the function's name", _name("task")),
            *_COMMON,
            Option("task_run_name", None, "a template over the parameters, or a callable", _template("task_run_name")),
            Option(
                "validate", False, "whether parameters are checked and converted: True, False, 'strict'", _validation
            ),
            Option("viz_return_value", None, "taken and kept, for drawings of flows"),
            Option("asset_deps", None, "the assets that the task reads", _assets("asset_deps")),
            Option("assets", None, "the assets that the task makes; see `materialize`", _assets("assets")),
            Option("materialized_by", None, "the tool that makes them", _text("materialized_by")),
        )
    },
}
"""The options that the engine itself understands."""

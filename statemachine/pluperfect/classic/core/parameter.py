"""Parameters: the values that a run of a flow is given by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from ..utilities.context import context
from .task import Task

if TYPE_CHECKING:
    from .flow import Flow

__all__ = ["NoDefault", "Parameter", "values_for"]


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
        self.required: bool = required
        self.default: Any = None if default is NoDefault else default
        super().__init__(name=name, slug=name, tags=tags)

    def run(self) -> Any:
        """The value in the flow run at hand."""
        given: Mapping[str, Any] = context.get("parameters") or {}
        return given.get(self.name, self.default)

    def copy(self, name: str | None = None, **task_args: Any) -> Self:
        """A copy, under another name."""
        made = super().copy(**task_args)
        made.name = made.slug = name or self.name
        return made

    def __call__(self, *args: Any, flow: Flow | None = None, **kwargs: Any) -> Self:
        """Add this parameter to the flow: there is one of each name."""
        return self.bind(flow=flow)

    def __repr__(self) -> str:
        return f"<Parameter: {self.name}>"


def values_for(flow: Flow, parameters: dict[str, Any], keyword_parameters: dict[str, Any]) -> dict[str, Any]:
    """
    The parameters of a run, defaults included.

    Raises:
        ValueError: One is missing, or unknown.
        TypeError: A keyword is neither a parameter nor an argument.
    """
    known = {parameter.name: parameter for parameter in flow.parameters()}
    named = ", ".join(sorted(known)) or "none"
    odd = sorted(set(keyword_parameters) - set(known))
    if odd:
        raise TypeError(
            f"run() of flow {flow.name!r} got {', '.join(map(repr, odd))}, neither an argument nor a parameter. Parameters: {named}."
        )
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"Flow {flow.name!r} has no parameter {', '.join(map(repr, unknown))}. Parameters: {named}.")
    twice = sorted(set(parameters) & set(keyword_parameters))
    if twice:
        raise ValueError(f"The parameter {', '.join(map(repr, twice))} was given twice to flow {flow.name!r}.")
    values = {**parameters, **keyword_parameters}
    missing = sorted(name for name, parameter in known.items() if parameter.required and name not in values)
    if missing:
        raise ValueError(
            f"Flow {flow.name!r} was not given its parameter {', '.join(map(repr, missing))}. Give it to run():"
            f" flow.run({missing[0]}=...)."
        )
    return {name: values.get(name, parameter.default) for name, parameter in known.items()}

"""Marks around the arguments of a task: how they are handed on."""

from __future__ import annotations

from typing import Any

__all__ = ["EdgeAnnotation", "annotated", "flatten", "mapped", "unmapped"]


class EdgeAnnotation:
    """A value or task with a mark. Marks nest."""

    def __init__(self, value: Any) -> None:
        self.value: Any = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class mapped(EdgeAnnotation):  # noqa: N801 - the field's word
    """Each item goes to a child of its own, also where the task is called without ``map``."""


class unmapped(EdgeAnnotation):  # noqa: N801 - the field's word
    """The same value for every child."""


class flatten(EdgeAnnotation):  # noqa: N801 - the field's word
    """The lists in it are put end to end: one level."""


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
        value = value.value
    return value, is_mapped, flattened

"""What tasks give for ``a + b``, ``a["key"]`` and their like: a task that applies it when the flow runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task

__all__ = ["Operable"]


class Operable:
    """The operators of tasks. ``==`` and ``!=`` compare the tasks themselves: see `is_equal` and `not_equal`."""

    def is_equal(self, other: Any) -> Task:
        """``self == other``, as a task."""
        return _applied("==", self, other)

    def not_equal(self, other: Any) -> Task:
        """``self != other``, as a task."""
        return _applied("!=", self, other)

    def or_(self, other: Any) -> Task:
        """``self or other``, as a task: ``|`` says which comes after which."""
        return _applied("or", self, other)

    def not_(self) -> Task:
        """``not self``, as a task."""
        return _applied("not", self)

    def __getitem__(self, key: Any) -> Task:
        return _applied("[]", self, key)

    def __add__(self, other: Any) -> Task:
        return _applied("+", self, other)

    def __radd__(self, other: Any) -> Task:
        return _applied("+", other, self)

    def __sub__(self, other: Any) -> Task:
        return _applied("-", self, other)

    def __rsub__(self, other: Any) -> Task:
        return _applied("-", other, self)

    def __mul__(self, other: Any) -> Task:
        return _applied("*", self, other)

    def __rmul__(self, other: Any) -> Task:
        return _applied("*", other, self)

    def __truediv__(self, other: Any) -> Task:
        return _applied("/", self, other)

    def __rtruediv__(self, other: Any) -> Task:
        return _applied("/", other, self)

    def __floordiv__(self, other: Any) -> Task:
        return _applied("//", self, other)

    def __rfloordiv__(self, other: Any) -> Task:
        return _applied("//", other, self)

    def __mod__(self, other: Any) -> Task:
        return _applied("%", self, other)

    def __rmod__(self, other: Any) -> Task:
        return _applied("%", other, self)

    def __pow__(self, other: Any) -> Task:
        return _applied("**", self, other)

    def __rpow__(self, other: Any) -> Task:
        return _applied("**", other, self)

    def __and__(self, other: Any) -> Task:
        return _applied("and", self, other)

    def __rand__(self, other: Any) -> Task:
        return _applied("and", other, self)

    def __gt__(self, other: Any) -> Task:
        return _applied(">", self, other)

    def __ge__(self, other: Any) -> Task:
        return _applied(">=", self, other)

    def __lt__(self, other: Any) -> Task:
        return _applied("<", self, other)

    def __le__(self, other: Any) -> Task:
        return _applied("<=", self, other)


def _applied(symbol: str, *arguments: Any) -> Task:
    from .operators import operator_task  # it makes tasks, which are made of this

    return operator_task(symbol, arguments).bind(*arguments)

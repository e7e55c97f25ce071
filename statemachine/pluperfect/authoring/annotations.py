"""Marks around the arguments of a call: how ``map`` and the waiting for runs shall treat them."""

from __future__ import annotations

from typing import Any, Final, Generic, Self, TypeVar

__all__ = ["Annotation", "NotSet", "allow_failure", "freeze", "opaque", "quote", "unmapped"]

T = TypeVar("T")


class Annotation(Generic[T]):
    """A value with a mark. Marks nest in any order; the function receives the bare value."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value: T = value

    def unwrap(self) -> T:
        """The value without this mark."""
        return self.value

    def rewrap(self, value: Any) -> Self:
        """The same mark around another value."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):  # noqa: N801 - the field's word
    """One value for every call of a ``map``, even where it could be iterated over."""

    __slots__ = ()

    def __getitem__(self, _: object) -> T:
        return self.value


class allow_failure(Annotation[T]):  # noqa: N801 - the field's word
    """Make the call although a run in here failed; the function receives the exception in the place of the result."""

    __slots__ = ()


class quote(Annotation[T]):  # noqa: N801 - the field's word
    """Hand the value over as it is: what stands in it is neither awaited nor replaced."""

    __slots__ = ()

    def unquote(self) -> T:
        """The value."""
        return self.value


class opaque(Annotation[T]):  # noqa: N801 - the field's word
    """Resolve the value itself, where it is a run, and do not look into it for others."""

    __slots__ = ()


class freeze(Annotation[T]):  # noqa: N801 - the field's word
    """A parameter that is not to be changed by whoever passes it on."""

    __slots__ = ()

    def unfreeze(self) -> T:
        """The value."""
        return self.value


class _NotSet:
    """The type of `NotSet`."""

    def __repr__(self) -> str:
        return "NotSet"

    def __bool__(self) -> bool:
        return False


NotSet: Final = _NotSet()
"""Said where None would be a value."""

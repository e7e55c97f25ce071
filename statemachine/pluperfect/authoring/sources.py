"""Which run computed a value, for as long as this process can tell: how a plain value finds its upstream run."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

__all__ = ["Sources"]

_MOST: Final = 512
"""Values that cannot be referred to weakly are held, and so at most so many; the oldest go first."""

_HELD: Final = frozenset({int, float, complex, str, bytes, bytearray, tuple, list, dict})
"""Cannot be referred to weakly; to try would cost more than all the rest here."""

_BARE: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
"""Nothing stands in them."""

_WIDE: Final = 1_000
"""A container with more items is not looked into: the look must not cost more than the call."""


class Sources:
    """
    Values and the runs that computed them.

    A value counts by its identity, so it is held while it is known: weakly where that is possible. What a
    program shares among unrelated places (None, booleans, small numbers, words) is never remembered.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # Every use of it is one step, so that threads need no lock. A plain dict would look for its first item ever longer.
        self._known: OrderedDict[int, tuple[Any, bytes]] = OrderedDict()

    def remember(self, value: Any, run: bytes, *, surely: bool = False) -> None:
        """
        Note that this run computed this value.

        Args:
            value: Any object.
            run: The id of the run.
            surely: Also where the value is one that programs share; it has to be forgotten soon.
        """
        if not surely and _shared(value):
            return
        key = id(value)
        self._known[key] = (value if type(value) in _HELD else self._weakly(value, key), run)
        if len(self._known) > _MOST:
            try:
                self._known.popitem(last=False)
            except KeyError:  # other threads took all of them meanwhile
                pass

    def _weakly(self, value: Any, key: int) -> Any:
        """A reference to a value, which is forgotten with it; the value itself where there can be none."""
        try:
            return weakref.ref(value, lambda _: self._known.pop(key, None))
        except TypeError:
            return value

    def forget(self, value: Any) -> None:
        """Let go of a value."""
        self._known.pop(id(value), None)

    def of(self, value: Any) -> bytes | None:
        """The run that computed this very object; None where that is not known."""
        found = self._known.get(id(value))
        if found is None:
            return None
        held = found[0]
        same = held() is value if isinstance(held, weakref.ref) else held is value
        return found[1] if same else None

    def among(self, arguments: Iterable[Any]) -> Sequence[bytes]:
        """The runs that computed these values, or what stands directly in them."""
        if not self._known:
            return ()
        found: list[bytes] = []
        for value in arguments:
            run = self.of(value)
            if run is not None:
                found.append(run)
            elif type(value) not in _BARE:
                for item in _within(value):
                    run = self.of(item)
                    if run is not None:
                        found.append(run)
        return found


def _within(value: Any) -> Iterable[Any]:
    """What stands directly in a container; nothing where it is none, or too wide to be looked into."""
    inner: Iterable[Any] = ()
    if isinstance(value, list | tuple):
        inner = cast("list[Any]", value)
    elif isinstance(value, Mapping):
        inner = cast("Mapping[Any, Any]", value).values()
    return inner if inner and len(cast("list[Any]", value)) <= _WIDE else ()


def _shared(value: Any) -> bool:
    kind = type(value)  # type: ignore[reportUnknownVariableType]
    if value is None or kind is bool or value is ... or kind is type:
        return True
    if kind is int:
        return -5 <= value <= 256
    if kind is str or kind is bytes:  # constants that look like names are one object in the whole process
        return len(value) < 2 or (value.isascii() and value.replace("_" if kind is str else b"_", value[:0]).isalnum())
    return kind in (tuple, frozenset) and not value

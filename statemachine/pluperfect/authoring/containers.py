"""What annotations of containers make of a value: a container is built anew only where one of its items has changed."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from operator import is_
from typing import Any, Final, cast

from .coercion import Mismatch, Problem, Rule, is_text, unlike

__all__ = ["FixedTuple", "Items", "Mapped"]

_REBUILT: Final[tuple[Any, ...]] = (list, tuple, set, frozenset)


class Items(Rule):
    """A container of items that one annotation speaks of."""

    drains = True

    def __init__(self, cls: type, item: Rule | None, default: type) -> None:
        self._cls: Any = cls
        self._item, self._default = item, default

    def fits(self, value: Any) -> bool:
        if not isinstance(value, self._cls) or is_text(value):
            return False
        item = self._item
        if item is None or (item.exact and set(map(type, value)) <= item.exact):
            return True
        return all(map(item.fits, value))

    def convert(self, value: Any, strict: bool) -> Any:
        native = isinstance(value, self._cls) and not is_text(value)
        if not native and (strict or not _is_source(value)):
            raise unlike(f"`{self._cls.__name__}`", value)
        items, item = list(value), self._item
        made: list[Any] = items
        if item is not None:
            ordered = not isinstance(value, Set)
            made = _settled(item, items, strict, "[{}]" if ordered else "[...]", range(len(items)))
            if native and all(map(is_, made, items)):
                return value
        return self._rebuilt(value if native else None, made)

    def _rebuilt(self, like: Any, items: list[Any]) -> Any:
        if isinstance(like, deque):
            return deque(items, cast("deque[Any]", like).maxlen)
        make = next((known for known in _REBUILT if type(like) is known), self._default)
        try:
            return items if make is list else make(items)
        except TypeError as error:
            raise Mismatch(Problem("", str(error), items)) from None


class FixedTuple(Rule):
    """A tuple whose items have an annotation each."""

    drains = True

    def __init__(self, rules: Sequence[Rule | None]) -> None:
        self._rules = rules

    def fits(self, value: Any) -> bool:
        return (
            isinstance(value, tuple)
            and len(cast("tuple[Any, ...]", value)) == len(self._rules)
            and all(r is None or r.fits(v) for r, v in zip(self._rules, cast("tuple[Any, ...]", value), strict=True))
        )

    def convert(self, value: Any, strict: bool) -> Any:
        if not isinstance(value, tuple) and (strict or not _is_source(value)):
            raise unlike("`tuple`", value)
        items: list[Any] = list(cast("Iterable[Any]", value))
        if len(items) != len(self._rules):
            length = len(self._rules)
            says = f"expected a tuple of {length} {'item' if length == 1 else 'items'}, not {len(items)}"
            raise Mismatch(Problem("", says, value))
        made: list[Any] = []
        problems: list[Problem] = []
        for place, (rule, item) in enumerate(zip(self._rules, items, strict=True)):
            try:
                made.append(item if rule is None else rule.settle(item, strict))
            except Mismatch as mismatch:
                problems += mismatch.under(f"[{place}]")
        if problems:
            raise Mismatch(*problems)
        same = isinstance(value, tuple) and all(map(is_, made, items))
        return cast("Any", value) if same else tuple(made)


class Mapped(Rule):
    """A mapping whose keys and values have an annotation each."""

    def __init__(self, cls: type, key: Rule | None, value: Rule | None, factory: Callable[[], Any] | None) -> None:
        self._cls: Any = cls
        self._key, self._value, self._factory = key, value, factory

    def fits(self, value: Any) -> bool:
        if not isinstance(value, self._cls):
            return False
        given = cast("Mapping[Any, Any]", value)
        return all(
            rule is None or (rule.exact and set(map(type, part)) <= rule.exact) or all(map(rule.fits, part))
            for rule, part in ((self._key, given), (self._value, given.values()))
        )

    def convert(self, value: Any, strict: bool) -> Any:
        native = isinstance(value, self._cls)
        if not native and (strict or not isinstance(value, Mapping)):
            raise unlike(f"`{self._cls.__name__}`", value)
        given = cast("Mapping[Any, Any]", value)
        keys, values = list(given), list(given.values())
        new_keys, new_values = keys, values
        problems: list[Problem] = []
        try:
            new_keys = keys if self._key is None else _settled(self._key, keys, strict, "[{!r}]", keys)
        except Mismatch as mismatch:
            problems += [Problem(p.path, f"as a key: {p.says}", p.value) for p in mismatch.problems]
        try:
            new_values = values if self._value is None else _settled(self._value, values, strict, "[{!r}]", keys)
        except Mismatch as mismatch:
            problems += mismatch.problems
        if problems:
            raise Mismatch(*problems)
        if native and all(map(is_, new_keys, keys)) and all(map(is_, new_values, values)):
            return given
        return self._rebuilt(given, zip(new_keys, new_values, strict=True))

    def _rebuilt(self, like: Any, pairs: Iterable[tuple[Any, Any]]) -> Any:
        cls = self._cls
        try:
            made = dict(pairs)
        except TypeError as error:
            raise Mismatch(Problem("", str(error), like)) from None
        if cls is defaultdict:
            return defaultdict(getattr(like, "default_factory", self._factory), made)
        if any(cls is kind for kind in (OrderedDict, Counter)):
            return cls(made)
        return OrderedDict(made) if isinstance(like, OrderedDict) else made


def _settled(rule: Rule, items: list[Any], strict: bool, path: str, names: Sequence[Any]) -> list[Any]:
    """The items, each as its rule passes it on; a Mismatch names all that are wrong."""
    made: list[Any] = []
    problems: list[Problem] = []
    for name, item in zip(names, items, strict=True):
        try:
            made.append(rule.settle(item, strict))
        except Mismatch as mismatch:
            problems += mismatch.under(path.format(name))
    if problems:
        raise Mismatch(*problems)
    return made


def _is_source(value: Any) -> bool:
    """Whether a container may be made from this value."""
    return isinstance(value, Sequence | Set | ValuesView | Iterator | deque) and not is_text(value)

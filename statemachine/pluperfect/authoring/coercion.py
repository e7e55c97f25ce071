"""
What each kind of annotation makes of a value: one rule for each row of the table in `annotations`.

A value that fits is passed on as the very object; a rule converts only what does not fit. Asking whether a value
fits has no effect on it: an iterator is taken up by a conversion alone.
"""

from __future__ import annotations

import os
import re
import sys
from abc import ABCMeta
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from enum import Enum
from operator import is_
from typing import Any, Final, cast

import msgspec

__all__ = [
    "Choice",
    "Complex",
    "Constrained",
    "Convertible",
    "Custom",
    "Encoded",
    "FixedTuple",
    "Instance",
    "Items",
    "Kind",
    "Later",
    "Literally",
    "Mapped",
    "Member",
    "Mismatch",
    "Modelled",
    "PathLike",
    "Problem",
    "Rule",
    "Shaped",
]

_TEXT: Final = (str, bytes, bytearray, memoryview)
"""Sequences whose items nobody means."""

_REBUILT: Final = (list, tuple, set, frozenset)

_PLACE: Final = re.compile(r" - at (?:`(key)` in )?`\$?(.*)`$")
_GOT: Final = re.compile(r", got `[^`]*`$")
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")

Hook = Callable[[type, Any, bool], Any]


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at one place: the path from the parameter, what should be there, and what is."""

    path: str
    says: str
    value: Any


class Mismatch(Exception):  # noqa: N818 - it never leaves this wing: a value that no conversion makes fit
    """A value fits in no way."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems

    def __str__(self) -> str:
        return " and ".join(f"{p.says} at {p.path}" if p.path else p.says for p in self.problems)

    def under(self, prefix: str) -> list[Problem]:
        """The same problems, seen from the container."""
        return [Problem(prefix + p.path, p.says, p.value) for p in self.problems]


def _unlike(name: str, value: Any) -> Mismatch:
    return Mismatch(Problem("", f"expected {name}", value))


class Rule:
    """
    One annotation, compiled.

    Attributes:
        exact: Types whose direct instances fit without a look at them.
        drains: A conversion may take up an iterator.
    """

    exact: frozenset[type] = frozenset()
    drains = False

    def fits(self, value: Any) -> bool:
        """Whether the value is passed on as it is."""
        return False

    def convert(self, value: Any, strict: bool) -> Any:
        """
        What is passed on instead of a value that does not fit; the value itself where it was fit after all.

        Raises:
            Mismatch: Nothing can be.
        """
        raise NotImplementedError

    def settle(self, value: Any, strict: bool) -> Any:
        """
        What is passed on for a value, fit or not.

        Raises:
            Mismatch: Nothing can be.
        """
        return value if self.fits(value) else self.convert(value, strict)


class Later(Rule):
    """Stands in for an alias that speaks of itself, until that is compiled."""

    drains = True

    def __init__(self) -> None:
        self.target: Rule | None = None

    def fits(self, value: Any) -> bool:
        return self.target is None or self.target.fits(value)

    def convert(self, value: Any, strict: bool) -> Any:
        return value if self.target is None else self.target.convert(value, strict)


# --- single values --------------------------------------------------------------------------------------


class Instance(Rule):
    """Any class: its instances and nothing else."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        if type(cls).__instancecheck__ in (type.__instancecheck__, ABCMeta.__instancecheck__):
            self.exact = frozenset({cls})

    @property
    def name(self) -> str:
        return "None" if self.cls is type(None) else f"`{self.cls.__qualname__}`"

    def fits(self, value: Any) -> bool:
        return isinstance(value, self.cls)

    def convert(self, value: Any, strict: bool) -> Any:
        raise _unlike(self.name, value)


class Convertible(Instance):
    """Numbers, texts, dates and records: instances, or what msgspec makes of a value."""

    def __init__(self, cls: type, target: Any, hook: Hook) -> None:
        super().__init__(cls)
        self._target, self._hook = target, hook
        self._numeric = cls in (int, float, complex)

    def fits(self, value: Any) -> bool:
        return isinstance(value, self.cls) and not (self._numeric and isinstance(value, bool))

    def convert(self, value: Any, strict: bool) -> Any:
        bare = value if strict else _unboxed(value)
        if bare is not value and self.fits(bare):
            return bare
        if self._numeric and isinstance(bare, bool):
            raise _unlike(self.name, value)
        return _converted(bare, self._target, strict, self._hook)


class Complex(Convertible):
    """A complex number, or one of the numbers that it contains."""

    def convert(self, value: Any, strict: bool) -> Any:
        bare = value if strict else _unboxed(value)
        if isinstance(bare, int | float | complex) and not isinstance(bare, bool):
            return complex(bare)
        raise _unlike(self.name, value)


class Shaped(Rule):
    """A TypedDict, which knows no instances: always what msgspec makes of it."""

    def __init__(self, target: Any, hook: Hook) -> None:
        self._target, self._hook = target, hook

    def convert(self, value: Any, strict: bool) -> Any:
        return _converted(value, self._target, strict, self._hook)


class Constrained(Rule):
    """A rule and, for what it passes on, the constraints of a ``msgspec.Meta``."""

    def __init__(self, rule: Rule, constraint: Any, hook: Hook) -> None:
        self._rule, self._constraint, self._hook = rule, constraint, hook
        self.drains = rule.drains

    def fits(self, value: Any) -> bool:
        if not self._rule.fits(value):
            return False
        try:
            self._check(value)
        except Mismatch:
            return False
        return True

    def convert(self, value: Any, strict: bool) -> Any:
        made = self._rule.settle(value, strict)
        self._check(made)
        return made

    def _check(self, value: Any) -> None:
        if isinstance(value, Sequence | Set) and not isinstance(value, _TEXT):
            value = list(cast("Iterable[Any]", value))
        elif type(value) is not bool and isinstance(value, int):
            value = int(value)
        _converted(value, self._constraint, True, self._hook)


class PathLike(Instance):
    """A path, or text that spells one."""

    def convert(self, value: Any, strict: bool) -> Any:
        if not strict and isinstance(value, str | os.PathLike):
            try:
                return self.cls(value)
            except (TypeError, ValueError, NotImplementedError):
                pass
        raise _unlike(self.name, value)


class Encoded(Instance):
    """Bytes, or text in UTF-8."""

    def convert(self, value: Any, strict: bool) -> Any:
        if not strict and isinstance(value, str):
            try:
                return self.cls(value.encode())
            except UnicodeEncodeError:
                pass
        raise _unlike(self.name, value)


class Literally(Rule):
    """One of some values, each with its type."""

    def __init__(self, values: Sequence[Any], rules: Sequence[Rule]) -> None:
        self._values, self._rules = values, rules

    def fits(self, value: Any) -> bool:
        kind = type(value)
        return any(kind is type(known) and value == known for known in self._values)

    def convert(self, value: Any, strict: bool) -> Any:
        if not strict:
            for rule in self._rules:
                try:
                    made = rule.settle(value, strict)
                except Mismatch:
                    continue
                if self.fits(made):
                    return made
        raise _unlike(_listed(self._values), value)


class Member(Instance):
    """A member of an enumeration, or the value of one."""

    def __init__(self, cls: type[Enum], rules: Sequence[Rule]) -> None:
        super().__init__(cls)
        self._rules = rules
        self._truths = any(type(member.value) is bool for member in cls)

    def convert(self, value: Any, strict: bool) -> Any:
        if not strict and (self._truths or not isinstance(value, bool)):
            for rule in (None, *self._rules):
                try:
                    return self.cls(value if rule is None else rule.settle(value, strict))
                except (ValueError, TypeError, KeyError, Mismatch):
                    continue
        raise _unlike(_listed([member.value for member in cast("type[Enum]", self.cls)]), value)


class Kind(Rule):
    """A class that is one of some classes, or a subclass."""

    def __init__(self, bases: tuple[type, ...]) -> None:
        self._bases = bases

    def fits(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, self._bases)

    def convert(self, value: Any, strict: bool) -> Any:
        names = " or ".join(f"`{base.__qualname__}`" for base in self._bases)
        raise _unlike(f"a subclass of {names}", value)


class Modelled(Rule):
    """Whatever pydantic makes of the value."""

    drains = True

    def __init__(self, adapter: Any, refusal: type[Exception]) -> None:
        self._adapter, self._refusal = adapter, refusal

    def convert(self, value: Any, strict: bool) -> Any:
        try:
            return self._adapter.validate_python(value, strict=strict or None)
        except self._refusal as error:
            told: list[dict[str, Any]] = cast("Any", error).errors(include_url=False, include_context=False)
            raise Mismatch(*(Problem(_path(e["loc"]), _decapitalised(e["msg"]), e["input"]) for e in told)) from None


class Custom(Rule):
    """Whatever the converter of a plugin makes of the value."""

    drains = True

    def __init__(self, converter: Callable[[Any], Any]) -> None:
        self._converter = converter

    def convert(self, value: Any, strict: bool) -> Any:
        try:
            return self._converter(value)
        except (TypeError, ValueError) as error:
            raise Mismatch(Problem("", str(error) or type(error).__name__, value)) from error


class Choice(Rule):
    """One of several annotations: the first that the value fits, else the first that can convert it."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self.exact = frozenset[type]().union(*(rule.exact for rule in rules))
        self.drains = any(rule.drains for rule in rules)

    def fits(self, value: Any) -> bool:
        return any(rule.fits(value) for rule in self._rules)

    def convert(self, value: Any, strict: bool) -> Any:
        given = value
        if self.drains and isinstance(value, Iterator):
            value = list(cast("Iterator[Any]", value))  # or the first member would leave nothing to the second
        problems: list[Problem] = []
        for severely in (True,) if strict else (True, False):
            problems.clear()
            for rule in self._rules:
                try:
                    made = rule.settle(value, severely)
                except Mismatch as mismatch:
                    problems += mismatch.problems
                else:
                    if made is value or severely is strict:
                        return made
        says = dict.fromkeys(f"{p.says} at {p.path}" if p.path else p.says for p in problems)
        raise Mismatch(Problem("", " and ".join(says), given))


# --- containers -----------------------------------------------------------------------------------------


class Items(Rule):
    """A container of items that one annotation speaks of."""

    drains = True

    def __init__(self, cls: type, item: Rule | None, default: type) -> None:
        self._cls, self._item, self._default = cls, item, default

    def fits(self, value: Any) -> bool:
        if not isinstance(value, self._cls) or isinstance(value, _TEXT):
            return False
        item = self._item
        if item is None or (item.exact and set(map(type, value)) <= item.exact):
            return True
        return all(map(item.fits, value))

    def convert(self, value: Any, strict: bool) -> Any:
        native = isinstance(value, self._cls) and not isinstance(value, _TEXT)
        if not native and (strict or not _is_source(value)):
            raise _unlike(f"`{self._cls.__name__}`", value)
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
        make = type(like) if type(like) in _REBUILT else self._default
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
            raise _unlike("`tuple`", value)
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
        return value if isinstance(value, tuple) and all(map(is_, made, items)) else tuple(made)


class Mapped(Rule):
    """A mapping whose keys and values have an annotation each."""

    def __init__(self, cls: type, key: Rule | None, value: Rule | None, factory: Callable[[], Any] | None) -> None:
        self._cls, self._key, self._value, self._factory = cls, key, value, factory

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
            raise _unlike(f"`{self._cls.__name__}`", value)
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
        try:
            made = dict(pairs)
        except TypeError as error:
            raise Mismatch(Problem("", str(error), like)) from None
        if issubclass(self._cls, defaultdict):
            return defaultdict(like.default_factory if isinstance(like, defaultdict) else self._factory, made)
        if issubclass(self._cls, dict):
            return made if self._cls is dict else self._cls(made)
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
    return isinstance(value, Sequence | Set | ValuesView | Iterator | deque) and not isinstance(value, _TEXT)


# --- what others say ------------------------------------------------------------------------------------


def _converted(value: Any, target: Any, strict: bool, hook: Hook) -> Any:
    try:
        return msgspec.convert(value, target, strict=strict, dec_hook=lambda cls, given: hook(cls, given, strict))
    except msgspec.ValidationError as error:
        raise Mismatch(_told(str(error), value)) from None


def _told(message: str, value: Any) -> Problem:
    """A problem from msgspec's message, which ends with the place."""
    found = _PLACE.search(message)
    if found is None:
        return Problem("", _decapitalised(_GOT.sub("", message)), value)
    key, path = found.groups()
    at = 0
    for step in _STEP.finditer(path):
        name, place = step.groups()
        try:
            value = (value[name] if isinstance(value, Mapping) else getattr(value, name)) if name else value[int(place)]
        except (LookupError, TypeError, AttributeError):
            break
        at = step.end()
    says = _decapitalised(message[: found.start()])
    if key is None and at == len(path):  # the value at hand is the one that msgspec speaks of
        says = _GOT.sub("", says)
    return Problem(path, f"as a key: {says}" if key else says, value)


def _unboxed(value: Any) -> Any:
    """The number in a NumPy scalar. Where NumPy is not loaded there are none."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, getattr(numpy, "generic", ())):
        return value
    scalar: Any = value
    return scalar.item() if scalar.dtype.kind in "biufc" else value


def _path(steps: Sequence[Any]) -> str:
    return "".join(f".{s}" if isinstance(s, str) and s.isidentifier() else f"[{s!r}]" for s in steps)


def _decapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]


def _listed(values: Sequence[Any]) -> str:
    shown = [repr(value) for value in values[:20]]
    if len(values) > 20:
        shown.append("...")
    return shown[0] if len(shown) == 1 else f"one of {', '.join(shown)}"

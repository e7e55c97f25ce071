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
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from enum import Enum
from typing import Any, Final, cast

import msgspec

from .. import shapes

__all__ = [
    "Choice",
    "Complex",
    "Constrained",
    "Convertible",
    "Custom",
    "Encoded",
    "Instance",
    "Kind",
    "Later",
    "Literally",
    "Member",
    "Mismatch",
    "Modelled",
    "PathLike",
    "Problem",
    "Rule",
    "Shaped",
    "is_text",
    "unlike",
]

_PLACE: Final = r" - at (?:`(key)` in )?`\$?(.*)`$"
_GOT: Final = r", got `[^`]*`$"
_STEP: Final = r"\.(\w+)|\[(\d+)\]"


def is_text(value: Any) -> bool:
    """Whether this is a sequence whose items nobody means."""
    return isinstance(value, str | bytes | bytearray | memoryview)


Hook = Callable[[type, Any, bool], Any]


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at one place: the path from the parameter, what should be there, and what is."""

    path: str
    says: str
    value: Any


class Mismatch(Exception):
    """A value fits in no way."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems

    def __str__(self) -> str:
        return " and ".join(f"{p.says} at {p.path}" if p.path else p.says for p in self.problems)

    def under(self, prefix: str) -> list[Problem]:
        """The same problems, seen from the container."""
        return [Problem(prefix + p.path, p.says, p.value) for p in self.problems]


def unlike(name: str, value: Any) -> Mismatch:
    """That a value is not what it should be."""
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
        self.ready = False

    def fits(self, value: Any) -> bool:
        return self.target is None or self.target.fits(value)

    def convert(self, value: Any, strict: bool) -> Any:
        return value if self.target is None else self.target.convert(value, strict)


# --- single values --------------------------------------------------------------------------------------


class Instance(Rule):
    """Any class: its instances and nothing else."""

    def __init__(self, cls: type) -> None:
        self.cls: Any = cls
        if type(cls).__instancecheck__ in (type.__instancecheck__, ABCMeta.__instancecheck__):
            self.exact: frozenset[type] = frozenset({cls})

    @property
    def name(self) -> str:
        return "None" if self.cls is type(None) else f"`{self.cls.__qualname__}`"

    def fits(self, value: Any) -> bool:
        return isinstance(value, self.cls)

    def convert(self, value: Any, strict: bool) -> Any:
        raise unlike(self.name, value)


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
            raise unlike(self.name, value)
        return _converted(bare, self._target, strict, self._hook)


class Complex(Convertible):
    """A complex number, or one of the numbers that it contains."""

    def convert(self, value: Any, strict: bool) -> Any:
        bare = value if strict else _unboxed(value)
        if not strict and isinstance(bare, int | float | complex) and not isinstance(bare, bool):
            return complex(bare)
        raise unlike(self.name, value)


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
        self.drains: bool = rule.drains

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
        shape: Any = value
        if isinstance(value, Sequence | Set) and not is_text(value):
            shape = list(cast("Sequence[Any]", value))
        elif isinstance(value, int) and not isinstance(value, bool):
            shape = int(value)
        _converted(shape, self._constraint, True, self._hook)


class PathLike(Instance):
    """A path, or text that spells one."""

    def convert(self, value: Any, strict: bool) -> Any:
        if not strict and isinstance(value, str | os.PathLike):
            try:
                return self.cls(value)
            except (TypeError, ValueError, NotImplementedError):
                pass
        raise unlike(self.name, value)


class Encoded(Instance):
    """Bytes, or text in UTF-8."""

    def convert(self, value: Any, strict: bool) -> Any:
        if not strict and isinstance(value, str):
            try:
                return self.cls(value.encode())
            except UnicodeEncodeError:
                pass
        raise unlike(self.name, value)


class Literally(Rule):
    """One of some values, each with its type."""

    def __init__(self, values: Sequence[Any], rules: Sequence[Rule]) -> None:
        self._values, self._rules = values, rules

    def fits(self, value: Any) -> bool:
        kind = cast("Any", type(value))
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
        raise unlike(_listed(self._values), value)


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
        raise unlike(_listed([member.value for member in cast("type[Enum]", self.cls)]), value)


class Kind(Rule):
    """A class that is one of some classes, or a subclass."""

    def __init__(self, bases: tuple[type, ...]) -> None:
        self._bases = bases

    def fits(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, self._bases)

    def convert(self, value: Any, strict: bool) -> Any:
        names = " or ".join(f"`{base.__qualname__}`" for base in self._bases)
        raise unlike(f"a subclass of {names}", value)


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
        self.exact: frozenset[type] = frozenset[type]().union(*(rule.exact for rule in rules))
        self.drains: bool = any(rule.drains for rule in rules)

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


# --- what others say ------------------------------------------------------------------------------------


def _converted(value: Any, target: Any, strict: bool, hook: Hook) -> Any:
    try:
        return shapes.convert(value, target, strict=strict, dec_hook=lambda cls, given: hook(cls, given, strict))
    except msgspec.ValidationError as error:
        raise Mismatch(_told(str(error), value)) from None
    except UnicodeEncodeError:  # half of a surrogate pair, which msgspec meets before it can tell where
        raise Mismatch(Problem("", "expected text that UTF-8 can encode", value)) from None


def _told(message: str, value: Any) -> Problem:
    """A problem from msgspec's message, which ends with the place."""
    found = re.search(_PLACE, message)
    if found is None:
        return Problem("", _decapitalised(re.sub(_GOT, "", message)), value)
    key, path = found.groups()
    at = 0
    for step in re.finditer(_STEP, path):
        name, place = step.groups()
        try:
            value = _within(value, name) if name else value[int(place)]
        except (LookupError, TypeError, AttributeError):
            break
        at = step.end()
    says = _decapitalised(message[: found.start()])
    if key is None and at == len(path):  # the value at hand is the one that msgspec speaks of
        says = re.sub(_GOT, "", says)
    return Problem(path, f"as a key: {says}" if key else says, value)


def _within(value: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", value)[name] if isinstance(value, Mapping) else getattr(value, name)


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

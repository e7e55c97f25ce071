"""
From an annotation to its rule: the table of what fits, what is converted and by whom, its first row first.

What cannot be evaluated or understood stays unchecked: a rule of None. pydantic is asked about what is its own, and
only where somebody has loaded it.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime as dt
import decimal
import functools
import inspect
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Final, ForwardRef, Literal, NewType, TypeVar, Union, cast

import msgspec

from .. import shapes
from .coercion import (
    Choice,
    Complex,
    Constrained,
    Convertible,
    Custom,
    Encoded,
    Instance,
    Kind,
    Later,
    Literally,
    Member,
    Mismatch,
    Modelled,
    PathLike,
    Rule,
    Shaped,
)
from .containers import FixedTuple, Items, Mapped

__all__ = ["Compiler", "Converters", "evaluated", "names_of", "schema_of"]

Converters = Callable[[Any], Callable[[Any], Any] | None]

_ITEMS: Final[Mapping[type, type]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
"""The containers of items, each with what it is rebuilt as."""

_MAPPINGS: Final = (
    dict,
    collections.OrderedDict,
    collections.defaultdict,
    collections.Counter,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)

_PLAIN: Final = (
    int,
    float,
    str,
    bool,
    dt.date,
    dt.datetime,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
    uuid.UUID,
)

_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")


class Compiler:
    """
    Compiles the annotations of one function.

    Args:
        names: Evaluates what stands in quotes inside an annotation.
        converters: Asked about each annotation first.

    Attributes:
        unheeded: An annotation has constraints of annotated_types, and pydantic, which knows them, is not loaded.
    """

    def __init__(self, names: Mapping[str, Any], converters: Converters | None = None) -> None:
        self._names, self._converters = names, converters
        self._aliases: dict[Any, Later] = {}
        self._hooked: dict[type, Rule | None] = {}
        self.unheeded = False

    def rule(self, annotation: Any) -> Rule | None:
        """The rule of an annotation; None where every value passes."""
        if isinstance(annotation, str | ForwardRef):
            text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
            return self._alias(text, lambda: evaluated(text, self._names))
        if self._converters is not None:
            converter = self._converters(annotation)
            if converter is not None:
                return Custom(converter)
        if annotation is Any or annotation is object or annotation is inspect.Parameter.empty:
            return None
        target = _target(annotation)
        if target is not annotation:
            return self._alias(annotation, lambda: target) if _is_alias(annotation) else self.rule(target)
        if isinstance(annotation, TypeVar):
            return self._union(annotation.__constraints__)
        pydantic = sys.modules.get("pydantic")
        if pydantic is not None and _mentions_pydantic(annotation):
            adapter = _adapter(pydantic, annotation)
            return self._class(annotation) if adapter is None else Modelled(adapter, pydantic.ValidationError)
        if typing.get_origin(annotation) is Annotated:
            return self._annotated(annotation)
        return self._kind(annotation)

    def fields(self, shape: Any) -> dict[str, Any]:
        """The annotations of a TypedDict, by key; none where they cannot be evaluated."""
        try:
            return typing.get_type_hints(typing.get_origin(shape) or shape, include_extras=True)
        except Exception:
            return {}

    # --- annotations about annotations

    def _alias(self, alias: Any, target: Callable[[], Any]) -> Rule | None:
        """The rule of what has a name, by which it may speak of itself."""
        known = self._aliases.get(alias)
        if known is None:
            known = self._aliases[alias] = Later()
            known.target = self.rule(target())
            known.ready = True
        return known.target if known.ready else known

    def _annotated(self, annotation: Any) -> Rule | None:
        inner, metadata = annotation.__origin__, annotation.__metadata__
        if any(_is_of(extra, "annotated_types") for extra in metadata):
            self.unheeded: bool = True
        rule = self.rule(inner)
        bounds = [
            m for m in metadata if isinstance(m, msgspec.Meta) and any(getattr(m, b) is not None for b in _BOUNDS)
        ]
        if rule is None or not bounds:
            return rule
        origin = typing.get_origin(inner) or inner
        shape = list if origin in _ITEMS else dict if origin in _MAPPINGS else inner
        constraint = Annotated[(shape, *bounds)]
        return Constrained(rule, constraint, self._hook) if _is_understood(constraint) else rule

    def _union(self, members: Iterable[Any]) -> Rule | None:
        rules = [self.rule(member) for member in members]
        known = [rule for rule in rules if rule is not None]
        return Choice(known) if known and len(known) == len(rules) else None

    # --- kinds of values

    def _kind(self, annotation: Any) -> Rule | None:
        if annotation is None:
            return Instance(type(None))
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Literal:
            kinds: dict[Any, None] = dict.fromkeys(cast("Any", type(value)) for value in args)
            rules = [self.rule(kind) for kind in kinds if kind is not type(None)]
            return Literally(args, [rule for rule in rules if rule is not None])
        if origin in (Union, types.UnionType):
            return self._union(args)
        cls = origin or annotation
        if not isinstance(cls, type):
            return None
        if cls is tuple and args and not (len(args) == 2 and args[1] is ...):
            return self._fixed(args)
        if cls is tuple and annotation == tuple[()]:
            return FixedTuple(())
        if cls in _ITEMS:
            return Items(cls, self.rule(args[0]) if args else None, _ITEMS[cls])
        if cls in _MAPPINGS:
            return self._mapped(cls, args)
        if cls is type and args:
            return self._subclass(args[0])
        return self._class(annotation)

    def _fixed(self, args: tuple[Any, ...]) -> Rule:
        if any(typing.get_origin(arg) is typing.Unpack or getattr(arg, "__unpacked__", False) for arg in args):
            return Instance(tuple)
        return FixedTuple([self.rule(arg) for arg in args])

    def _mapped(self, cls: Any, args: tuple[Any, ...]) -> Rule:
        if cls is collections.Counter:
            return Mapped(cls, self.rule(args[0]) if args else None, self.rule(int), None)
        if not args:
            return Mapped(cls, None, None, None)
        made = typing.get_origin(args[1]) or args[1]
        factory = made if made in (*_ITEMS, *_MAPPINGS, *_PLAIN) else None
        return Mapped(cls, self.rule(args[0]), self.rule(args[1]), cast("Any", factory))

    def _subclass(self, base: Any) -> Rule | None:
        bases: Any
        if isinstance(base, TypeVar):
            bases = base.__constraints__ or (base.__bound__,)
        else:
            bases = typing.get_args(base) if typing.get_origin(base) in (Union, types.UnionType) else (base,)
        classes = tuple(typing.get_origin(one) or one for one in bases)
        if all(isinstance(one, type) and one is not Any and _is_askable(one, issubclass, int) for one in classes):
            return Kind(classes)
        return Instance(type)

    def _class(self, annotation: Any) -> Rule | None:
        cls: Any = typing.get_origin(annotation) or annotation
        if not inspect.isclass(cls):
            return None
        if _is_typeddict(cls):
            return Shaped(annotation, self._hook) if _is_understood(annotation) else None
        if not _is_askable(cls, isinstance, None):
            return None
        if issubclass(cls, Enum):
            kinds: dict[Any, None] = dict.fromkeys(cast("Any", type(member.value)) for member in cls)
            return Member(cls, [rule for kind in kinds if kind is not cls and (rule := self.rule(kind)) is not None])
        if issubclass(cls, pathlib.PurePath):
            return PathLike(cls)
        if cls in (bytes, bytearray):
            return Encoded(cls)
        if cls is complex:
            return Complex(cls, cls, self._hook)
        if (cls in _PLAIN or _is_record(cls)) and _is_understood(annotation):
            return Convertible(cls, annotation, self._hook)
        return Instance(cls)

    def _hook(self, cls: type, value: Any, strict: bool) -> Any:
        """What msgspec asks about a class that it does not know: the same table."""
        if cls not in self._hooked:
            self._hooked[cls] = self.rule(cls)
        rule = self._hooked[cls]
        try:
            return value if rule is None else rule.settle(value, strict)
        except Mismatch as mismatch:
            raise TypeError(str(mismatch)) from None


# --- reading annotations --------------------------------------------------------------------------------


def evaluated(text: str, names: Mapping[str, Any]) -> Any:
    """An annotation in quotes; Any where it cannot be evaluated."""
    try:
        return eval(text, cast("dict[str, Any]", names))  # noqa: S307 - the text is an annotation in the user's own program
    except Exception:
        return Any


def names_of(fn: Any) -> dict[str, Any]:
    """The names that the annotations of a function can speak of."""
    while True:
        if isinstance(fn, functools.partial):
            fn = cast("Any", fn).func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif hasattr(fn, "__wrapped__"):
            fn = getattr(fn, "__wrapped__")  # noqa: B009 - a function's type does not name it
        elif inspect.isfunction(fn):
            break
        else:  # an object that can be called, or something built in
            fn = getattr(cast("Any", type(fn)), "__call__", None)  # noqa: B004 - the function is wanted, not whether there is one
            if not inspect.isfunction(fn):
                return {}
    names = dict(fn.__globals__)
    # From Python 3.14 on, what only annotations speak of is kept by the function that evaluates them.
    for other in filter(inspect.isfunction, (getattr(fn, "__annotate__", None), fn)):
        for name, cell in zip(other.__code__.co_freevars, other.__closure__ or (), strict=False):
            try:
                names[name] = cell.cell_contents
            except ValueError:
                continue
    names.update({parameter.__name__: parameter for parameter in getattr(fn, "__type_params__", ())})
    return names


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON schema of an annotation, from msgspec or pydantic; empty where neither can tell."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not _mentions_pydantic(annotation):
        try:
            return msgspec.json.schema(annotation, schema_hook=_path_schema)
        except Exception:  # what msgspec refuses is not the user's mistake
            if pydantic is None:
                return {}
    adapter = _adapter(pydantic, annotation)
    try:
        return {} if adapter is None else adapter.json_schema()
    except Exception:
        return {}


def _path_schema(cls: type) -> dict[str, Any]:
    if issubclass(cls, pathlib.PurePath):
        return {"type": "string", "format": "path"}
    raise NotImplementedError


def _adapter(pydantic: Any, annotation: Any) -> Any:
    """pydantic's validator of an annotation; None where it has none."""
    try:
        return pydantic.TypeAdapter(annotation, config={"arbitrary_types_allowed": True})
    except Exception:
        try:
            return pydantic.TypeAdapter(annotation)  # a model has its own config and suffers no other
        except Exception:
            return None


def _mentions_pydantic(annotation: Any) -> bool:
    if isinstance(annotation, list):  # the parameters of a Callable
        return any(map(_mentions_pydantic, cast("list[Any]", annotation)))
    if typing.get_origin(annotation) is Literal:
        return False
    if typing.get_origin(annotation) is Annotated:
        extras = annotation.__metadata__
        if any(_is_of(extra, "pydantic", "annotated_types") or _has_schema(extra) for extra in extras):
            return True
        return _mentions_pydantic(annotation.__origin__)
    cls = typing.get_origin(annotation) or annotation
    if isinstance(cls, type) and (_has_schema(cls) or _is_of(cls, "pydantic")):
        return True
    return any(map(_mentions_pydantic, typing.get_args(annotation)))


def _has_schema(of: Any) -> bool:
    return hasattr(of, "__pydantic_core_schema__") or hasattr(of, "__get_pydantic_core_schema__")


def _is_of(thing: Any, *packages: str) -> bool:
    cls: type = thing if isinstance(thing, type) else type(thing)
    return any(base.__module__.partition(".")[0] in packages for base in cls.__mro__)


def _is_alias(annotation: Any) -> bool:
    """Whether this is made by a ``type`` statement: it may speak of itself."""
    return type(annotation).__name__ == "TypeAliasType"


def _target(annotation: Any) -> Any:
    """What another name stands for; the annotation itself where it is none."""
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    if isinstance(annotation, TypeVar):
        return annotation if annotation.__bound__ is None else annotation.__bound__
    if _is_alias(annotation):
        return annotation.__value__
    if typing.get_origin(annotation) in (typing.Required, typing.NotRequired):
        return typing.get_args(annotation)[0]
    if _is_alias(typing.get_origin(annotation)):
        return typing.get_origin(annotation).__value__[typing.get_args(annotation)]
    return annotation


def _is_typeddict(cls: Any) -> bool:
    """Whether this is a TypedDict, of typing or of typing_extensions."""
    return dict in cls.__mro__ and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def _is_record(cls: Any) -> bool:
    return (
        issubclass(cls, msgspec.Struct)
        or dataclasses.is_dataclass(cls)
        or (hasattr(cls, "_fields") and issubclass(cls, tuple))
    )


def _is_understood(annotation: Any) -> bool:
    """Whether msgspec takes this annotation; it refuses some at any depth, and says so at the first use."""
    try:
        shapes.convert(object(), annotation)
    except msgspec.ValidationError:
        return True
    except Exception:
        return False
    return True


def _is_askable(cls: type, question: Callable[[Any, Any], bool], about: Any) -> bool:
    """Whether a class answers isinstance or issubclass: a Protocol may not."""
    try:
        question(about, cls)
    except Exception:
        return False
    return True

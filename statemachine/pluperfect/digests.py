"""
A digest of a value by its structure: equal values have equal digests, in every process and on every machine.

Pickle bytes would not do: they differ for equal values. What has no known structure has no digest, and so
has a function without a name of its own: two lambdas cannot be told apart.
"""

from __future__ import annotations

import functools
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, cast

import msgspec

from .errors import PluperfectError

__all__ = ["SCRIPT", "Undigestible", "digest", "place_of"]

SCRIPT: Final = "pluperfect_script_"
"""How the name of a module begins that was loaded from a script to resume it."""

_SCALARS: Final[frozenset[Any]] = frozenset({type(None), bool, int, float, str, bytes})
_NESTS: Final[frozenset[Any]] = frozenset({list, dict})
_PLAIN: Final[frozenset[Any]] = _SCALARS | _NESTS
_TEXT: Final[frozenset[Any]] = frozenset({str})
_DICT: Final[frozenset[Any]] = frozenset({dict})
_TUPLE: Final[frozenset[Any]] = frozenset({tuple})
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_DEEP: Final = 200
_UNSET: Final = object()


class Undigestible(PluperfectError, TypeError):
    """
    A value has no known structure to take a digest of.

    Attributes:
        path: Where it stands: ``$.rows[3]``.
        type: Its class.
        why: What is wrong with it.
    """

    def __init__(self, path: str, type: type[Any], why: str = "which cannot be hashed by its structure") -> None:
        super().__init__(path, type, why)
        self.path: str = path
        self.type: type[Any] = type
        self.why: str = why

    def __str__(self) -> str:
        return f"{self.path} is a {self.type.__module__}.{self.type.__qualname__}, {self.why}"


def digest(value: Any) -> bytes:
    """
    16 bytes of SHA-256 over a canonical form of the value.

    Dicts and sets count without their order; 1, True, 1.0 and "1" differ, and so do lists from tuples.

    Raises:
        Undigestible: Something in the value has no known structure; the message gives the path.
    """
    try:
        if type(value) in _SCALARS or _plain(value, _DEEP):
            return sha256(b"p" + _encode(value)).digest()[:16]
    except (OverflowError, UnicodeEncodeError):
        pass  # an int of more than 64 bits, or a lone surrogate, somewhere inside
    return sha256(b"s" + _canonical(value, _DEEP)).digest()[:16]


def place_of(module: object) -> str:
    """The name of a module; a script has the same one whether it was started or is loaded again to be resumed."""
    name = str(module)
    if name == "pathlib._local":  # what Python 3.13 calls it
        return "pathlib"
    return "script" if name == "__main__" or name.startswith(SCRIPT) else name


def _plain(value: Any, deep: int) -> bool:
    """Whether msgpack alone tells this value from all others: one look at the exact types, level by level."""
    kind = cast("type[Any]", type(value))
    if kind in _SCALARS:
        return True
    if kind not in _NESTS:
        return False
    if kind in _DICT:
        if not set(map(type, value)) <= _TEXT:
            return False
        value = value.values()
    kinds: set[type[Any]] = set(map(type, value))
    if kinds <= _SCALARS:
        return True
    if not kinds <= _PLAIN:
        return False
    if not deep:
        raise Undigestible("$", kind, _TOO_DEEP)
    return all(_plain(item, deep - 1) for item in value if type(item) in _NESTS)


_TOO_DEEP: Final = f"nested more than {_DEEP} deep, or in itself"


def _frame(tag: str, parts: Iterable[bytes]) -> bytes:
    """A tag and parts, each with its length, so that no two structures give the same bytes."""
    return b"".join([tag.encode(), b"(", *[b"%d:%b" % (len(part), part) for part in parts], b")"])


def _canonical(value: Any, deep: int) -> bytes:
    kind = cast("type[Any]", type(value))
    if not deep:
        raise Undigestible("$", kind, _TOO_DEEP)
    try:
        if kind in _SCALARS or _plain(value, deep):
            return b"\0" + _encode(value)
        if kind in _TUPLE and set(map(type, value)) <= _SCALARS:
            return b"\1" + _encode(value)
    except (OverflowError, UnicodeEncodeError):
        pass
    maker = _MAKERS.get(kind)
    if maker is not None:
        return maker(value, deep - 1)
    name = _name(kind)
    if issubclass(kind, type):
        return _frame("class", [_name(value).encode()])
    if callable(value) and kind.__module__ != "typing" and hasattr(value, "__qualname__"):
        return _function(value, kind, deep)
    if hasattr(kind, "_member_map_"):  # an Enum; flags that have no name are told apart by their value
        label: Any = getattr(value, "_name_", None)
        return _frame(
            f"enum {name}", [_canonical(getattr(value, "_value_", None) if label is None else label, deep - 1)]
        )
    names = _field_names(kind)
    if names is not None:
        return _fields(name, {n: getattr(value, n, _UNSET) for n in names}, deep - 1)
    if kind.__module__.partition(".")[0].lstrip("_") in _BY_REPR:
        return _frame(f"repr {kind.__qualname__}", [repr(value).encode(errors="surrogatepass")])
    dump: Callable[[Any], Any] | None = getattr(kind, "model_dump", None)
    if dump is not None:
        try:
            dumped = dump(value)
        except Exception as error:
            raise Undigestible("$", kind, f"whose model_dump raised {type(error).__name__}") from error
        return _frame(f"model {name}", [_canonical(dumped, deep - 1)])
    raise Undigestible("$", kind)


def _name(kind: Any) -> str:
    return f"{place_of(getattr(kind, '__module__', ''))}.{kind.__qualname__}"


def _part(value: Any, deep: int, step: str, key: object) -> bytes:
    """The canonical form of a part; what is wrong in it is named by the whole path."""
    try:
        return _canonical(value, deep)
    except Undigestible as error:
        raise Undigestible(f"${step % (key,)}{error.path[1:]}", error.type, error.why) from None


def _function(value: Any, kind: type[Any], deep: int) -> bytes:
    """A function by its name; a method by its name and its object."""
    if "<" in value.__qualname__:  # <lambda>, <locals>
        raise Undigestible("$", kind, f"and {value.__qualname__} is no name that others could find it by")
    name = _name(value).encode()
    owner: Any = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        return _frame("function", [name])
    return _frame("method", [name, _part(owner, deep - 1, ".%s", "__self__")])


def _field_names(kind: type[Any]) -> tuple[str, ...] | None:
    """The fields of a dataclass, a Struct or a named tuple; None for other classes."""
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return getattr(kind, "_fields", None) if issubclass(kind, tuple) else None  # type: ignore[reportUnknownArgumentType]


_BY_REPR: Final = frozenset({"datetime", "decimal", "uuid", "pathlib", "zoneinfo", "fractions", "typing"})
"""The modules whose values are told apart by how they are written: each ``repr`` of them is exact."""


def _fields(name: str, fields: dict[str, Any], deep: int) -> bytes:
    parts = [
        _frame(key, [] if value is _UNSET else [_part(value, deep, ".%s", key)])
        for key, value in sorted(fields.items())
    ]
    return _frame(f"fields {name}", parts)


def _sequence(tag: str) -> Callable[[Any, int], bytes]:
    def make(value: Any, deep: int) -> bytes:
        return _frame(tag, [_part(item, deep, "[%d]", i) for i, item in enumerate(value)])

    return make


def _set(tag: str) -> Callable[[Any, int], bytes]:
    def make(value: Any, deep: int) -> bytes:
        return _frame(tag, sorted([_part(item, deep, "{%s}", "...") for item in value]))

    return make


def _pairs(value: Mapping[Any, Any], deep: int) -> list[bytes]:
    return [
        _frame("", [_part(key, deep, ".%s()", "keys"), _part(item, deep, "[%r]", key)]) for key, item in value.items()
    ]


def _mapping(tag: str) -> Callable[[Any, int], bytes]:
    return lambda value, deep: _frame(tag, sorted(_pairs(value, deep)))


def _by_repr(value: Any, deep: int) -> bytes:
    return _frame(f"repr {type(value).__qualname__}", [repr(value).encode(errors="surrogatepass")])


def _partial(value: Any, deep: int) -> bytes:
    made: functools.partial[Any] = value
    parts = [("func", made.func), ("args", made.args), ("keywords", made.keywords)]
    return _frame("partial", [_part(part, deep, ".%s", name) for name, part in parts])


def _odd_text(value: Any, deep: int) -> bytes:
    return _frame("str", [value.encode(errors="surrogatepass")])


def _module(value: Any, deep: int) -> bytes:
    return _frame("module", [place_of(value.__name__).encode()])


_MAKERS: Final[dict[Any, Callable[[Any, int], bytes]]] = {
    int: _by_repr,  # too long for msgpack
    str: _odd_text,  # with lone surrogates
    list: _sequence("list"),
    tuple: _sequence("tuple"),
    deque: _sequence("deque"),
    set: _set("set"),
    frozenset: _set("frozenset"),
    dict: _mapping("dict"),
    defaultdict: _mapping("defaultdict"),
    Counter: _mapping("Counter"),
    OrderedDict: lambda value, deep: _frame("OrderedDict", _pairs(value, deep)),
    types.MappingProxyType: _mapping("mappingproxy"),
    range: _by_repr,
    complex: _by_repr,
    bytearray: _by_repr,
    type(...): _by_repr,
    types.GenericAlias: _by_repr,
    types.UnionType: _by_repr,
    types.ModuleType: _module,
    functools.partial: _partial,
}

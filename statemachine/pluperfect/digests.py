"""
A digest of a value by its structure: equal values have equal digests, in every process and on every machine.

Pickle bytes would not do: they differ for equal values. What has no known structure has no digest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final, cast

import msgspec

from .errors import PluperfectError

__all__ = ["Undigestible", "digest"]

_PLAIN: Final = frozenset({type(None), bool, int, str, bytes})
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_DEEP: Final = 200


class Undigestible(PluperfectError, TypeError):
    """
    A value has no known structure to take a digest of.

    Attributes:
        path: Where it stands: ``$.rows[3]``.
    """

    def __init__(self, path: str, value: object) -> None:
        super().__init__(
            f"{path} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be hashed by its structure"
        )
        self.path = path


def digest(value: Any) -> bytes:
    """
    16 bytes of SHA-256 over a canonical form of the value.

    Dicts and sets count without their order; 1, True, 1.0 and "1" differ, and so do lists from tuples.

    Raises:
        Undigestible: Something in the value has no known structure; the message gives the path.
    """
    if is_plain(value):
        return sha256(b"p" + _encode(value)).digest()[:16]
    return sha256(b"s" + _canonical(value, "$", 0)).digest()[:16]


def is_plain(value: Any) -> bool:
    """Whether msgpack alone tells this value from all others: no floats that equal ints, no tuples, no odd types."""
    kind = cast("type[Any]", type(value))
    if kind in _PLAIN:
        return kind is not int or -(1 << 63) <= value < 1 << 64
    if kind is float:
        return True
    if kind is list:
        kinds = set(map(type, value))
        return (kinds <= _PLAIN and int not in kinds) or all(map(is_plain, value))
    if kind is dict:
        return set(map(type, value)) <= {str} and all(map(is_plain, value.values()))
    return False


def _frame(tag: str, parts: Iterable[bytes]) -> bytes:
    """A tag and parts, each with its length, so that no two structures give the same bytes."""
    return b"".join([tag.encode(), b"(", *(b"%d:%b" % (len(part), part) for part in parts), b")"])


def _canonical(value: Any, path: str, depth: int) -> bytes:
    if depth > _DEEP:
        raise Undigestible(path, value)
    kind = cast("type[Any]", type(value))
    if is_plain(value):
        return _frame("p", [_encode(value)])
    if kind is int:
        return _frame("int", [b"%d" % value])
    maker = _MAKERS.get(kind)
    if maker is not None:
        return maker(value, path, depth + 1)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if issubclass(kind, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _frame("name", [f"{value.__module__}.{value.__qualname__}".encode()])
    if hasattr(kind, "_member_map_"):  # an Enum
        return _frame(f"enum {name}", [str(getattr(value, "name", value)).encode()])
    names = _field_names(kind)
    if names is not None:
        return _fields(name, {n: getattr(value, n) for n in names}, path, depth)
    if kind.__module__ in _BY_TEXT:
        return _frame(f"text {name}", [str(value).encode()])
    dump: Callable[[], Any] | None = getattr(value, "model_dump", None)
    if dump is not None:
        return _frame(f"model {name}", [_canonical(dump(), path, depth + 1)])
    raise Undigestible(path, value)


def _field_names(kind: type[Any]) -> tuple[str, ...] | None:
    """The fields of a dataclass, a Struct or a named tuple; None for other classes."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return getattr(kind, "_fields", None) if issubclass(kind, tuple) else None  # type: ignore[reportUnknownArgumentType]


_BY_TEXT: Final = frozenset(
    {"datetime", "decimal", "_decimal", "uuid", "pathlib", "pathlib._local", "zoneinfo", "fractions"}
)
"""The modules whose values are told apart by their text: each ``str`` of them is exact."""


def _fields(name: str, fields: dict[str, Any], path: str, depth: int) -> bytes:
    parts = [_frame(key, [_canonical(value, f"{path}.{key}", depth + 1)]) for key, value in sorted(fields.items())]
    return _frame(f"fields {name}", parts)


def _sequence(tag: str) -> Callable[[Any, str, int], bytes]:
    def make(value: Any, path: str, depth: int) -> bytes:
        return _frame(tag, (_canonical(item, f"{path}[{i}]", depth) for i, item in enumerate(value)))

    return make


def _set(tag: str) -> Callable[[Any, str, int], bytes]:
    def make(value: Any, path: str, depth: int) -> bytes:
        return _frame(tag, sorted(_canonical(item, f"{path}{{...}}", depth) for item in value))

    return make


def _mapping(value: Any, path: str, depth: int) -> bytes:
    pairs = [
        _frame("pair", [_canonical(key, f"{path}.keys()", depth), _canonical(item, f"{path}[{key!r}]", depth)])
        for key, item in value.items()
    ]
    return _frame("dict", sorted(pairs))


def _by_repr(tag: str) -> Callable[[Any, str, int], bytes]:
    def make(value: Any, path: str, depth: int) -> bytes:
        return _frame(tag, [repr(value).encode()])

    return make


_MAKERS: Final[dict[type, Callable[[Any, str, int], bytes]]] = {
    list: _sequence("list"),
    tuple: _sequence("tuple"),
    range: _by_repr("range"),
    set: _set("set"),
    frozenset: _set("frozenset"),
    dict: _mapping,
    complex: _by_repr("complex"),
    bytearray: _by_repr("bytearray"),
    type(...): _by_repr("ellipsis"),
}

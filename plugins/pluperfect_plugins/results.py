"""
Results to bytes and back.

Plain builtins go as msgpack, which gives back exactly what went in. Values with a type of their own go as
msgpack beside a reference to that type, where a round trip is exact. All else is pickled, and marked so.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import importlib
import io
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from pluperfect.cache_policies import NoCache
from pluperfect.digests import SCRIPT
from pluperfect.errors import UnpackableValue
from pluperfect.hooks import Option, Unpacked, hookimpl
from pluperfect.shapes import decoder
from pluperfect.states import FOREIGN, PICKLE, PLAIN, TYPED, Packed

__all__ = ["options", "pack", "unpack"]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_SCALARS: Final[frozenset[Any]] = frozenset({type(None), bool, int, float, str, bytes})
_DICT: Final[frozenset[Any]] = frozenset({dict})
_NESTS: Final[frozenset[Any]] = _DICT | {list}
_PLAIN: Final[frozenset[Any]] = _SCALARS | _NESTS
_WORDS: Final[dict[str, type]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytearray": bytearray,
    "datetime": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
_BY_TYPE: Final = {kind: word for word, kind in _WORDS.items()}


def _persist(value: Any) -> Any:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"persist_result is True, False or None, not {value!r}.")
    return value


_IMPLYING: Final = ("cache_key_fn", "result_storage_key", "result_storage", "result_serializer")
"""Whoever says one of these wants the result recorded."""


def _implied(value: bool | None, given: Mapping[str, Any]) -> bool | None:
    """True where another option would be pointless without a record, and nobody says otherwise."""
    if value is not None:
        return value
    policy = given.get("cache_policy")
    named = policy is not None and not isinstance(policy, NoCache)
    return True if named or any(given.get(name) is not None for name in _IMPLYING) else None


def _serializer(value: Any) -> Any:
    if value is None:
        return None
    from pluperfect.serializers import checked

    return checked(value)


def _in_memory(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"cache_result_in_memory is True or False, not {value!r}.")
    return value


@hookimpl
def options(kind: str) -> Sequence[Option]:
    """
    ``persist_result``: with False the result is not recorded, and no cache or resume answers with it.

    ``result_storage`` is taken and kept: results stand in the log.
    """
    return [
        Option("persist_result", None, "whether the result is recorded", _persist, complete=_implied),
        Option("result_serializer", None, "how the result is encoded: a serializer or its word", _serializer),
        Option("result_storage", None, "taken and kept; results stand in the log"),
        Option("cache_result_in_memory", True, "whether a state keeps the value beside its record", _in_memory),
    ]


def faithful(value: Any) -> bool:
    """
    Whether plain msgpack gives this value back with the same types throughout, if it takes it at all.

    Ints of more than 64 bits and lone surrogates look plain, and msgpack raises.
    """
    kind = type(value)  # type: ignore[reportUnknownVariableType]
    if kind in _SCALARS:
        return True
    if kind in _DICT:
        if not set(map(type, value)) <= _SCALARS:
            return False
        value = value.values()
    elif kind not in _NESTS:
        return False
    kinds: set[type[Any]] = set(map(type, value))
    if kinds <= _SCALARS:
        return True
    if not kinds <= _PLAIN:
        return False
    for item in value:  # noqa: SIM110 - a generator would double the depth of the stack
        if type(item) in _NESTS and not faithful(item):
            return False
    return True


@hookimpl
def pack(value: Any) -> Packed:
    """Encode a value with the first codec that gives it back exactly."""
    try:
        if type(value) in _SCALARS or faithful(value):
            return Packed(PLAIN, _encode(value))
    except (RecursionError, OverflowError, UnicodeEncodeError):
        pass  # nested too deep or in itself, or more than msgpack takes
    typed = _typed(value)
    return typed if typed is not None else Packed(PICKLE, _pickled(value))


@hookimpl
def unpack(packed: Packed) -> Unpacked | None:
    """Decode what `pack` made. A pickled value may run code of its own."""
    if packed.code == PLAIN:
        return Unpacked(_decode(packed.data))
    if packed.code == TYPED:
        reference, body = _decode(packed.data)
        return Unpacked(decoder(_referred(reference)).decode(body))
    if packed.code == PICKLE:
        import pickle

        return Unpacked(pickle.loads(packed.data))  # noqa: S301 - what this process's own log holds; said in the docs
    if packed.code == FOREIGN:
        from pluperfect.serializers import resolve

        reference, data = _decode(packed.data)
        try:
            serializer = resolve(reference)
        except ValueError:
            return None  # another plugin's codec, or a serializer that nobody has imported here
        return Unpacked(serializer.loads(data))
    return None


def _typed(value: Any) -> Packed | None:
    kind = cast("type[Any]", type(value))
    reference = _BY_TYPE.get(kind) or _reference(kind, value)
    if reference is None:
        return None
    try:
        body = _encode(value)
        exact = _same(value, decoder(kind).decode(body))
    except Exception:  # an annotation that names nothing, an __eq__ that raises, ...: the pickle has no such needs
        return None
    return Packed(TYPED, _encode([reference, body])) if exact else None


def _reference(kind: type, value: Any) -> str | None:
    """``module:qualname`` of a class that msgpack can decode into and that can be imported."""
    named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")  # type: ignore[reportUnknownArgumentType]
    if not (dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct) or named_tuple):
        return None
    if _is_script(kind.__module__) or "<locals>" in kind.__qualname__:
        return None
    if getattr(cast("Any", kind), "__post_init__", None):  # decoding would run it a second time; a pickle does not
        return None
    reference = f"{kind.__module__}:{kind.__qualname__}"
    try:
        return reference if _referred(reference) is kind else None
    except (ImportError, AttributeError):
        return None


def _is_script(module: str) -> bool:
    """Whether this is the started program, whose classes other processes find under another name, if at all."""
    return module == "__main__" or module.startswith(SCRIPT)


def _referred(reference: str) -> type:
    module, colon, qualname = reference.partition(":")
    if not colon:
        return _WORDS[reference]
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal with the same types throughout."""
    kind = cast("type[Any]", type(one))
    if kind is not type(other):
        return False
    if isinstance(one, tuple) and getattr(one, "__dict__", None):  # type: ignore[reportUnknownArgumentType]
        return False  # attributes that no codec knows of
    if kind in (list, tuple) or (isinstance(one, tuple) and hasattr(kind, "_fields")):
        mine, theirs = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(mine) == len(theirs) and all(map(_same, mine, theirs))
    if kind is dict:
        mine_at, theirs_at = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
        return len(mine_at) == len(theirs_at) and all(
            _same(a, b) and _same(mine_at[a], theirs_at[b]) for a, b in zip(mine_at, theirs_at, strict=True)
        )
    if kind in (set, frozenset):
        kinds: set[type[Any]] = set(map(type, one))  # type: ignore[reportUnknownArgumentType]
        return one == other and kinds == set(map(type, other)) and kinds <= {str, bytes, int}
    if dataclasses.is_dataclass(one):  # type: ignore[reportUnknownArgumentType]
        shown = {field.name for field in dataclasses.fields(one)}
        hidden = set(getattr(one, "__dict__", ())) - shown
        return not hidden and all(_same(getattr(one, name), getattr(other, name)) for name in shown)
    if isinstance(one, msgspec.Struct):
        return all(_same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if isinstance(one, dt.datetime | dt.time):
        return repr(one) == repr(other)
    return bool(one == other) and repr(one) == repr(other)  # type: ignore[reportUnknownArgumentType]


def _pickled(value: Any) -> bytes:
    from pluperfect.pickling import dumps, dumps_by_value

    try:
        data = dumps(value)
        if b"__main__" not in data and SCRIPT.encode() not in data:
            return data
    except Exception:
        pass
    import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith(SCRIPT):  # as `__main__` always is: by value, since nobody can import it
            cloudpickle.register_pickle_by_value(module)  # type: ignore[reportUnknownMemberType]

    try:
        return dumps_by_value(value)
    except Exception as error:
        path, culprit = _culprit(value, "$", 0)
        kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
        raise UnpackableValue(f"{path} is a {kind} that cannot be encoded ({type(error).__name__}: {error})") from error


def _slots(kind: type[Any]) -> Sequence[str]:
    slots: Any = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    """The innermost part of a value that cannot be pickled, and where it stands."""
    import cloudpickle

    dump = cast("Callable[[Any, io.BytesIO], None]", cloudpickle.dump)  # type: ignore[reportUnknownMemberType]
    if depth > 20:
        return path, value
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r}]", item) for key, item in cast("dict[Any, Any]", value).items()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [(f"{path}[{i}]", item) for i, item in enumerate(cast("list[Any]", value))]
    elif not isinstance(value, type):
        slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
        names = [*getattr(value, "__dict__", ()), *slots]
        parts = [(f"{path}.{name}", getattr(value, name)) for name in names if hasattr(value, name)]
    for where, part in parts:
        try:
            dump(part, io.BytesIO())
        except Exception:
            return _culprit(part, where, depth + 1)
    return path, cast("Any", value)

"""
Serializers: how a result becomes bytes where the option ``result_serializer`` asks for another way than the log's own.

Each has a word: ``"pickle"``, ``"json"``, ``"compressed/pickle"``, ``"compressed/json"``. One of your own is a subclass
of `Serializer` with a ``type``, a ``dumps`` and a ``loads``; whoever reads its results has to have imported it.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import importlib
import json
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

import msgspec

from . import shapes
from .errors import SerializationError

__all__ = [
    "CompressedJSONSerializer",
    "CompressedPickleSerializer",
    "CompressedSerializer",
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "checked",
    "object_decoder",
    "object_encoder",
    "resolve",
]

_KINDS: Final[dict[str, type[Serializer]]] = {}
"""Every serializer by its type, the youngest of a name."""


class _ByWord(ABCMeta):
    """The base of all serializers, called, makes the one whose word it is given."""

    def __call__(cls, *args: Any, **given: Any) -> Any:
        if cls.__dict__.get("type") == "":
            return resolve(given.pop("type", ""), **given)
        return super().__call__(*args, **given)


class Serializer(metaclass=_ByWord):
    """
    The base of all serializers. ``Serializer(type="compressed/json")`` makes the one with this word.

    Attributes:
        type: What the kind is called, in the options and in the log.
    """

    type: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.type:
            _KINDS[cls.type] = cls

    def dumps(self, obj: Any) -> bytes:
        """Encode a value."""
        raise NotImplementedError

    def loads(self, blob: bytes) -> Any:
        """Decode what ``dumps`` gave."""
        raise NotImplementedError

    @property
    def reference(self) -> str:
        """The text from which `resolve` makes an equal serializer: a word, or JSON where it has settings of its own."""
        given = self._settings()
        return json.dumps({"type": self.type, **given}) if given else self.type

    def _settings(self) -> dict[str, Any]:
        """The fields that are set to other than their default, as JSON takes them."""
        if not dataclasses.is_dataclass(self):
            return {}
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            default: Any = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if value != default:
                found[field.name] = value.reference if isinstance(value, Serializer) else value
        return found


def _module(name: Any, *needed: str, what: str) -> Any:
    """
    A library by name.

    Raises:
        ValueError: It is not there, or lacks something.
    """
    if not isinstance(name, str):
        raise ValueError(f"{what} is the name of a module, not {name!r}.")
    try:
        found = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{what} {name!r} cannot be imported: {error}.") from error
    for attribute in needed:
        if not callable(getattr(found, attribute, None)):
            raise ValueError(f"{what} at {name!r} does not have a {attribute!r} method.")
    return found


@dataclasses.dataclass(eq=True)
class PickleSerializer(Serializer):
    """
    Any object, by pickle, written in base64. Reading it may run code.

    Attributes:
        picklelib: A module with ``dumps`` and ``loads``.
    """

    type: ClassVar[str] = "pickle"
    picklelib: str = "cloudpickle"

    def __post_init__(self) -> None:
        _module(self.picklelib, "dumps", "loads", what="Pickle library")

    def dumps(self, obj: Any) -> bytes:
        """Encode a value."""
        return _tried(
            self, lambda: base64.encodebytes(_module(self.picklelib, what="Pickle library").dumps(obj)), "write"
        )

    def loads(self, blob: bytes) -> Any:
        """Decode what ``dumps`` gave."""
        return _tried(
            self, lambda: _module(self.picklelib, what="Pickle library").loads(base64.decodebytes(blob)), "read"
        )


def _none() -> dict[str, Any]:
    return {}


@dataclasses.dataclass(eq=True)
class JSONSerializer(Serializer):
    """
    JSON in UTF-8. What JSON has no word for goes with the name of its class, which is imported to read it.

    Attributes:
        jsonlib: A module with ``dumps`` and ``loads``.
        object_encoder: Where the function stands that encodes what the module does not know; None: it is refused.
        object_decoder: Where the function stands that is given every object that was read; None: dicts stay dicts.
        dumps_kwargs: For ``dumps``; without ``default``.
        loads_kwargs: For ``loads``; without ``object_hook``.
    """

    type: ClassVar[str] = "json"
    jsonlib: str = "json"
    object_encoder: str | None = "pluperfect.serializers.object_encoder"
    object_decoder: str | None = "pluperfect.serializers.object_decoder"
    dumps_kwargs: dict[str, Any] = dataclasses.field(default_factory=_none)
    loads_kwargs: dict[str, Any] = dataclasses.field(default_factory=_none)

    def __post_init__(self) -> None:
        _module(self.jsonlib, "dumps", "loads", what="JSON library")
        if "default" in self.dumps_kwargs:
            raise ValueError("`default` cannot be provided. Use `object_encoder` instead.")
        if "object_hook" in self.loads_kwargs:
            raise ValueError("`object_hook` cannot be provided. Use `object_decoder` instead.")

    def dumps(self, obj: Any) -> bytes:
        """Encode a value."""
        more = {"default": _function(self.object_encoder)} if self.object_encoder else {}

        def encoded() -> bytes:
            text = _module(self.jsonlib, what="JSON library").dumps(obj, **more, **self.dumps_kwargs)
            return text.encode() if isinstance(text, str) else text

        return _tried(self, encoded, "write")

    def loads(self, blob: bytes) -> Any:
        """Decode what ``dumps`` gave."""
        more = {"object_hook": _function(self.object_decoder)} if self.object_decoder else {}
        library = _module(self.jsonlib, what="JSON library")
        return _tried(self, lambda: library.loads(blob.decode(), **more, **self.loads_kwargs), "read")


@dataclasses.dataclass(eq=True)
class CompressedSerializer(Serializer):
    """
    Another serializer's bytes, compressed.

    Attributes:
        serializer: The other one, or its word.
        compressionlib: A module with ``compress`` and ``decompress``.
    """

    type: ClassVar[str] = "compressed"
    serializer: Any
    compressionlib: str = "lzma"

    def __post_init__(self) -> None:
        self.serializer = resolve(self.serializer)
        _module(self.compressionlib, "compress", "decompress", what="Compression library")

    def dumps(self, obj: Any) -> bytes:
        """Encode a value."""
        library = _module(self.compressionlib, what="Compression library")
        return base64.encodebytes(library.compress(self.serializer.dumps(obj)))

    def loads(self, blob: bytes) -> Any:
        """Decode what ``dumps`` gave."""
        library = _module(self.compressionlib, what="Compression library")
        return self.serializer.loads(_tried(self, lambda: library.decompress(base64.decodebytes(blob)), "read"))


class CompressedPickleSerializer(CompressedSerializer):
    """``compressed/pickle``, for those who name it so."""

    type: ClassVar[str] = "compressed/pickle"

    def __init__(self, serializer: Any = "pickle", compressionlib: str = "lzma") -> None:
        super().__init__(serializer, compressionlib)


class CompressedJSONSerializer(CompressedSerializer):
    """``compressed/json``, for those who name it so."""

    type: ClassVar[str] = "compressed/json"

    def __init__(self, serializer: Any = "json", compressionlib: str = "lzma") -> None:
        super().__init__(serializer, compressionlib)


def _tried(serializer: Serializer, call: Callable[[], Any], verb: str) -> Any:
    try:
        return call()
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(
            f"The serializer {serializer.type!r} cannot {verb} this: {type(error).__name__}: {error}"
        ) from error


# --- by word --------------------------------------------------------------------------------------------


def resolve(wanted: Any, **fields: Any) -> Any:
    """
    A serializer, from itself, its word, or its reference. Fields are for a word.

    Raises:
        ValueError: There is none with this word; a near one is named.
        TypeError: It is neither a text nor has ``dumps`` and ``loads``.
    """
    if not isinstance(wanted, str):
        if isinstance(wanted, type) or not all(callable(getattr(wanted, name, None)) for name in ("dumps", "loads")):
            raise TypeError(
                f"A serializer is 'pickle', 'json', 'compressed/pickle', 'compressed/json', or an object with dumps and loads,"
                f" not {wanted!r}."
            )
        return wanted
    if wanted.startswith("{"):
        given = json.loads(wanted)
        return _kind(given.pop("type"))(**given)
    outer, slash, inner = wanted.partition("/")
    if slash and outer == "compressed":
        return CompressedSerializer(serializer=inner, **fields)
    return _kind(wanted)(**fields)


def _kind(word: str) -> Any:
    kind = _KINDS.get(word)
    if kind is None:
        near = difflib.get_close_matches(word, _KINDS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no serializer {word!r}.{hint} There are: {', '.join(map(repr, sorted(_KINDS)))}.")
    return kind


def checked(value: Any) -> Any:
    """The value of an option ``result_serializer``, as it is kept: a word is looked up to see that it is one."""
    if value is None:
        return None
    try:
        return resolve(value)
    except TypeError as error:
        raise TypeError(f"result_serializer: {error}") from error


# --- what JSON has no word for ----------------------------------------------------------------------------


def _function(place: str) -> Any:
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _found(name: str) -> Any:
    """A class by its full name, whose module may have dots."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ImportError(f"There is no class {name!r} to be imported.")


def object_encoder(obj: Any) -> Any:
    """A value that JSON does not know, as an object that it does: the name of its class, and what it holds."""
    kind = cast("type[Any]", type(obj))
    if isinstance(obj, BaseException):
        return {"__exc_type__": _name(kind), "message": str(obj)}
    if hasattr(kind, "model_dump") and hasattr(kind, "model_validate"):
        data: Any = obj.model_dump(mode="json")
    else:
        data = msgspec.to_builtins(obj, builtin_types=())
    return {"__class__": _name(kind), "data": data}


def object_decoder(found: dict[str, Any]) -> Any:
    """An object that was read, as the value that `object_encoder` was given; any other dict as it is."""
    if "__class__" in found and "data" in found:
        kind = _found(found["__class__"])
        if hasattr(kind, "model_validate"):
            return kind.model_validate(found["data"])
        return shapes.convert(found["data"], kind, strict=False)
    if "__exc_type__" in found:
        return _found(found["__exc_type__"])(found["message"])
    return found

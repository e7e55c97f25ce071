"""Values that stand in records: packed data, errors, inputs, and the Spec that a run is born with."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from msgspec.msgpack import Ext

__all__ = [
    "ABSENT",
    "FOREIGN",
    "PICKLE",
    "PLAIN",
    "RESULT",
    "TYPED",
    "Error",
    "Input",
    "Packed",
    "Spec",
    "codec_of",
    "usable",
]

Packed = Ext
"""
A value in the log, a msgpack extension: its ``code`` names the codec, its ``data`` are the bytes.

States hold either such a packed value or, before it is recorded, the live object.
"""

PLAIN: Final = 1  # msgpack of builtins, which gives back exactly what went in
TYPED: Final = 2  # array [type reference, msgpack]: dataclasses, Structs, tuples, dates, ...
PICKLE: Final = 3  # cloudpickle: reading it may run code
ABSENT: Final = 4  # not recorded; the bytes are the reason, UTF-8
RESULT: Final = 5  # array [run, seq]: the result that this run recorded there
FOREIGN: Final = 6  # array [codec name, bytes]: packed by a plugin, which alone can unpack it

_CODECS: Final = {
    PLAIN: "msgpack",
    TYPED: "typed",
    PICKLE: "pickle",
    ABSENT: "absent",
    RESULT: "result",
    FOREIGN: "foreign",
}


def codec_of(packed: Ext) -> str:
    """The name of the codec that packed this value, as ``specs/records.md`` lists them."""
    return _CODECS.get(packed.code, f"codec {packed.code}")


def usable(packed: object) -> bool:
    """Whether a result stands behind this, so that a cache or a resumed run may answer with it."""
    return type(packed) is Ext and packed.code != ABSENT


class Error(Struct, frozen=True, array_like=True):
    """An exception as the log keeps it: always readable, and the object itself where it could be packed."""

    type: str
    """The qualified name of its class."""
    message: str
    """What ``str()`` of it gave."""
    traceback: str = ""
    """The formatted traceback, the user's frames only."""
    data: Any = None
    """The packed exception object."""


class Input(Struct, frozen=True, array_like=True):
    """One argument of a call, as the log keeps it."""

    name: str
    digest: bytes | None = None
    """SHA-256 of the value's canonical form, first 16 bytes; None where it cannot be hashed."""
    value: Any = None
    """The packed value, or a reference to the run that computed it; None where it is too large."""


class Spec(Struct, frozen=True, array_like=True):
    """
    What a run is born with: who asked for what, under which definition.

    New fields go at the end, with defaults: older readers skip them, older records lack them.
    """

    kind: str
    """``"flow"`` or ``"task"``."""
    name: str
    """The name of the flow or task."""
    key: str
    """The call key: what tells this definition from others."""
    run_name: str
    root: bytes
    """The id of the run at the top of the tree; the run's own for a root."""
    parent: bytes | None = None
    index: int = 0
    """The occurrence of the call within its parent, from 0."""
    map_index: int | None = None
    generation: int = 0
    inputs: tuple[Input, ...] = ()
    code: bytes = b""
    """A digest of the function's code."""
    version: str | None = None
    tags: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    """The options that were set to other than their default, as far as they are plain values."""
    durability: str = "effect"
    entry: str = ""
    """Where the function can be imported from: ``module:qualname`` and, for a script, its file."""
    upstream: tuple[bytes, ...] = ()
    """The runs that this call waited for."""
    idempotency_key: str | None = None

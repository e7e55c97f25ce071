"""Values that stand in records: packed data, errors, inputs, and the Spec that a run is born with."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from .errors import RedactedValue

__all__ = [
    "ABSENT",
    "FOREIGN",
    "INLINE",
    "PICKLE",
    "PLAIN",
    "RESULT",
    "TYPED",
    "Error",
    "Forked",
    "Input",
    "Override",
    "Packed",
    "Spec",
    "codec_of",
    "digest_of",
    "runs_code",
    "size_of",
    "usable",
]


class _Kept(NamedTuple):
    """What is known of a large value beside its bytes, or in their place."""

    digest: bytes
    size: int
    fetch: Callable[[bytes], bytes | None] | None


INLINE: Final = 2_048
"""A value of more bytes than this does not stand in the row that names it, but where its digest leads."""


class Packed:
    """
    A value as the log keeps it: the number of a codec, and bytes. States hold a packed value or, before it is
    recorded, the live object.

    A large value that was read from a log is fetched from there when its bytes are first asked for.

    Args:
        code: The codec; see ``specs/records.md``.
        data: The bytes.
        run: The run in whose record it was read; empty for one that was packed here.

    Attributes:
        held: The bytes, where they are in memory.
    """

    __slots__ = ("_kept", "code", "held", "run")

    def __init__(self, code: int, data: bytes, run: bytes = b"") -> None:
        self.code: int = code
        self.held: bytes | None = data  # the bytes, where they are in memory
        self._kept: _Kept | None = None
        self.run: bytes = run

    @classmethod
    def kept(
        cls,
        code: int,
        digest: bytes,
        size: int,
        fetch: Callable[[bytes], bytes | None] | None,
        run: bytes = b"",
    ) -> Packed:
        """A value of this size whose bytes are found by their SHA-256."""
        made = cls(code, b"", run)
        made.held, made._kept = None, _Kept(digest, size, fetch)
        return made

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return size_of(self)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes."""
        return digest_of(self)

    @property
    def data(self) -> bytes:
        """
        The bytes.

        Raises:
            RedactedValue: They are not in the log any more.
        """
        data = self.held
        if data is None:
            kept = self._elsewhere
            data = None if kept.fetch is None else kept.fetch(kept.digest)
            if data is None:
                raise RedactedValue(
                    f"This value ({codec_of(self)}, {kept.size} bytes, SHA-256 {kept.digest.hex()}) is not in the log: it was"
                    " redacted, or left out when the log was written. `pluperfect verify` says which."
                )
            self.held = data
        return data

    @property
    def _elsewhere(self) -> _Kept:
        kept = self._kept
        assert kept is not None
        return kept

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed):
            return NotImplemented
        if self.code != other.code or self.size != other.size:
            return False
        if self.held is not None and other.held is not None:
            return self.held == other.held
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash((self.code, self.size))

    def __repr__(self) -> str:
        shown = repr(self.held) if self.held is not None else f"sha256 {self._elsewhere.digest.hex()[:16]}"
        return f"Packed({codec_of(self)}, {shown})"

    def __reduce__(self) -> Any:
        return _again, (self.code, self.data, self.run)


def size_of(packed: Packed) -> int:
    """How many bytes a value has, for whoever asks for each value of a log: a property costs more than a call."""
    held = packed.held
    return packed._elsewhere.size if held is None else len(held)  # type: ignore[reportPrivateUsage] - of this room's own class


def digest_of(packed: Packed) -> bytes:
    """SHA-256 of the bytes of a value, for the same."""
    kept, data = packed._kept, packed.held  # type: ignore[reportPrivateUsage] - of this room's own class
    if kept is not None:
        return kept.digest
    assert data is not None
    found = sha256(data).digest()
    if len(data) > INLINE:  # of others it is computed again: to keep it takes as much as they do
        packed._kept = _Kept(found, len(data), None)  # type: ignore[reportPrivateUsage]
    return found


def _again(code: int, data: bytes, run: bytes) -> Packed:
    """A pickled value, as it was: pickles in stores name this function, and what it takes."""
    return Packed(code, data, run)


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


def codec_of(packed: Packed) -> str:
    """The name of the codec that packed this value, as ``specs/records.md`` lists them."""
    return _CODECS.get(packed.code, f"codec {packed.code}")


def runs_code(packed: Packed) -> bool:
    """Whether decoding this value may run code that it names: it imports a module, or unpickles, or a plugin does."""
    if packed.code == TYPED:
        try:
            reference = msgspec.msgpack.decode(packed.data)[0]
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
            return True
        return not isinstance(reference, str) or ":" in reference
    return packed.code not in (PLAIN, ABSENT, RESULT)


def usable(packed: object) -> bool:
    """Whether a result stands behind this, so that a cache or a resumed run may answer with it."""
    return type(packed) is Packed and packed.code != ABSENT


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


# No reference of what is recorded of a call leads back to it, so that the garbage collector need not look at it.
class Input(Struct, frozen=True, array_like=True, gc=False):
    """One argument of a call, as the log keeps it."""

    name: str
    digest: bytes | None = None
    """SHA-256 of the value's canonical form, first 16 bytes; None where it cannot be hashed."""
    value: Any = None
    """The packed value, or a reference to the run that computed it; None where it is too large."""


class Override(Struct, frozen=True, array_like=True):
    """What a call is answered with in the place of its own outcome: a value, or an error."""

    place: str
    """The place of the call, in full: ``fetch:2``."""
    value: Any = None
    """The packed value; None where there is an error."""
    error: Error | None = None
    message: str = ""


class Forked(Struct, frozen=True, array_like=True):
    """What a fork shares with another run."""

    run: bytes
    """The root run that it was forked from."""
    at: int
    """The number of the last event of that tree that it shares."""
    digest: bytes
    """SHA-256 over the leaf hashes of the shared events."""
    overrides: tuple[Override, ...] = ()


class Spec(Struct, frozen=True, array_like=True, gc=False):
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
    site: str = ""
    """Where the call stands in the user's code: ``module:line`` or, in a script, ``file.py:line``."""
    forked: Forked | None = None
    """Of a fork: the run that it shares its beginning with."""

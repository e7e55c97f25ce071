"""The inputs of a call as the log keeps them: by digest, by value up to a size, by reference where a run computed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from ..digests import Undigestible, digest
from ..states import ABSENT, RESULT, Input, Packed
from ..values import size_of
from .annotations import Annotation
from .arguments import Found, each_run, holds_runs, resolved
from .futures import Future

__all__ = ["inputs_of"]

LIMIT: Final = 16_384
"""An input of a task that takes more bytes than this is recorded by its digest alone."""


_SIZED: Final = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


def inputs_of(
    arguments: Mapping[str, Any], pack: Callable[[Any], Any], *, whole: bool, waits: bool = True
) -> tuple[Input, ...]:
    """
    The inputs of a call as the log keeps them.

    Args:
        arguments: By parameter.
        pack: Encodes a value.
        whole: Record every value, whatever its size: a flow is resumed from them.
        waits: Whether there may be runs among them.
    """
    made: list[Input] = []
    for name, value in arguments.items():
        if waits and holds_runs(value):
            bare: Any = value
            while isinstance(bare, Annotation):
                bare = cast("Annotation[Any]", bare).value
            if isinstance(bare, Future):
                run = cast("Future[Any]", bare).run_id
                made.append(Input(name, digest(("run", run)), Packed(RESULT, msgspec.msgpack.encode(run))))
                continue
            stood_in = resolved(value, _stand_in)
            if any(True for _ in each_run(value)):
                made.append(Input(name, _digest(stood_in)))
                continue
            value = stood_in  # noqa: PLW2901 - there were only marks
        known, packed = _digest(value), None
        if whole or not _is_large(value):
            try:
                packed = pack(value)
            except Exception as error:
                packed = Packed(ABSENT, f"{_shortened(value)}: {error}".encode())
            if not whole and packed is not None and size_of(packed) > LIMIT:
                packed = None
        made.append(Input(name, known, packed))
    return tuple(made)


def _stand_in(found: Found) -> Any:
    """What counts of a run among the inputs: which one it is."""
    run = found.run.run_id if isinstance(found.run, Future) else found.run.of_run
    return ("run", run) if run is not None else str(found.run)


def _digest(value: Any) -> bytes | None:
    try:
        return digest(value)
    except (Undigestible, RecursionError):
        return None


def _is_large(value: Any) -> bool:
    """Whether a value is surely over the limit, so that it need not be encoded to find that out."""
    kind = type(value)  # type: ignore[reportUnknownVariableType]
    if kind is int or kind is float or kind is bool or value is None:
        return False
    if isinstance(value, _SIZED):
        return len(cast("list[Any]", value)) > LIMIT
    size = getattr(value, "nbytes", 0)
    return isinstance(size, int) and size > LIMIT


def _shortened(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= 200 else f"{text[:197]}..."

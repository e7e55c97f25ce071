"""
Values made to fit classes of users, by msgspec.

For the first value that msgspec makes of a class, it looks the class through, with the annotations and the classes in them.
Where two threads begin that at once, the process dies of a segmentation fault (msgspec 0.22). Here one thread looks at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["convert", "decoder"]

_MOST = 256  # classes that are remembered

_looking = threading.RLock()  # what an annotation says may be code, which may come back here


@lru_cache(_MOST)
def decoder(kind: type[Any]) -> msgspec.msgpack.Decoder[Any]:
    """
    What decodes msgpack into a class.

    Raises:
        Exception: What its annotations raise when they are looked at, or a TypeError for one that msgspec does not take.
    """
    with _looking:
        return msgspec.msgpack.Decoder(kind)


def convert(
    value: Any, kind: Any, *, strict: bool = True, dec_hook: Callable[[type[Any], Any], Any] | None = None
) -> Any:
    """
    A plain value as one of this class or annotation; as `msgspec.convert`, with its errors.

    Raises:
        msgspec.ValidationError: The value does not fit.
        Exception: As for `decoder`.
    """
    try:
        hash(kind)
    except TypeError:  # it cannot be remembered
        _look.__wrapped__(kind)
    else:
        _look(kind)
    return msgspec.convert(value, kind, strict=strict, dec_hook=dec_hook)


@lru_cache(_MOST)
def _look(kind: Any) -> None:
    """Have msgspec look a class through: no object of no class fits it, but for Any."""
    with _looking, suppress(msgspec.ValidationError):
        msgspec.convert(object(), kind)


def _forked() -> None:
    """In the child: the thread that may have been looking is not here."""
    global _looking
    _looking = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

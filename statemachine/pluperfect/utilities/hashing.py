"""Hashes of values by their structure: equal values have equal ones, in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..digests import Undigestible, digest

__all__ = ["file_hash", "hash_objects", "stable_hash"]

_md5: Final = partial(hashlib.md5, usedforsecurity=False)
"""Prefect's choice, and so what flows' versions are made of: a checksum, no protection."""


def stable_hash(*args: str | bytes, hash_algo: Callable[..., Any] = _md5) -> str:
    """A hash of strings and bytes, in hexadecimal digits."""
    state = hash_algo()
    for arg in args:
        state.update(arg.encode() if isinstance(arg, str) else arg)
    return state.hexdigest()


def file_hash(path: str, hash_algo: Callable[..., Any] = _md5) -> str:
    """A hash of a file's bytes, in hexadecimal digits."""
    return stable_hash(Path(path).read_bytes(), hash_algo=hash_algo)


def hash_objects(*args: Any, raise_on_failure: bool = False, **kwargs: Any) -> str | None:
    """
    A hash of values; None where one of them has no structure to take it of.

    Args:
        args: Any values.
        raise_on_failure: Raise instead of giving None.
        kwargs: Any values, by name. ``hash_algo`` is taken and has no effect.

    Raises:
        Undigestible: A value cannot be hashed, and ``raise_on_failure`` is set; the message gives its path.
    """
    kwargs.pop("hash_algo", None)
    try:
        return digest((args, kwargs)).hex()
    except (Undigestible, RecursionError):
        if raise_on_failure:
            raise
        return None

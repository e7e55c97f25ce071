"""
The free pages of an LMDB 0.9 file, read without LMDB.

A transaction that takes a page and gives it back never writes it; so a sound file may end before the last page that its
meta page speaks of, as long as all pages behind its end are free. Whether they are is asked before LMDB maps the file:
reading behind the end of a file would kill the process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["free_pages"]

_NONE: Final = 2**64 - 1
_HEADER: Final = 16
_BRANCH: Final = 1
_LEAF: Final = 2
_BIG: Final = 1  # the value of the node stands on pages of its own


def free_pages(file: BinaryIO, page: int, root: int) -> Iterator[int]:
    """
    Yield the numbers of the free pages.

    Args:
        file: The data file.
        page: The size of a page.
        root: The root of the tree of free pages, as a meta page has it.

    Raises:
        ValueError: A page of that tree is not there, or is no such page.
    """
    if root == _NONE:
        return
    data = _read(file, root * page, page)
    flags, lower = struct.unpack_from("=HH", data, 10)
    for place in struct.unpack_from(f"={(lower - _HEADER) // 2}H", data, _HEADER):
        low, high, more, key = struct.unpack_from("=4H", data, place)
        if flags & _BRANCH:
            yield from free_pages(file, page, low | high << 16 | more << 32)
        elif flags & _LEAF:
            start, size = place + 8 + key, low | high << 16
            listed = data[start : start + size]
            if more & _BIG:
                listed = _read(file, struct.unpack_from("=Q", data, start)[0] * page + _HEADER, size)
            count = struct.unpack_from("=Q", listed)[0]
            yield from struct.unpack_from(f"={count}Q", listed, 8)
        else:
            raise ValueError(f"page {root} is neither branch nor leaf")


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"byte {start + len(data)} is not there")
    return data

"""
The Merkle tree over the whole log, in the shape of RFC 6962: what a checkpoint kept elsewhere can be held against.

Only the peaks are kept, one hash for each power of two in the size, and the nodes from level 8 on, so that a proof is
made without reading the whole log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from pluperfect.errors import StoreDamaged
from pluperfect.evidence import joined

__all__ = ["BLOCK", "KEPT_LEVEL", "Tree", "root_of_peaks"]

KEPT_LEVEL: Final = 8
"""The lowest level whose nodes are kept."""

BLOCK: Final = 1 << KEPT_LEVEL
"""How many records stand under a node of that level."""

_EMPTY: Final = sha256(b"").digest()


def root_of_peaks(peaks: Iterable[bytes]) -> bytes:
    """The root of a tree from its peaks, the largest subtree first; of no peaks, the hash of nothing."""
    root = b""
    for peak in reversed([*peaks]):
        root = joined(peak, root) if root else peak
    return root or _EMPTY


class Tree:
    """
    A tree that grows.

    Attributes:
        size: How many leaves it has.
        peaks: The roots of its complete subtrees, the largest first.
        fresh: The nodes of `KEPT_LEVEL` and above that were completed, until whoever keeps them empties it: level, index, hash.
    """

    __slots__ = ("fresh", "peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size, self.peaks = size, list(peaks)
        self.fresh: list[tuple[int, int, bytes]] = []

    def push(self, node: bytes, level: int = 0) -> None:
        """Append a leaf; or, at a size that its leaves divide, the root of a whole subtree of this level."""
        self.extend((node,), level)

    def extend(self, nodes: Iterable[bytes], level: int = 0) -> None:
        """Append leaves; or, at a size that theirs divide, the roots of whole subtrees of this level."""
        peaks, index = self.peaks, self.size >> level
        pop, push = peaks.pop, peaks.append
        for node in nodes:
            if level >= KEPT_LEVEL:
                self.fresh.append((level, index, node))
            at, high = index, level
            while at & 1:  # a right half: with its left one it makes the node above
                node = sha256(b"\1" + pop() + node).digest()  # noqa: PLW2901
                at >>= 1
                high += 1
                if high >= KEPT_LEVEL:
                    self.fresh.append((high, at, node))
            push(node)
            index += 1
        self.size = index << level

    @property
    def root(self) -> bytes:
        """The root hash."""
        return root_of_peaks(self.peaks)

    def encode(self) -> bytes:
        """Size and peaks as ``meta`` keeps them."""
        return msgspec.msgpack.encode((self.size, self.peaks))

    @classmethod
    def decode(cls, data: bytes | None) -> Tree:
        """
        The tree that ``meta`` keeps; an empty one where there is none.

        Raises:
            StoreDamaged: These bytes are no tree.
        """
        if data is None:
            return cls()
        try:
            size, peaks = msgspec.msgpack.decode(data, type=tuple[int, list[bytes]])
        except msgspec.MsgspecError as error:
            raise StoreDamaged(f"The tree over the log is none: {error}. Restore the store from a backup.") from error
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != 32 for peak in peaks):
            raise StoreDamaged(
                f"The tree over the log is none: it has {len(peaks)} peaks for {size} records. Restore the store from a backup."
            )
        return cls(size, peaks)

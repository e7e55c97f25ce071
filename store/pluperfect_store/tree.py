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
        fresh: The nodes of `KEPT_LEVEL` and above that were completed since it was made: level, index, hash.
    """

    __slots__ = ("fresh", "peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size, self.peaks = size, list(peaks)
        self.fresh: list[tuple[int, int, bytes]] = []

    def next(self) -> Tree:
        """A tree like this one, in which no nodes were completed since it was made."""
        return Tree(self.size, self.peaks)

    def push(self, node: bytes, level: int = 0) -> None:
        """Append a leaf; or, at a size that its leaves divide, the root of a whole subtree of this level."""
        index, peaks = self.size >> level, self.peaks
        self.size += 1 << level
        if level >= KEPT_LEVEL:
            self.fresh.append((level, index, node))
        while index & 1:
            node = sha256(b"\1" + peaks.pop() + node).digest()
            index >>= 1
            level += 1
            if level >= KEPT_LEVEL:
                self.fresh.append((level, index, node))
        peaks.append(node)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append several leaves: the same as to `push` each, and quicker where they fill whole blocks."""
        at = 0
        while at < len(leaves):
            if self.size % BLOCK or len(leaves) - at < BLOCK:
                self.push(leaves[at])
                at += 1
            else:
                nodes = leaves[at : at + BLOCK]
                while len(nodes) > 1:
                    nodes = [
                        sha256(b"\1" + left + right).digest()
                        for left, right in zip(nodes[::2], nodes[1::2], strict=True)
                    ]
                self.push(nodes[0], KEPT_LEVEL)
                at += BLOCK

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

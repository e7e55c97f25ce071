"""
What shows that a history is as it was written: findings, proofs, and checkpoints to keep elsewhere.

The log is the leaves of a tree in the shape of RFC 6962. A **proof** leads from one leaf to the root, a **checkpoint**
says which root a store had at which size. Nothing here reads a log; it says what follows from hashes.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from .errors import BadCheckpoint
from .transitions import stamp

__all__ = ["Checkpoint", "Finding", "Proof", "Redaction", "Report", "consistent", "joined", "led_to"]

_SIGNED_BY: Final = "\u2014 "  # an em dash begins the line of a signature


class Finding(Struct, frozen=True):
    """
    One thing that is wrong with a store.

    Attributes:
        what: What is wrong.
        advice: What to do about it.
        run: The id of the run, as text; empty where it concerns none.
        name: The name of its flow or task.
        seq: Which of its records; 0 where it concerns none.
        position: Where in the log; 0 likewise.
    """

    what: str
    advice: str
    run: str = ""
    name: str = ""
    seq: int = 0
    position: int = 0

    def __str__(self) -> str:
        where = f"run {self.run} ({self.name or 'no name'}), record {self.seq}: " if self.run else ""
        at = f" [position {self.position}]" if self.position else ""
        return f"{where}{self.what}{at} {self.advice}"


class Report(Struct, frozen=True):
    """
    What `verify` found.

    Attributes:
        findings: What is wrong, the first bad record first; empty where all is sound.
        records: How many records were read.
        runs: Of how many runs.
        pruned: How many records are gone by pruning; their hashes stand for them.
        redacted: How many values were taken away on purpose.
        size: The size of the tree.
        root: Its root hash.
    """

    findings: tuple[Finding, ...]
    records: int
    runs: int
    pruned: int
    redacted: int
    size: int
    root: bytes

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Redaction(Struct, frozen=True):
    """
    What was taken away.

    Attributes:
        digests: SHA-256 of the values that are gone.
        taken: The records from which they were taken, as run and seq.
        left: Records of other runs in which the same bytes still stand.
    """

    digests: tuple[bytes, ...]
    taken: tuple[tuple[bytes, int], ...]
    left: tuple[tuple[bytes, int], ...]


class Proof(Struct, frozen=True):
    """
    That a record is in the log, and with it the whole history of its run up to there.

    Attributes:
        run: The run.
        seq: Which of its records.
        position: Where it stands in the log.
        leaf: Its leaf hash.
        size: The size of the tree that it is proved to be in.
        root: The root of that tree.
        path: The hashes from the leaf to the root (RFC 6962, section 2.1.1).
    """

    run: bytes
    seq: int
    position: int
    leaf: bytes
    size: int
    root: bytes
    path: tuple[bytes, ...]

    @property
    def holds(self) -> bool:
        """Whether the path leads from the leaf to the root."""
        return led_to(self.leaf, self.position - 1, self.size, self.path) == self.root


def joined(left: bytes, right: bytes) -> bytes:
    """The hash of a node over its two children (RFC 6962, section 2.1)."""
    return sha256(b"\1" + left + right).digest()


def led_to(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """
    The root that an inclusion path leads to; None where a path of this length cannot belong there.

    Args:
        leaf: The leaf hash.
        index: Its place among the leaves, from 0.
        size: How many leaves the tree has.
        path: From the bottom up.
    """
    if not 0 <= index < size:
        return None
    last, node = size - 1, leaf
    for beside in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = joined(beside, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = joined(node, beside)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def consistent(size: int, root: bytes, later: int, later_root: bytes, path: Sequence[bytes]) -> bool:
    """
    Whether the tree with ``later`` leaves begins with the one of ``size`` leaves (RFC 6962, section 2.1.2).

    Args:
        size: Of the earlier tree; at least 1.
        root: Its root.
        later: The size of the later tree.
        later_root: Its root.
        path: The consistency proof.
    """
    if not 0 < size <= later:
        return False
    if size == later:
        return root == later_root and not path
    nodes = [*path]
    if size & (size - 1) == 0:
        nodes.insert(0, root)
    if not nodes:
        return False
    index, last = size - 1, later - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    old = new = nodes[0]
    for beside in nodes[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            old, new = joined(beside, old), joined(beside, new)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            new = joined(new, beside)
        index, last = index >> 1, last >> 1
    return last == 0 and (old, new) == (root, later_root)


# --- checkpoints ----------------------------------------------------------------------------------------


class Checkpoint(Struct, frozen=True):
    """
    Which root a store had at which size: kept elsewhere, it shows a store that was cut or written anew.

    Its text is a note as C2SP describes it (``tlog-checkpoint``): a line with the origin, the size, the root in base64, the
    time, an empty line, and a line for each signature.

    Attributes:
        store: The id of the store.
        size: How many records the log had.
        root: The root of the tree over them.
        time: When it was made, ISO 8601.
        signatures: Pairs of a key's name and what C2SP calls the signature: 4 bytes that tell the key, and 64 of Ed25519.
    """

    store: bytes
    size: int
    root: bytes
    time: str
    signatures: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def made(cls, store: bytes, size: int, root: bytes, at: float) -> Checkpoint:
        """A checkpoint of this time, UTC seconds since the epoch, without signatures."""
        return cls(store, size, root, stamp(at))

    @property
    def body(self) -> str:
        """The text that is signed."""
        root = binascii.b2a_base64(self.root, newline=False).decode()
        return f"pluperfect/{self.store.hex()}\n{self.size}\n{root}\ntime {self.time}\n"

    @property
    def text(self) -> str:
        """The whole text."""
        lines = [
            f"{_SIGNED_BY}{name} {binascii.b2a_base64(sig, newline=False).decode()}\n" for name, sig in self.signatures
        ]
        return f"{self.body}\n{''.join(lines)}"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """
        Read a checkpoint's text.

        Raises:
            BadCheckpoint: It is none; the message says which line is wrong.
        """
        body, gap, signed = text.partition("\n\n")
        lines = body.split("\n")
        if not gap or len(lines) != 4:
            raise BadCheckpoint(
                "This is no checkpoint: it has four lines, an empty one, and then signatures. `pluperfect checkpoint` writes one."
            )
        origin, size, root, time = lines
        try:
            name, _, store = origin.partition("/")
            if name != "pluperfect" or len(store) != 32 or store != store.lower():
                raise ValueError("line 1 is not 'pluperfect/' and the id of a store")
            if not size.isascii() or not size.isdigit() or str(int(size)) != size or int(size) >= 2**63:
                raise ValueError("line 2 is no size")
            if not time.startswith("time ") or len(time) > 40:
                raise ValueError("line 4 is not 'time' and a time")
            signatures: list[tuple[str, bytes]] = []
            for line in signed.splitlines():
                dash, key, sig = line[: len(_SIGNED_BY)], *line[len(_SIGNED_BY) :].rsplit(" ", 1)
                if dash != _SIGNED_BY or not key:
                    raise ValueError("a line of a signature has a dash, a name and base64")
                signatures.append((key, binascii.a2b_base64(sig, strict_mode=True)))
            made = cls(
                bytes.fromhex(store), int(size), binascii.a2b_base64(root, strict_mode=True), time[5:], (*signatures,)
            )
            if len(made.root) != 32:
                raise ValueError("line 3 is no hash of 32 bytes")
        except (ValueError, binascii.Error) as error:
            raise BadCheckpoint(f"This checkpoint cannot be read: {error}. Take another copy of it.") from error
        if made.text != text:
            raise BadCheckpoint(
                "This checkpoint was altered: written again, it is another text. Take another copy of it."
            )
        return made

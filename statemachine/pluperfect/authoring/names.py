"""Names and ids that follow from what they name: the same call in the same place is the same run."""

from __future__ import annotations

from hashlib import sha256
from struct import Struct as Layout
from typing import Final

__all__ = ["call_key", "child_id", "keyed_id", "marked", "slug"]

_FIRST: Final = (
    "amber ancient bold brave bright calm careful clever cosmic crisp curious daring eager early fair fancy fine gentle"
    " glad golden grand great happy honest humble jolly keen kind late light lively loyal lucky mellow merry mighty"
    " modest noble patient plain polite proud quick quiet rapid ready red royal sharp shy silent silver simple smart"
    " solid steady still strong sturdy sunny swift tidy true vivid warm wise witty zesty"
).split()
_SECOND: Final = (
    "ammonite antelope badger beaver bison bobcat camel caribou cobra condor coyote crane cricket dingo dolphin eagle"
    " egret falcon ferret finch fox gazelle gecko gibbon gull hare hawk heron hippo ibex iguana jackal jaguar kestrel"
    " kiwi koala lemur leopard lion lizard llama lynx magpie marmot marten mink mole moose newt ocelot octopus oriole"
    " otter owl panda parrot pelican penguin puffin puma quail rabbit raven robin salmon seal shrew sparrow spider"
    " squid stoat stork swan tapir tern tiger toad trout turtle viper walrus weasel wolf wombat yak zebra"
).split()


def slug(run: bytes) -> str:
    """Two words for a run, from its id: ``brave-otter``."""
    number = int.from_bytes(sha256(run).digest()[:8], "big")
    return f"{_FIRST[number % len(_FIRST)]}-{_SECOND[number // len(_FIRST) % len(_SECOND)]}"


def call_key(name: str, function: str, tags: tuple[str, ...]) -> str:
    """
    What tells a task from others: its name, and a hash of name, qualified function name and declared tags.

    The code is not part of it: an edited body is the same task.
    """
    digest = sha256("\0".join((name, function, *sorted(tags))).encode())
    return f"{name}-{digest.hexdigest()[:8]}"


def marked(raw: bytes) -> bytes:
    """The bits of a UUID of version 8: an id that was computed, not drawn."""
    bits = bytearray(raw)
    bits[6] = bits[6] & 0x0F | 0x80
    bits[8] = bits[8] & 0x3F | 0x80
    return bytes(bits)


def child_id(
    root: bytes, parent: bytes, key: str, index: int, map_index: int | None, generation: int, redo: int
) -> bytes:
    """
    The id of a call, from the run that makes it and the place where it is made.

    It begins with 6 bytes of the root's and the number of the call, so that the rows of a tree lie together in the store, and
    those of calls that follow each other side by side; the rest is a hash of the place. The bits are those of a UUID of version
    8: one that was computed, not drawn.
    """
    place = b"%b/%b/%d/%d/%d/%d" % (
        parent,
        key.encode(),
        index,
        -1 if map_index is None else map_index,
        generation,
        redo,
    )
    number = (index if map_index is None else map_index) & 0xFFFF
    hashed: int = _FIRST_64(sha256(place).digest())[0] >> 6
    return root[:6] + _REST(0x8000 | number >> 4, 1 << 63 | (number & 0xF) << 58 | hashed)


_FIRST_64: Final = Layout(">Q").unpack_from
_REST: Final = Layout(">HQ").pack


def keyed_id(flow: str, idempotency_key: str) -> bytes:
    """The id of the one run that a flow has under an idempotency key."""
    return marked(sha256(f"pluperfect\0{flow}\0{idempotency_key}".encode()).digest()[:16])

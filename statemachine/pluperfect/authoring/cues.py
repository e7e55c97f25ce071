"""
The order in which the calls of a body were made and answered, as the record has it.

A body that is led again gets its recorded answers at once. One that has made several calls side by side would go on
in another order than before, call the same tasks in another order, and not find its calls again. So an answer comes
on its cue: after all that was recorded before it.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from ..states import Input, Spec

if TYPE_CHECKING:
    import asyncio

    from .logs import OpenLog

__all__ = ["Cues", "differs", "likeness"]

PATIENCE: Final = 0.5
LOOKS: Final = 4
"""An answer waits for a recorded call that the code may no longer make, until nothing has come at so many looks in a row, so
many seconds apart: a process that was stopped for a while has not looked meanwhile."""

LATER: Final = 2**64
"""Where the end of a call stands that had none: after every record there is."""


def differs(spec: Spec, inputs: tuple[Input, ...]) -> bool:
    """Whether two calls have inputs that are known to be different."""
    recorded = spec.inputs
    if len(recorded) != len(inputs):
        return True
    for a, b in zip(recorded, inputs, strict=True):
        if a.name != b.name or (a.digest != b.digest and a.digest is not None and b.digest is not None):
            return True
    return False


class Cues:
    """
    The recorded calls of one body.

    All is used in one thread: that of the event loop which awaits the body, or that of the body itself.
    """

    __slots__ = (
        "_alike",
        "_at",
        "_births",
        "_count",
        "_ends",
        "_kept",
        "_looking",
        "_looks",
        "_made",
        "_moved",
        "_waiting",
    )

    def __init__(self, log: OpenLog, run: bytes, generation: int) -> None:
        self._alike: dict[tuple[Any, ...], deque[bytes]] = {}
        self._ends: dict[bytes, int] = {}
        self._made: set[bytes] = set()
        births: list[tuple[int, bytes]] = []
        log.log.flush()
        for born, last, child in log.each_called(run):
            spec = child.spec
            if spec is None or spec.generation != generation:
                continue
            self._alike.setdefault(likeness(spec.key, spec.map_index, spec.inputs), deque()).append(child.id)
            births.append((born, child.id))
            if child.final:
                self._ends[child.id] = last
        self._births: list[tuple[int, bytes]] = births
        self._at = 0  # the first of them that has not been made again
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by where their ends stand
        self._count = count()
        self._kept = True  # whether the order is still kept
        self._moved = True  # since the last look
        self._looking = False
        self._looks = 0  # how often in a row nothing had moved

    def ended(self, run: bytes) -> int | None:
        """Where in the log the recorded end of a call stands; None where it has none."""
        return self._ends.get(run)

    def made(self, run: bytes) -> bool:
        """Whether the body has made this recorded call already."""
        return run in self._made

    def call(self, run: bytes) -> None:
        """The body makes this recorded call."""
        self._made.add(run)
        self._moved = True
        while self._at < len(self._births) and self._births[self._at][1] in self._made:
            self._at += 1
        if self._waiting:
            # Not at once: this call may have been answered before those that wait, and does not wait itself yet.
            self._waiting[0][2].get_loop().call_soon(self._give_cues)

    def like(self, key: str, map_index: int | None, inputs: tuple[Input, ...]) -> bytes | None:
        """A recorded call of the same task with the very same inputs, which has not been made yet."""
        if any(given.digest is None for given in inputs):
            return None
        alike = self._alike.get(likeness(key, map_index, inputs))
        while alike and alike[0] in self._made:
            alike.popleft()
        return alike[0] if alike else None

    def expects(self) -> bool:
        """Whether the body has yet to make a recorded call, for all that is known."""
        return self._kept and self._at < len(self._births)

    async def answer(self, run: bytes) -> None:
        """Wait for the cue of an answer; one that was not on record comes after all recorded calls."""
        await self._cue(self._ends.get(run, LATER))

    async def new(self) -> None:
        """Wait with a call that is not on record: it comes after all recorded calls."""
        await self._cue(LATER)

    async def _cue(self, end: int) -> None:
        if not self._kept or (end == LATER and not self.expects()):
            return
        import asyncio

        loop = asyncio.get_running_loop()
        cue: asyncio.Future[None] = loop.create_future()
        heappush(self._waiting, (end, next(self._count), cue))
        # Not at once: what else is ready in the loop may wait for an answer that was there before this one.
        loop.call_soon(self._give_cues)
        if not self._looking:
            self._looking, self._moved, self._looks = True, True, 0
            loop.call_later(PATIENCE, self._look, loop)
        await cue

    def _give_cues(self) -> None:
        """Wake those whose answers were recorded before the next call that has not come."""
        coming = self._births[self._at][0] if self.expects() else math.inf
        while self._waiting and self._waiting[0][0] < coming:
            _, _, cue = heappop(self._waiting)
            if not cue.done():
                cue.set_result(None)
                self._moved = True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the order up where what is recorded next does not come: the code has changed, and answers come at once."""
        self._looks = 0 if self._moved else self._looks + 1
        self._moved = False
        if self._looks == LOOKS:
            self._kept = False
            self._give_cues()
        self._looking = bool(self._waiting)
        if self._looking:
            loop.call_later(PATIENCE, self._look, loop)


def likeness(key: str, map_index: int | None, inputs: tuple[Input, ...]) -> tuple[Any, ...]:
    """What calls have in common that may stand for each other: the task, the place in a map, the inputs."""
    return (key, map_index, *((given.name, given.digest) for given in inputs))

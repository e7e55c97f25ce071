"""One tree of runs that this process carries out: what it may write, and what it has written ahead of durability."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ..errors import StoreError
from ..hooks import Part, Ticket
from ..settings import Held, held
from ..states import Spec
from .sources import Sources

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["HOLDS", "Session"]

HOLDS: Final = {"effect": 0.005, "result": 0.005, "lazy": 0.05}
"""How long a commit that nobody waits for may be held back, in seconds, by durability level."""


class Session:
    """One tree of runs that this process carries out: its log, its term, and whether it may still write."""

    __slots__ = (
        "_held",
        "_last",
        "_unborn",
        "broken",
        "epoch",
        "log",
        "root",
        "settings",
        "sources",
        "tickets",
        "unpause",
        "watched",
    )

    def __init__(self, log: OpenLog, root: bytes, epoch: int, *, unpause: bool = False, unborn: bool = False) -> None:
        self.log: OpenLog = log
        self.root: bytes = root
        self.epoch: int = epoch
        self.unpause: bool = unpause
        self._held: bool = epoch > 0  # by this process, until it lets go
        self._unborn: bool = unborn  # the first append is the root's birth, and claims it
        self.tickets: deque[Ticket] = deque()
        # The last append, and for how long it may wait at most: what comes next joins it.
        self._last: tuple[Ticket, float] | None = None
        self.broken: Exception | None = None
        self.sources: Sources = Sources()
        self.watched: bool = (
            False  # whether anything here may be stopped from outside: a limit is set, or a run was cut off
        )
        self.settings: Held = held()  # looked at once: to look again and again would cost more than a call

    def spec_of(self, run: bytes) -> Spec | None:
        """What a run was born with; None where it is not in this log."""
        self.log.log.flush()
        return self.log.load(run).spec

    def append(self, part: Part, hold: float) -> Ticket:
        """
        Append ahead of durability. A refusal of an earlier append surfaces here, at the latest at the end.

        Entries join the append before them where that still waits: a refusal of one stops the session as it is.

        Args:
            part: The entries.
            hold: For how long they may wait, in seconds.
        """
        try:
            first = self.tickets[0]
        except IndexError:
            first = None
        if self.broken is not None or (first is not None and first.done):
            self.check()
        last = self._last
        if last is not None and hold >= last[1]:
            ticket = last[0]
            if not ticket.done and ticket.extend(part):
                return ticket
        claim, self._unborn = self._unborn, False  # first: who is interrupted in the append may have claimed the tree
        ticket = self.log.log.append((part,), epoch=self.epoch, hold=hold, claim=claim)
        self.tickets.append(ticket)
        self._last = (ticket, hold)
        return ticket

    def append_all(self, parts: Sequence[Part], hold: float) -> Ticket:
        """Append entries of several runs below the root, all or none; else as `append`."""
        self.check()
        ticket = self.log.log.append(parts, epoch=self.epoch, hold=hold)
        self.tickets.append(ticket)
        self._last = (ticket, hold)
        return ticket

    def check(self) -> None:
        """Raise what stopped this session, if anything did."""
        if self.broken is not None:
            raise self.broken
        tickets = self.tickets
        try:
            while tickets and tickets[0].done:
                tickets.popleft().wait()
        except IndexError:  # another thread of the session took it
            pass
        except Exception as error:
            self.broken = error
            raise

    def release(self) -> None:
        """Let go of the tree, so that others may go on with it if it has not ended."""
        if self._held and not self._unborn:
            self._held = False
            with suppress(StoreError):
                self.log.log.release(self.root, self.epoch)

    def finish(self) -> None:
        """Wait until everything that was recorded is durable."""
        try:
            while True:
                self.tickets.popleft().wait()
        except IndexError:
            pass
        except Exception as error:
            self.broken = error
            raise
        if self.broken is not None:
            raise self.broken

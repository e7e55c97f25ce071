"""One tree of runs that this process carries out: what it may write, and what it has written ahead of durability."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ..hooks import Part, Ticket
from ..states import Spec
from .sources import Sources

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["HOLDS", "Session"]

HOLDS: Final = {"effect": 0.005, "result": 0.005, "lazy": 0.05}
"""How long a commit that nobody waits for may be held back, in seconds, by durability level."""


class Session:
    """One tree of runs that this process carries out: its log, its term, and whether it may still write."""

    __slots__ = ("broken", "epoch", "log", "root", "sources", "tickets", "unpause")

    def __init__(self, log: OpenLog, root: bytes, epoch: int, *, unpause: bool = False) -> None:
        self.log: OpenLog = log
        self.root: bytes = root
        self.epoch: int = epoch
        self.unpause: bool = unpause
        self.tickets: deque[Ticket] = deque()
        self.broken: Exception | None = None
        self.sources: Sources = Sources()

    def spec_of(self, run: bytes) -> Spec | None:
        """What a run was born with; None where it is not in this log."""
        self.log.log.flush()
        return self.log.load(run).spec

    def append(self, part: Part, hold: float) -> Ticket:
        """Append ahead of durability. A refusal of an earlier append surfaces here, at the latest at the end."""
        self.check()
        ticket = self.log.log.append((part,), epoch=self.epoch, hold=hold)
        self.tickets.append(ticket)
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

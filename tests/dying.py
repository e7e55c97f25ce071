"""Deaths of processes that need no process."""

from __future__ import annotations

from pluperfect import hookimpl


class Dies:
    """Stands for the death of a process: from the n-th proposal on, nothing more is recorded by this one."""

    name = "dies"

    def __init__(self, after):
        self.left = after

    @hookimpl
    def review(self, run, proposal, definition):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("this process is dead")

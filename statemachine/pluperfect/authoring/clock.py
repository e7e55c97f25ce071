"""The only room that reads the time and draws random bytes."""

from __future__ import annotations

import os
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "new_run_id"]


class Clock(Protocol):
    """Where the engine takes the time from; `pluperfect.testing.FakeClock` is another one."""

    def now(self) -> float:
        """UTC seconds since the epoch."""
        ...

    def sleep_until(self, due: float) -> None:
        """Return at this time, or at once where it has passed."""
        ...

    async def wait_until(self, due: float) -> None:
        """The same for coroutines."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """UTC seconds since the epoch, to the microsecond."""
        return int(time.time() * 1e6) / 1e6

    def sleep_until(self, due: float) -> None:
        """Return at this time; woken early by a signal, it sleeps on."""
        while (left := due - time.time()) > 0:
            time.sleep(left)

    async def wait_until(self, due: float) -> None:
        """The same for coroutines."""
        import asyncio

        while (left := due - time.time()) > 0:
            await asyncio.sleep(left)


def new_run_id(at: float) -> bytes:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, so that ids sort by time, then 74 random bits."""
    raw = bytearray(int(at * 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)

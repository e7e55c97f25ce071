"""
Who carries out a tree of runs, and whether it still lives.

An owner is one opening of a store by one process. The clock decides when others may try to take its trees over; the
epoch, checked inside of every append, decides who may write.
"""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct

__all__ = ["Lease", "Owner", "gone", "living", "now_ms", "this_process"]

SECONDS: Final = 15.0
"""For how long an owner that was not heard of keeps its trees."""


class Lease(Struct, frozen=True, array_like=True):
    """Who carries out a tree: its term, and the owner's id."""

    epoch: int
    owner: bytes


class Owner(Struct, frozen=True, array_like=True):
    """
    One opening of a store by one process.

    Attributes:
        host: The name of its machine.
        boot: What tells this start of the machine from others; empty where it cannot be told.
        space: What tells its process ids from those of other containers; empty likewise.
        pid: Its process.
        started: When the process began, in ticks since the machine's start; 0 where it cannot be told.
        until: Until when it holds its trees without being heard of, in milliseconds of `now_ms`.
    """

    host: str
    boot: str
    space: str
    pid: int
    started: int
    until: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def now_ms() -> int:
    """Milliseconds since the machine started, suspensions included; UTC where there is no such clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return int((time.time() if clock is None or not _boot() else time.clock_gettime(clock)) * 1000)


def this_process(seconds: float) -> Owner:
    """This process as an owner from now on."""
    pid = os.getpid()
    return Owner(_host(), _boot(), _space(), pid, _started(pid), now_ms() + int(seconds * 1000))


living: Final[set[bytes]] = set()
"""The ids of the owners that this process is, now; forked children have other processes' in it, which do not count."""


def gone(id: bytes, owner: Owner) -> str:
    """Why an owner's trees may be taken over; empty where they may not."""
    if owner.boot != _boot():
        return "its machine was started again" if owner.boot and _boot() else _expired(owner)
    if owner.pid == os.getpid() and owner.space == _space() and owner.boot and owner.started == _started(owner.pid):
        return "" if id in living else "this process had opened the store before, and closed it"
    if owner.space == _space() and owner.boot and owner.started and _started(owner.pid) != owner.started:
        return "its process has ended"
    return _expired(owner)


def _expired(owner: Owner) -> str:
    late = now_ms() - owner.until
    return f"it was not heard of for {late / 1000:.1f} s longer than its lease" if late > 0 else ""


def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is no path, but text
    except OSError:
        return ""


def _started(pid: int) -> int:
    """When a process began; 0: it is not there, or this cannot be told. A zombie counts as ended."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])

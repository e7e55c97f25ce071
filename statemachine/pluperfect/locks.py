"""Locks that many threads want, and each holds for a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["give_way"]

_TRIES: Final = 100


def give_way(held: Callable[[], bool]) -> None:
    """
    Let others go on as long as one of them holds a lock, before it is taken.

    One thread at a time has the interpreter, and may lose it where it calls something or a loop goes round, also while it holds
    a lock. Who then waits for the lock is given it while he still waits for the interpreter; whoever has that wants the lock
    next, has to wait in his turn, and so on: from then on every use of the lock costs two switches of threads. Who looks first,
    and lets the others go on, stands in no such queue. It is no promise: the lock may be taken again, or be held for long.

    Better is a lock under which nothing is called: nobody finds it held. `tests/speed/test_locks.py` watches those that every
    call takes.
    """
    for _ in range(_TRIES):
        if not held():
            return
        time.sleep(0)

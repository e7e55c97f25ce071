"""A disk that is full after so many more bytes, for one number after the other, while several threads append."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import checkers
from pluperfect.errors import StoreFull
from pluperfect_store.conformance import new_id, whole
from pluperfect_store.lmdb import LmdbLog

from . import oracle, workloads
from .children import forked

PAGE = 4096
REFUSALS = 3  # that each thread meets before there is room again


@contextmanager
def full_disk(folder, room):
    """No more than so many bytes are left on the file system of this folder."""
    ballast = folder.parent / "ballast"
    stat = os.statvfs(folder)
    ballast.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - room)))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def short_file(folder, room):
    """Files of this process may grow by so many bytes beyond the store's; a write across the border comes to a part."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = (folder / "data.mdb").stat().st_size + room
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def trials(place, means, rooms):
    """For each room: itself, and what came of it. Runs in a child process."""
    for room in rooms:
        folder = Path(place) / f"runs-{room}"
        yield room, forked(lambda room=room, folder=folder: trial(folder, globals()[means], room))
        shutil.rmtree(folder)


def trial(folder, means, room):
    """Append until there is no room, and again when there is; the numbers of acknowledged and of refused appends."""
    log, told, refused, wrong = LmdbLog(folder), [], [], []
    log.append([whole(new_id())], epoch=1).wait()

    def work():
        met = 0
        while met < REFUSALS:
            run = new_id()
            try:
                log.append([workloads.large(run, 6_000)], epoch=1).wait()
                told.append((run, 3))
            except StoreFull:
                met += 1
                refused.append(run)
            except BaseException as error:
                wrong.append(repr(error))
                return

    with means(folder, room):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        judge(log, told, refused)  # reading goes on without room
    oracle.assert_goes_on(log)
    log.close()
    log = LmdbLog(folder)
    judge(log, told, refused)
    oracle.assert_goes_on(log)
    log.close()
    return len(told), len(refused)


def judge(log, told, refused):
    """What was acknowledged is there, what was refused is not, all else is sound."""
    oracle.assert_sound(log)
    checkers.promise_2(log, told)
    assert [run.hex() for run in refused if log.head(run) is not None] == []

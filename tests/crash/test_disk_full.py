"""Wherever in a commit the room ends: StoreFull, no trace of what was refused, nothing acknowledged lost, and on it goes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from crash import room
from crash.children import WORKERS, spread

ROOMS = range(0, 400_000, 1_365)  # bytes; a third of a page, so that some writes come to a part


@pytest.fixture
def small_disk(tmp_path):
    """A command that gives what it runs a small file system of its own; for the test's folder, in memory."""
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True).returncode != 0:
        pytest.skip("no small file system can be mounted here: user namespaces are not allowed")
    return ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=8m none "$0" && exec "$@"', str(tmp_path))


def judged(place, means, rooms, prefix=()):
    shares = [(place, means, rooms[share::WORKERS]) for share in range(WORKERS)]
    results = spread(room.trials, shares, prefix=prefix)
    for one, (how, what) in results:
        assert how == "returned", (one, how, what)
    told, refused = (sum(column) for column in zip(*(what for _, (_, what) in results), strict=True))
    title = "full disks" if means == "full_disk" else "limits of file size"
    print(f"{title}: seed none, {len(results)} trials, {told} acknowledged, 0 lost, {refused} refused without a trace")
    assert len(results) == len(rooms)
    assert told
    assert refused >= len(results) * room.REFUSALS


def test_a_full_disk_refuses_and_loses_nothing(tmp_path, small_disk):
    judged(tmp_path, "full_disk", ROOMS[::30], small_disk)


def test_a_limit_of_file_size_refuses_and_loses_nothing(tmp_path):
    judged(tmp_path, "short_file", ROOMS[::30])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_wherever_a_full_disk_ends_it_refuses_and_loses_nothing(tmp_path, small_disk):
    judged(tmp_path, "full_disk", ROOMS[::3], small_disk)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_wherever_a_limit_of_file_size_ends_it_refuses_and_loses_nothing(tmp_path):
    judged(tmp_path, "short_file", ROOMS[::2])

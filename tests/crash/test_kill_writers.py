"""kill -9 of writers that share a store: what a ticket has acknowledged is there, whoever died when."""

from __future__ import annotations

import pytest

from crash import kills
from crash.children import WORKERS, spread


def kill_writers(folder, seed, count):
    shares = [(folder, seed * WORKERS + share, count // WORKERS) for share in range(WORKERS)]
    stores = spread(kills.rounds, shares)
    killed, records, told = (sum(column) for column in zip(*stores, strict=True))
    print(f"kills of writers: seed {seed}, {killed} kills, {records} records, {told} acknowledged, 0 lost")
    assert killed >= count
    assert records > told > killed


def test_writers_killed_at_random_moments_lose_nothing_acknowledged(tmp_path, seed):
    kill_writers(tmp_path, seed(1), 12)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_writers_killed_by_the_hundreds_lose_nothing_acknowledged(tmp_path, seed):
    kill_writers(tmp_path, seed(2), 500)

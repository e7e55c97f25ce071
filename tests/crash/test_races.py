"""Two processes resume one run at the same moment: one goes on with it, and the log says which."""

from __future__ import annotations

from collections import Counter

import pytest

from crash import races
from crash.children import WORKERS, spread


def run_races(folder, seed, count):
    shares = [(folder, seed * WORKERS + share, count // WORKERS) for share in range(WORKERS)]
    losers = Counter(ended for ended, _ in spread(races.rounds, shares))
    print(
        f"races of two processes: seed {seed}, {losers.total()} races, {losers['fenced']} losers fenced,"
        f" {losers['result']} answered from the log, 0 effects twice"
    )
    assert losers.total() == count
    assert losers["fenced"] > 0


def test_of_two_processes_that_resume_one_run_at_once_one_goes_on(tmp_path, seed):
    run_races(tmp_path, seed(1), 20)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_of_two_processes_that_resume_one_run_hundreds_of_times_one_goes_on(tmp_path, seed):
    run_races(tmp_path, seed(2), 200)

"""Pruning and forks: what a run shares with another one stays for as long as that run does."""

from __future__ import annotations

import pytest

import pluperfect
from care.trees import DAY
from pluperfect import flow, task
from pluperfect.hooks import PruneRule
from pluperfect.testing import FakeClock
from pluperfect_store import pruning


@task
def add(a, b):
    return a + b


@flow
def total(n):
    found = 0
    for number in range(n):
        found = add(found, number)
    return found


@pytest.fixture(params=["memory", "lmdb"])
def opened(request, tmp_path):
    clock = FakeClock()
    uri = "memory:" if request.param == "memory" else f"lmdb:{tmp_path / 'runs'}"
    with pluperfect.open(uri, clock=clock, entry_points=False) as log:
        total(4)
        log.clock = clock
        yield log
        assert log.verify().findings == ()


def test_what_a_fork_shares_is_not_pruned_before_the_fork(opened):
    """52. A tree that a run which stays was forked from stays, wherever that run was born meanwhile."""
    (run,) = opened.runs(name="total")
    opened.clock.advance(100 * DAY)
    fork = run.fork(overrides={"add:1": 100}, flow=total)
    again = fork.fork(overrides={"add:3": 1000}, flow=total)

    assert opened.prune(30 * DAY, dry_run=True).trees == 0
    assert opened.prune(30 * DAY).trees == 0
    assert (fork.result(), again.result()) == (105, 1000)
    opened.clock.advance(100 * DAY)
    assert opened.prune(30 * DAY).trees == 3


def test_a_tree_that_was_forked_since_it_was_chosen_stays(opened, monkeypatch):
    """52. A tree that a run which stays was forked from stays, wherever that run was born meanwhile."""
    (run,) = opened.runs(name="total")
    opened.clock.advance(100 * DAY)
    forks = []
    slices = pruning._slices

    def slice_after_a_fork(trees):
        forks.append(run.fork(overrides={"add:1": 100}, flow=total))
        return slices(trees)

    monkeypatch.setattr(pruning, "_slices", slice_after_a_fork)
    assert opened.log.prune(PruneRule(opened.clock.now() - 30 * DAY), opened.clock.now()).trees == 0
    assert forks[-1].result() == 105

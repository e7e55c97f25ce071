"""Ctrl-C, and whatever else a handler of a signal raises, anywhere in the engine: it is told, and everything goes on after it."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections import Counter

import pytest

import pluperfect
from interrupting import interrupted
from pluperfect import flow, task


@task
def same(x):
    return x


@task(retries=1)
def fails_once(x):
    if pluperfect.runtime.task_run.run_count == 1:
        raise ConnectionError
    return x


@task
def items():
    yield 1
    yield 2


@flow
def inner(x):
    return same(x)


@flow
def calls():
    return [same(1), same(2)]


@flow(durability="effect")
def calls_at_effect():
    return [same(1), same(2)]


@flow
def submits():
    return [future.result() for future in [same.submit(1), same.submit(2)]]


@flow(durability="effect")
def submits_at_effect():
    return [future.result() for future in [same.submit(1), same.submit(2)]]


@flow
def maps():
    return same.map([1, 2]).result()


@flow
def calls_inner():
    return [inner(1), fails_once(2)]


@flow
def iterates():
    return list(items())


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of runs end here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


WORKS = [calls, calls_at_effect, submits, submits_at_effect, maps, calls_inner, iterates]


def all_beneath(run):
    for child in run.children:
        yield child
        yield from all_beneath(child)


def interrupt_everywhere(place, work, stride, seed):
    """Interrupt a flow at every so manieth place, until there are no more: how often, and with what it began again."""
    counts, kept = Counter(), []
    nth = random.Random(seed).randrange(stride) + 1
    with pluperfect.open(f"lmdb:{place}", entry_points=False) as log:
        work()
        rung = True
        while rung:
            keyed = work.with_options(idempotency_key=f"{nth}")
            error, rung = interrupted(keyed, nth)
            if error is not None:
                kept.append(error)  # what it holds is held on to
                assert type(error) is KeyboardInterrupt, f"instead of an interruption: {error!r}"
                counts["heard"] += 1
            log.log.flush()
            run = next(iter(log.runs(roots=True)))
            left = [child.name for child in all_beneath(run) if run.state.final and not child.state.final]
            assert not left, f"open under a run that has ended, after {error!r}: {left}"
            try:
                assert keyed() == [1, 2]
                counts["went on"] += 1
            except KeyboardInterrupt:
                counts["ended by it"] += 1  # while its body was under way: that is its end
            nth += stride
        assert log.compare() == []
        assert log.verify().sound
        assert [str(other) for other in log.rejudge()] == []
    return counts


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may ring where nobody can be told
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_wherever_it_is_interrupted_a_flow_says_so_and_can_be_called_again(tmp_path, seed, work):
    counts = interrupt_everywhere(tmp_path / "runs", work, 13, seed(1))

    assert counts["heard"] > 20
    assert counts["ended by it"]
    assert counts["went on"]


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_at_every_place_where_it_is_interrupted_a_flow_says_so_and_can_be_called_again(tmp_path, seed, work):
    counts = interrupt_everywhere(tmp_path / "runs", work, 1, seed(2))

    told = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    print(f"interruptions of {work.name}: seed {seed(2)}, {told}")
    assert counts["heard"] > 1000


def too_late(where):
    """Here the time of the body at hand ends: the timer's signal comes in."""
    time.sleep(0.06)
    return AssertionError(f"no signal came in {where}")


@task(timeout_seconds=0.03)
def ends_late(nth):
    error, rung = interrupted(lambda: [same(1), inner(2)], nth, too_late)
    if error is not None:
        raise error
    return rung


@flow
def calls_what_ends_late(nth):
    return ends_late(nth)


def test_wherever_the_time_of_a_task_that_calls_others_ends_it_has_timed_out_and_they_end_with_it(tmp_path):
    ended = 0
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as log:
        calls_what_ends_late(0, return_state=True)
        for nth in itertools.count(1, 29):
            state = calls_what_ends_late(nth, return_state=True)
            if state.is_completed():
                break
            ended += 1
            log.log.flush()
            run = next(iter(log.runs(roots=True)))
            assert [child.state.name for child in run.children] == ["TimedOut"], state
            assert not [child.name for child in all_beneath(run) if not child.state.final]
        assert log.compare() == []
        assert [str(other) for other in log.rejudge()] == []
    assert ended > 20

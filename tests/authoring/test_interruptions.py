"""Ctrl-C, and whatever else a handler of a signal raises, anywhere in the engine: it is told, and everything goes on after it."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import threading
import time
import warnings
from collections import Counter

import pytest

import pluperfect
from interrupting import a_with_may_be_left_open, in_time, interrupted
from pluperfect import flow, tags, task
from pluperfect.authoring import deadlines
from pluperfect.authoring.deadlines import DeadlinePassed, call_within
from pluperfect.errors import CrashedRun

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"  # it may ring where nobody can be told
)


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
    return same.map([0, 1, 2]).result()[1:]  # the second and the third are born in a row


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


class Rung(BaseException):
    """What a handler raises."""


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


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_wherever_it_is_interrupted_a_flow_says_so_and_can_be_called_again(tmp_path, seed, work):
    counts = interrupt_everywhere(tmp_path / "runs", work, 13, seed(1))

    assert counts["heard"] > 20
    assert counts["ended by it"]
    assert counts["went on"]


@pytest.mark.long
@pytest.mark.timeout(300)
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
        for nth in range(1, 3_000, 29):  # more than there are
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


@flow
def goes_on(submitted, nth, mapped):
    """Catches what comes in between as it submits, and goes on."""
    try:
        same.submit(1).result()  # so that a thread waits for more
        act = (lambda: submitted.extend(same.map([2] * 4))) if mapped else (lambda: submitted.append(same.submit(2)))
        return interrupted(act, nth)[1]
    except KeyboardInterrupt:
        return True


@pytest.mark.parametrize(("mapped", "stride"), [(False, 1), (True, 3)], ids=["submit", "map"])
def test_a_flow_that_is_interrupted_as_it_submits_and_goes_on_ends(tmp_path, mapped, stride):
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as log:
        goes_on([], 0, mapped)
        for nth in range(1, 5_000, stride):
            submitted = []
            ended = in_time(lambda submitted=submitted, nth=nth: goes_on(submitted, nth, mapped))
            run = next(iter(log.runs(roots=True)))
            assert all(child.state.final for child in run.children)
            assert [future.result() for future in submitted] in ([], [2] * (4 if mapped else 1))
            if not ended:
                break
        assert nth > 100
        assert log.compare() == []


@pytest.mark.parametrize("method", ["submit", "map"])
def test_a_submitted_call_that_cannot_be_recorded_is_no_call_and_the_flow_goes_on(log, method):
    @flow
    def whole():
        with pytest.raises(ValueError, match="surrogates"), tags("\ud800"):
            same.submit(1) if method == "submit" else same.map([1])
        return same.submit(2).result()

    assert in_time(whole) == 2
    assert [child.state.name for run in log.runs(roots=True) for child in run.children] == ["Completed"]


def test_a_coroutine_that_is_collected_amid_another_flow_leaves_that_one_its_place(log):
    async def never():
        await asyncio.Event().wait()

    waits = flow(never, name="waits")

    @flow
    def other(kept):
        same(1)
        kept.clear()
        gc.collect()
        return same(2)

    loop = asyncio.new_event_loop()
    left = loop.create_task(waits())
    while not any(run.state.is_running() for run in log.runs(roots=True)):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    kept = [left]
    del left, loop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a task was destroyed: that is what this is about
        assert other(kept) == 2
    assert sorted(len(run.children) for run in log.runs(roots=True)) == [0, 2]


def test_a_deadline_leaves_no_lock_taken():
    """In the main thread it comes as a signal; Python 3.14 looks for signals where a `with` has taken a lock and is not yet in it."""
    lock, passed = threading.Lock(), 0

    def body():
        while True:
            with lock:
                pass

    for nth in range(400):
        try:
            call_within(2e-4 + nth * 1e-7, body, set())
        except DeadlinePassed:
            passed += 1
        assert not lock.locked(), f"at deadline {nth}"
    assert passed == 400


def test_a_limit_that_was_interrupted_as_it_was_set_rings_no_more(tmp_path):
    limited = task(lambda: 1, timeout_seconds=60)
    alone = flow(lambda: limited(), name="alone")
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False):
        alone()
        for nth in range(1, 3_000, 2):
            _, rung = interrupted(alone, nth)
            assert not any(alarm.live for alarm in deadlines._alarms)
            if not rung:
                break
    assert nth > 300


@pytest.mark.parametrize("work", [calls, submits, calls_inner], ids=lambda work: work.name)
def test_a_real_signal_at_any_time_is_heard_as_what_its_handler_raised(tmp_path, seed, work):
    """It may come in at an instruction that belongs to no line, too."""
    if a_with_may_be_left_open():
        pytest.skip("this Python leaves locks taken where a handler raises: python/cpython#148874")
    chance, heard, armed = random.Random(seed(1)), Counter(), [False]

    def ring(*_):
        if armed[0]:
            armed[0] = False
            raise Rung

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as log:
            work()
            began = time.perf_counter()
            work()
            takes = time.perf_counter() - began
            for nth in range(150):
                keyed = work.with_options(idempotency_key=f"{nth}")
                try:
                    armed[0] = True
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, takes))
                    assert keyed() == [1, 2]
                    armed[0] = False
                except Rung:
                    heard["first"] += 1
                try:
                    assert keyed() == [1, 2]
                except (Rung, CrashedRun):  # the latter where a plugin for pickles cannot pickle its traceback
                    heard["again"] += 1
            log.log.flush()
            assert log.compare() == []
            assert log.verify().sound
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard["first"] > 20

"""Many threads in one log, which take turns at any byte code: what flows give and record does not hang on whose turn it is."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

import pytest

import pluperfect
from pluperfect import LOOP, as_completed, flow, task, wait
from pluperfect.runtime import task_run
from racing import at_random

pytestmark = pytest.mark.long

SEEDS = range(25)
SHARES = (0.0005, 0.002, 0.01)


@task
def same(number):
    return number


@task
async def later(number):
    return number


@task
def failing(number):
    raise ValueError(number)


@task(cache_key_fn=lambda _, given: f"by three: {given['number'] % 3}")
def by_three(number):
    return number % 3


@task
def counted(upto):
    reached = (task_run.loop_result or 0) + 1
    if reached < upto:
        raise LOOP(result=reached)
    return reached


@task
def nested(number):
    return same(number) + same.submit(number).result()


@task
def yielding(count):
    yield from range(count)


@flow
def below(count):
    return same.map(range(count)).result()


@flow(durability="lazy")
def chained():
    first = [same.submit(number) for number in range(5)]
    return [future.result() for future in [same.submit(before) for before in first]]


@flow(durability="effect")
def synced():
    return sorted(future.result() for future in as_completed([same.submit(number) for number in range(5)]))


@flow(durability="lazy")
def keyed():
    return [future.result() for future in [by_three.submit(number) for number in range(6)]]


@flow(durability="lazy")
def deep():
    return [*below(2), *nested.map(range(3)).result(), *yielding(2)]


@flow(durability="result")
def looped():
    return counted.map([3, 2, 3]).result()


@flow(durability="lazy")
def tried_again():
    missing, lock = dict.fromkeys(range(4), 2), threading.Lock()

    @task(retries=2)
    def at_last(number):
        with lock:
            missing[number] -= 1
            left = missing[number]
        if left >= 0:
            raise ValueError(number)
        return number

    return at_last.map(range(4)).result()


@flow(durability="lazy")
def lacking():
    bad, good = failing.submit(1), same.submit(2)
    after = same.submit(bad)
    wait([bad, good, after])
    return [bad.state.name, good.state.name, after.state.name]


@flow(durability="lazy")
async def side_by_side():
    submitted = [same.submit(number) for number in range(2)]
    gathered = await asyncio.gather(*(later(number) for number in range(4)))
    return [*gathered, *(future.result() for future in submitted)]


@flow(durability="effect")
def once():
    return [same(1), same.submit(2).result()]


def in_threads():
    """Three threads call one flow under one key: one of them carries it out."""
    given, led = [], once.with_options(idempotency_key="the only one")
    threads = [
        threading.Thread(target=copy_context().run, args=(lambda: given.append(led()),), daemon=True) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return given


GIVEN = {
    chained: [0, 1, 2, 3, 4],
    synced: [0, 1, 2, 3, 4],
    keyed: [0, 1, 2, 0, 1, 2],
    deep: [0, 1, 0, 2, 4, 0, 1],
    looped: [3, 2, 3],
    tried_again: [0, 1, 2, 3],
    lacking: ["Failed", "Completed", "NotReady"],
    side_by_side: [0, 1, 2, 3, 0, 1],
    in_threads: [[1, 2]] * 3,
}


@pytest.mark.parametrize("led", GIVEN, ids=lambda led: getattr(led, "name", "in_threads"))
def test_whose_turn_it_is_changes_nothing(led, tmp_path):
    """Every run ends, its flow gives what it always gives, and the log is sound and agrees with its views."""
    for seed in SEEDS:
        with pluperfect.open(f"lmdb:{tmp_path}/{seed}", entry_points=False) as log:
            with at_random(seed, SHARES[seed % len(SHARES)]):
                given = led()
                if asyncio.iscoroutine(given):
                    given = asyncio.run(given)
            assert given == GIVEN[led], f"seed {seed}"
            assert log.verify().sound, f"seed {seed}"
            assert log.compare() == [], f"seed {seed}"
            assert all(run.state.is_final() for run in log.runs(limit=1_000)), f"seed {seed}"

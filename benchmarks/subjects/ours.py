"""This library. A work ends in ``.lazy`` or ``.effect``, the level of durability at which it is carried out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import measuring

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.authoring.clock import new_run_id
from pluperfect.cache_policies import INPUTS
from pluperfect.hooks import Part
from pluperfect.runtime import task_run
from pluperfect.states import Pending, Running, Spec
from pluperfect.transitions import Transition

KEYS = 100
_failed: set[int] = set()


@task
def noop(i: int) -> int:
    return i


@task(retries=1)
def flaky(i: int) -> int:
    if i not in _failed:
        _failed.add(i)
        raise ValueError(i)
    return i


@task(cache_policy=INPUTS)
def known(i: int) -> int:
    return i


@task
async def later(i: int) -> int:
    return i


@task
def counting(upto: int) -> int:
    i = (task_run.loop_result or 0) + 1
    if i < upto:
        raise LOOP(result=i)
    return i


@flow
def below(i: int) -> int:
    return i


@flow
def sequential(n: int) -> None:
    for i in range(n):
        noop(i)


@flow
def submit(n: int) -> int:
    return sum(future.result() for future in [noop.submit(i) for i in range(n)])


@flow
def mapped(n: int) -> int:
    return sum(noop.map(range(n)).result())


@flow
def loop(n: int) -> int:
    return counting(n)


@flow
def retry(n: int) -> None:
    for i in range(n):
        flaky(i)


@flow
def cached(n: int) -> None:
    for i in range(n):
        known(i % KEYS)


@flow
def subflow(n: int) -> None:
    for i in range(n):
        below(i)


@flow
async def gather(n: int) -> int:
    import asyncio  # not above: it would be half of what a process needs to begin

    return sum(await asyncio.gather(*[later(i) for i in range(n)]))


DONE: list[bool] = []
OPEN: list[Any] = []


@flow(idempotency_key="resumed")
def resumed(n: int) -> None:
    for i in range(n):
        noop(i)
    if not DONE:
        OPEN[-1].log.flush()
        os._exit(0)


FLOWS = {
    "sequential": sequential,
    "submit": submit,
    "map": mapped,
    "loop": loop,
    "retry": retry,
    "cached": cached,
    "subflow": subflow,
    "gather": gather,
}


def open_in(folder: str) -> Any:
    OPEN.append(pluperfect.open(f"lmdb:{folder}/runs").__enter__())
    return OPEN[-1]


def flow_work(name: str, level: str) -> measuring.Ready:
    led = FLOWS[name].with_options(durability=level)

    def ready(n: int, folder: str) -> Callable[[], Any]:
        log = open_in(folder)

        def lead(count: int) -> None:
            answer = led(count)
            if led.is_async:
                import asyncio

                asyncio.run(answer)
            log.log.flush()

        lead(KEYS if name == "cached" else 2)
        _failed.clear()
        return lambda: lead(n)

    return ready


def history(n: int, folder: str) -> Callable[[], Any]:
    log = open_in(folder)
    sequential.with_options(durability="lazy")(n)
    run = log.run("sequential")
    return lambda: {"records": sum(1 for _ in run.events)}


def decode(n: int, folder: str) -> Callable[[], Any]:
    """The floor of `history`: the same rows decoded by msgspec, into values of no type."""
    import msgspec

    log = open_in(folder)
    sequential.with_options(durability="lazy")(n)
    log.log.flush()
    rows = [row for _, row in log.log.feed(limit=10 * n)]
    read = msgspec.msgpack.decode

    def act() -> dict[str, int]:
        for row in rows:
            read(read(row)[0])
        return {"records": len(rows)}

    return act


def resume(n: int, folder: str) -> Callable[[], Any]:
    led = resumed.with_options(durability="lazy")
    child = os.fork()
    if not child:  # it dies with its flow under way
        open_in(folder)
        led(n)
    os.waitpid(child, 0)
    DONE.append(True)
    open_in(folder)
    return lambda: led(n)


def rejudge(n: int, folder: str) -> Callable[[], Any]:
    log = open_in(folder)
    sequential.with_options(durability="lazy")(n)
    log.log.flush()

    def act() -> dict[str, Any]:
        begun = time.perf_counter()
        assert not list(log.rejudge())  # it judges while it is iterated over
        return {"a_second": log.log.position() / (time.perf_counter() - begun)}

    return act


def listed(n: int, folder: str) -> Callable[[], Any]:
    """So many runs, half of them under way, put into the log as they are recorded."""
    log = open_in(folder)
    at = time.time()
    for first in range(0, n, 500):
        parts = []
        for number in range(first, min(n, first + 500)):
            run = new_run_id(at + number / 1e3)
            spec = Spec("flow", "nightly", "nightly-00000000", f"nightly-{number}", run)
            entries = [Transition(1, at, Pending(spec=spec), epoch=1)]
            if number % 2:
                entries.append(Transition(2, at, Running(), epoch=1))
            parts.append(Part(run, run, 0, tuple(entries)))
        log.log.append(parts, epoch=1)
    log.log.flush()

    def act() -> dict[str, float]:
        times = []
        for _ in range(50):
            begun = time.perf_counter()
            found = log.runs(state="Running", limit=100)
            times.append(time.perf_counter() - begun)
            assert len(found) == min(100, n // 2)
        return {"us": sorted(times)[25] * 1e6}

    return act


def start(_: int, folder: str) -> Callable[[], Any]:
    def act() -> None:
        with pluperfect.open(f"lmdb:{folder}/runs"):
            assert sequential(1) is None

    return act


WORKS: dict[str, measuring.Ready] = {
    **{f"{name}.{level}": flow_work(name, level) for name in FLOWS for level in ("effect", "lazy")},
    "history": history,
    "decode": decode,
    "resume": resume,
    "rejudge": rejudge,
    "list": listed,
    "start": start,
}

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    measuring.main(WORKS, pluperfect.__version__)

"""From a user's chair: what editors and type checkers see. Checked by pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import pluperfect
from pluperfect import LOOP, Flow, State, Task, flow, task, unmapped, wait
from pluperfect.assets import Asset, materialize
from pluperfect.evidence import Report
from pluperfect.futures import Future, FutureList, as_completed
from pluperfect.histories import RecordedRun
from pluperfect.transitions import Entry, Run
from pluperfect.trees import Event, Moment


@task
def bare(a: int, b: str = "x") -> float:
    """Bare decorator."""
    return float(a)


@task(retries=2, retry_delay_seconds=[1, 2], tags=["x"])
def with_options(a: int) -> list[int]:
    """Decorator with options."""
    return [a]


@task
async def later(a: int) -> bytes:
    """An async task."""
    return bytes(a)


@flow(name="typed", idempotency_key="k")
def whole(n: int) -> str:
    """A flow."""
    assert_type(bare(1), float)
    assert_type(with_options(a=1), list[int])
    assert_type(bare.submit(1, b="y"), Future[float])
    assert_type(bare.submit(1).result(), float)
    assert_type(later.submit(1).result(), bytes)
    assert_type(with_options.map([1, 2]), FutureList[list[int]])
    assert_type(with_options.map([1, 2], unmapped(3)).result(), list[list[int]])
    wait([bare.submit(1)])
    return str(n)


@materialize("s3://bucket/rows", retries=1)
def made(a: int) -> dict[str, int]:
    """A task that makes an asset."""
    return {"a": a}


@task
def numbers(n: int) -> Iterator[int]:
    """A generator."""
    yield from range(n)


@flow
async def awaited(n: int) -> str:
    """An async flow."""
    assert_type(await later(n), bytes)
    assert_type(await later(n, return_state=True), State)
    future = later.submit(n)
    assert_type(future, Future[bytes])
    assert_type(await future, bytes)
    return str(n)


class Holder:
    """Methods as tasks and flows."""

    @task
    def method(self, a: int) -> str:
        """A method."""
        return str(a)

    @flow
    def flow_method(self, a: int) -> str:
        """A flow as a method."""
        return str(a)

    @task
    @classmethod
    def of_class(cls, a: int) -> str:
        """A class method."""
        return str(a)

    @flow
    @staticmethod
    def static(a: int) -> str:
        """A static method."""
        return str(a)


async def main() -> None:
    """What the calls give."""
    assert_type(await later(1), bytes)
    assert_type(whole(3), str)
    kept: Flow[[int], str] = whole.with_options(retries=1)
    assert_type(kept(1), str)
    assert_type(whole.with_options(retries=3)(3), str)
    assert_type(Holder().method(1), str)
    assert_type(Holder().method.submit(1), Future[str])
    assert_type(Holder().method.map([1]).result(), list[str])
    assert_type(Holder.method(Holder(), 1), str)
    assert_type(Holder().flow_method(1), str)
    assert_type(Holder.of_class(1), str)
    assert_type(Holder().of_class.submit(1), Future[str])
    assert_type(Holder.static(1), str)
    assert_type(await awaited(1), str)
    assert_type(await awaited(1, return_state=True), State)
    assert_type(whole(1, return_state=True), State)
    assert_type(bare.submit(1, return_state=True), State)
    assert_type(bare.submit(1, wait_for=[]), Future[float])
    assert_type(later.submit(1, wait_for=[]), Future[bytes])
    assert_type(bare(1, wait_for=[bare.submit(1)]), float)
    assert_type(with_options.map([1], return_state=True), list[State])
    assert_type(made(1), dict[str, int])
    assert_type(made.submit(1), Future[dict[str, int]])
    assert_type(made.assets, list[Asset])
    for number in numbers(3):
        assert_type(number, int)
    assert_type([future.result() for future in as_completed([bare.submit(1)])], list[Any])
    plain: Task[[int], list[int]] = with_options
    assert_type(plain(1), list[int])
    bare("1")  # type: ignore[reportArgumentType, reportCallIssue]
    whole()  # type: ignore[reportCallIssue]
    with pluperfect.open("memory:") as log:
        assert_type(log.runs(), list[RecordedRun])
        run = log.run("x")
        assert_type(run.history, tuple[Entry, ...])
        assert_type(run.after(1), Run)
        assert_type(run.at(1), Moment)
        assert_type(run.events, tuple[Event, ...])
        assert_type(run.state, State)
        assert_type(log.verify(against=log.checkpoint()), Report)
        assert_type(log.prove("x").holds, bool)
        assert_type(log.import_runs("file").new, tuple[bytes, ...])
        value: Any = run.result()
        raise LOOP("again", result=value)

"""From a user's chair: what editors and type checkers see. Checked by pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import pluperfect
from pluperfect import LOOP, Flow, State, Task, flow, task, unmapped, wait
from pluperfect.futures import Future, FutureList
from pluperfect.histories import RecordedRun
from pluperfect.transitions import Entry, Run


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


class Holder:
    """Methods as tasks."""

    @task
    def method(self, a: int) -> str:
        """A method."""
        return str(a)


async def main() -> None:
    """What the calls give."""
    assert_type(await later(1), bytes)
    assert_type(whole(3), str)
    kept: Flow[[int], str] = whole.with_options(retries=1)
    assert_type(kept(1), str)
    assert_type(whole.with_options(retries=3)(3), str)
    assert_type(Holder().method(1), str)
    plain: Task[[int], list[int]] = with_options
    assert_type(plain(1), list[int])
    bare("1")  # type: ignore[reportArgumentType]
    whole()  # type: ignore[reportCallIssue]
    with pluperfect.open("memory:") as log:
        assert_type(log.runs(), list[RecordedRun])
        run = log.run("x")
        assert_type(run.history, tuple[Entry, ...])
        assert_type(run.at(1), Run)
        assert_type(run.state, State)
        value: Any = run.result()
        raise LOOP("again", result=value)

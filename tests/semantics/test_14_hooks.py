"""Section 14: hooks of users, which are told and change nothing."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest

from pluperfect import LOOP, flow, task
from pluperfect.cache_policies import INPUTS
from pluperfect.states import Cancelled


def told_into(seen, name="hook"):
    def hook(authored, run, state):
        seen.append((name, authored.name, run.name, state.kind))

    return hook


@pytest.mark.parametrize("decorator", [flow, task])
def test_hooks_are_called_in_order_with_the_definition_the_run_and_the_state(log, decorator):
    seen = []

    @decorator(
        name="work",
        on_running=[told_into(seen, "running")],
        on_completion=[told_into(seen, "one"), told_into(seen, "two")],
        on_failure=[told_into(seen, "never")],
    )
    def work():
        seen.append("body")

    work()
    name = log.run("work").name
    assert seen == [
        ("running", "work", name, "Running"),
        "body",
        ("one", "work", name, "Completed"),
        ("two", "work", name, "Completed"),
    ]


@pytest.mark.parametrize("decorator", [flow, task])
def test_hooks_are_added_by_decorators_too(log, decorator):
    seen = []

    @decorator
    def work():
        raise ValueError

    @work.on_failure
    def told(authored, run, state):
        seen.append(state.kind)

    @work.on_running
    def begun(authored, run, state):
        seen.append(state.kind)

    work(return_state=True)
    assert seen == ["Running", "Failed"]
    assert (work.on_failure_hooks, work.on_running_hooks, work.on_completion_hooks) == ([told], [begun], [])


def test_on_failure_is_called_once_at_the_last_failure_and_on_running_at_each_attempt_and_iteration(log):
    seen = []
    left = iter([ValueError(), LOOP(result=1), ValueError(), ValueError()])

    @task(retries=1, on_running=[told_into(seen)], on_failure=[told_into(seen)])
    def work():
        raise next(left)

    work(return_state=True)
    assert [kind for *_, kind in seen] == ["Running", "Running", "Running", "Running", "Failed"]


def test_a_timeout_is_a_failure_and_a_cache_hit_a_completion(log):
    import time

    seen = []

    @task(timeout_seconds=0.01, on_failure=[told_into(seen)])
    def slow():
        time.sleep(5)

    @task(cache_policy=INPUTS, on_completion=[told_into(seen)])
    def cached(x):
        return x

    slow(return_state=True)
    cached(1), cached(1)
    assert [kind for *_, kind in seen] == ["TimedOut", "Completed", "Cached"]


def test_crashed_and_cancelled_have_hooks_of_their_own(log):
    seen = []
    hooks = {name: [told_into(seen, name)] for name in ("on_failure", "on_crashed", "on_cancellation")}

    @flow(**hooks)
    def crashes():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crashes()
    flow(**hooks)(lambda: Cancelled("enough"))(return_state=True)
    assert [name for name, *_ in seen] == ["on_crashed", "on_cancellation"]


def test_a_failure_upstream_calls_no_hook(log):
    seen = []
    fails = task(lambda: 1 / 0, name="fails")
    below = task(lambda x: x, name="below", on_failure=[told_into(seen)], on_running=[told_into(seen)])
    flow(lambda: below.submit(fails.submit()).wait())(return_state=True)
    assert seen == []


def test_an_exception_of_a_hook_is_logged_the_next_is_called_and_the_state_stands(log, caplog):
    seen = []

    def breaks(authored, run, state):
        raise LookupError("in the hook")

    assert task(on_completion=[breaks, told_into(seen)])(lambda: 3)() == 3
    assert len(seen) == 1
    assert any(r.levelno == logging.ERROR and "breaks" in r.getMessage() for r in caplog.records)


def test_async_hooks_partials_and_callable_objects_work_sync_and_async(log):
    seen = []

    async def awaited(authored, run, state):
        await asyncio.sleep(0)
        seen.append("async")

    def partly(word, authored, run, state):
        seen.append(word)

    class Called:
        def __call__(self, authored, run, state):
            seen.append("object")

    hooks = [awaited, functools.partial(partly, "partial"), Called()]
    task(on_completion=hooks)(lambda: 1)()

    @task(on_completion=hooks)
    async def work():
        pass

    asyncio.run(work())
    assert seen == ["async", "partial", "object"] * 2


def test_a_hook_is_told_after_the_record_is_made(log):
    seen = []

    def hook(authored, run, state):
        seen.append(log.run("work").state.kind)

    task(name="work", on_running=[hook], on_completion=[hook])(lambda: 1)()
    assert seen == ["Running", "Completed"]


@pytest.mark.parametrize("bad", [3, ["not callable"], "name"])
@pytest.mark.parametrize("decorator", [flow, task])
def test_what_cannot_be_called_is_refused_where_it_is_given(decorator, bad):
    with pytest.raises(TypeError, match="on_failure"):
        decorator(on_failure=bad)(print)
    with pytest.raises(TypeError, match="on_failure"):
        decorator(print).on_failure(3)

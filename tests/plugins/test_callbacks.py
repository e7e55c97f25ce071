"""Callbacks: each told of its moments, in order, whatever the others do."""

from __future__ import annotations

import functools
import logging

import pytest

from pluperfect.client.schemas.objects import FlowRun
from pluperfect.hooks import Definition
from pluperfect.states import (
    KINDS,
    Cached,
    Completed,
    Failed,
    Looped,
    Pending,
    Retrying,
    Running,
    TimedOut,
)
from pluperfect.transitions import Run, Transition
from pluperfect_plugins.callbacks import options, recorded

MOMENTS = {kind: [option.name for option in options(kind)] for kind in ("flow", "task")}
CHECKS = {option.name: option.check for option in options("flow")}
RUN = Run(bytes(16), 3)


def told(state, kind="flow", **given):
    checked = {name: CHECKS[name](given.get(name)) for name in MOMENTS[kind]}
    return recorded(RUN, Transition(3, 1.0, state), Definition(kind, "f", fn=print, options=checked, owner="owner"))


def whom(state, kind="flow"):
    """Which of all options are told of this state."""
    called = []
    told(
        state, kind, **{name: [functools.partial(lambda name, *_: called.append(name), name)] for name in MOMENTS[kind]}
    )
    return called


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (Running(), ["on_running"]),
        (Running(attempt=2), ["on_running"]),
        (Running(loop_count=3), ["on_running"]),
        (Completed(), ["on_completion"]),
        (Cached(), ["on_completion"]),
        (TimedOut(), ["on_failure"]),
        (Failed(), ["on_failure"]),
        *((Failed(cause=cause), ["on_failure"]) for cause in ("returned", "children", "validation", "refused", "in_doubt")),
        (Failed(cause="upstream"), []),
        (Failed(cause="crashed"), ["on_crashed"]),
        (Failed(cause="cancelled"), ["on_cancellation"]),
        (Pending(), []),
        (Retrying(), []),
        (Looped(), []),
    ],
)  # fmt: skip
def test_each_state_is_told_to_those_whom_it_concerns(state, names):
    assert whom(state) == names
    assert whom(state, "task") == [name for name in names if name in MOMENTS["task"]]


def test_every_kind_of_state_was_looked_at():
    states = next(mark for mark in test_each_state_is_told_to_those_whom_it_concerns.pytestmark).args[1]

    assert {type(state) for state, _ in states} == set(KINDS)


def test_tasks_have_no_callbacks_for_crashes_and_cancels():
    assert MOMENTS["task"] == ["on_running", "on_completion", "on_failure"]


def test_a_callback_is_given_the_owner_the_run_and_the_state():
    seen = []
    told(Completed(), on_completion=[lambda *given: seen.append(given)])

    ((owner, run, state),) = seen
    assert (owner, state) == ("owner", Completed())
    assert isinstance(run, FlowRun)
    assert run.folded is RUN


def test_one_that_raises_is_named_and_the_next_is_called(caplog):
    seen = []

    def breaks(*_):
        raise ValueError("loose wire")

    told(Completed(), on_completion=[breaks, lambda *_: seen.append(1)])

    assert seen == [1]
    assert "breaks of f raised" in caplog.text
    assert "loose wire" in caplog.text


def driven(awaitable):
    """Await to the end without an event loop; no callback here waits for anything outside."""
    try:
        awaitable.send(None)
    except StopIteration:
        return
    raise AssertionError("the callback waits for something")


def test_sync_and_async_ones_are_called_in_the_order_they_are_listed(caplog):
    seen = []

    def sync(name):
        return lambda *_: seen.append(name)

    def later(name, error=None):
        async def call(*_):
            seen.append(name)
            if error:
                raise error

        return call

    waiting = told(
        Completed(), on_completion=[sync(1), later(2), sync(3), later(4, OSError("lost")), later(5), sync(6)]
    )
    assert seen == [1]
    driven(waiting)

    assert seen == [1, 2, 3, 4, 5, 6]
    assert "lost" in caplog.text


def test_without_async_ones_there_is_nothing_to_await():
    assert told(Completed(), on_completion=[print]) is None
    assert told(Completed()) is None


class Called:
    def __call__(self, *given):
        self.given = given


@pytest.mark.parametrize("value", [[print], (print,), [functools.partial(print), Called()], iter([print])])
def test_a_list_of_callables_is_taken(value):
    assert all(callable(call) for call in CHECKS["on_failure"](value))


@pytest.mark.parametrize("value", [3, print, "print", [print, 3], {"a": 1}])
def test_what_cannot_be_called_is_refused(value):
    with pytest.raises(TypeError, match="Please provide a list of hooks to 'on_failure'"):
        CHECKS["on_failure"](value)


def test_nothing_is_logged_where_nothing_went_wrong(caplog):
    caplog.set_level(logging.DEBUG)
    told(Running(), on_running=[print])

    assert caplog.records == []

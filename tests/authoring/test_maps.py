"""The calls of a map are born some at a time: nobody who looks at the record, or at what was called, can tell by more than that."""

from __future__ import annotations

import asyncio
import threading

import pytest

import pluperfect
from pluperfect import Verdict, flow, hookimpl, task
from pluperfect.errors import ParameterTypeError, PluginError, Refused
from pluperfect.records import decode
from pluperfect.task_runners import ThreadPoolTaskRunner

COUNT = 150  # more than are born in a row


@task
def same(x):
    return x


@task
async def later(x):
    await asyncio.sleep(0)
    return x


@task(task_run_name=lambda: "\ud800" if pluperfect.runtime.task_run.parameters["x"] == 5 else "fine")
def named(x):
    return x


@task(validate="strict")
def whole_number(x: int):
    return x


class Closed:
    """Refuses what has this index in its map as it comes into this state, for good or for a while."""

    name = "closed"

    def __init__(self, kind, index, **verdict):
        self.kind, self.index, self.verdict = kind, index, verdict

    @hookimpl
    def review(self, run, proposal, definition):
        spec = proposal.to.spec if self.kind == "Pending" and proposal.to.kind == "Pending" else run.spec
        if proposal.to.kind == self.kind and spec is not None and spec.map_index == self.index:
            return Verdict(**self.verdict)
        return None


def births(log):
    """The places in the map of the calls, in the order in which their births stand in the log."""
    log.log.flush()
    entries = [decode(row) for _, row in log.log.feed()]
    specs = [entry.to.spec for entry in entries if entry is not None and entry.seq == 1 and entry.to.kind == "Pending"]
    return [spec.map_index for spec in specs if spec.map_index is not None]


def ends(log):
    """The state of each call of the map, by its place."""
    [root] = log.runs(roots=True)
    return {child.history[0].to.spec.map_index: child.state.name for child in root.children}


@pytest.fixture
def appends(log, monkeypatch):
    """How many runs each append is about."""
    found, append = [], log.log.append

    def counted(parts, **options):
        found.append(len(parts))
        return append(parts, **options)

    monkeypatch.setattr(log.log, "append", counted)
    return found


@pytest.mark.parametrize("mapped", [same, later], ids=["threads", "coroutines"])
def test_all_go_on_record_in_their_order_in_few_appends(log, appends, mapped):
    @flow
    def whole():
        return mapped.map(range(COUNT)).result()

    assert whole() == [*range(COUNT)]
    assert births(log) == [*range(COUNT)]
    together = [count for count in appends if count > 1]
    assert together[:6] == [2, 4, 8, 16, 32, 64]
    assert sum(together) >= COUNT - 2


def test_the_first_begins_before_the_second_is_born(log):
    begun = threading.Event()

    def name():
        first = pluperfect.runtime.task_run.parameters["x"] == 0
        return "first" if first else str(begun.wait(20))

    @task(task_run_name=name)
    def begins(x):
        begun.set()

    @flow
    def whole():
        begins.map(range(3)).wait()

    whole()
    [root] = log.runs(roots=True)
    assert [child.name for child in root.children] == ["first", "True", "True"]


def test_large_arguments_go_on_record_a_few_at_a_time(log, appends):
    @task
    def length(data):
        return len(data)

    @flow
    def whole():
        return length.map([bytes(10_000)] * COUNT).result()

    assert whole() == [10_000] * COUNT
    assert 4 < max(appends) < 10


def test_one_that_is_refused_leaves_those_before_it_begun_and_none_behind_it(uri, clock):
    with pluperfect.open(uri, plugins=[Closed("Pending", 5, refuse="not on Sundays")], clock=clock) as log:

        @flow
        def whole():
            with pytest.raises(Refused, match="not on Sundays"):
                same.map(range(COUNT))
            return same.submit(-1).result()

        assert whole() == -1
        assert births(log) == [0, 1, 2, 3, 4, 5]
        found = ends(log)
        assert [found[place] for place in range(5)] == ["Completed"] * 5
        assert {*found} == {*range(6), None}


def test_one_whose_rule_fails_leaves_those_before_it_begun_and_none_behind_it(uri, clock):
    class Broken:
        name = "broken"

        @hookimpl
        def review(self, run, proposal, definition):
            if proposal.to.kind == "Pending" and proposal.to.spec.map_index == 5:
                raise KeyError("a bug")

    with pluperfect.open(uri, plugins=[Broken()], clock=clock) as log:

        @flow
        def whole():
            with pytest.raises(PluginError, match="a bug"):
                same.map(range(COUNT))
            return same.submit(-1).result()

        assert whole() == -1
        assert ends(log) == {**dict.fromkeys(range(5), "Completed"), None: "Completed"}


def test_one_that_is_put_off_is_born_in_its_place(uri, clock):
    with pluperfect.open(uri, plugins=[Closed("Pending", 5, delay=3.0, why="soon")], clock=clock) as log:

        @flow
        def whole():
            return same.map(range(20))[:5]

        whole()
        assert births(log) == [*range(20)]
        assert ends(log) == dict.fromkeys(range(20), "Completed")


def test_one_that_cannot_be_recorded_is_no_call_those_before_it_are_and_the_flow_goes_on(log):
    @flow
    def whole():
        with pytest.raises(ValueError, match="surrogates"):
            named.map(range(COUNT))
        return same.submit(-1).result()

    assert whole() == -1
    assert births(log) == [0, 1, 2, 3, 4]
    assert ends(log) == {**dict.fromkeys(range(5), "Completed"), None: "Completed"}


def test_one_with_a_wrong_argument_fails_in_its_place(log):
    @flow
    def whole():
        futures = whole_number.map([*range(5), "no number", *range(6, 20)])
        return [type(future.result(raise_on_failure=False)) for future in futures]

    assert whole() == [int] * 5 + [ParameterTypeError] + [int] * 14
    assert births(log) == [*range(20)]
    assert ends(log) == {place: "Failed" if place == 5 else "Completed" for place in range(20)}


def test_what_a_runner_does_not_take_ends_and_those_before_it_go_on(log):
    class Full(ThreadPoolTaskRunner):
        taken = 0

        def submit_steps(self, step):
            if self.taken == 5:
                raise RuntimeError("no more today")
            self.taken += 1
            super().submit_steps(step)

    @flow(task_runner=Full())
    def whole():
        with pytest.raises(RuntimeError, match="no more today"):
            same.map(range(COUNT))
        return "went on"

    assert whole() == "went on"
    found = ends(log)
    assert [found[place] for place in range(5)] == ["Completed"] * 5
    assert {state for place, state in found.items() if place >= 5} == {"Crashed"}
    assert births(log) == [*range(len(found))]

"""The calls of a map are born some at a time: nobody who looks at the record, or at what was called, can tell by more than that."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import threading

import pytest

import pluperfect
from pluperfect import Verdict, flow, hookimpl, task
from pluperfect.errors import ParameterTypeError, PluginError, Refused
from pluperfect.records import decode
from pluperfect.task_runners import ThreadPoolTaskRunner

COUNT = 150  # more than are born in a row


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """However slow this machine is."""
    monkeypatch.setattr("pluperfect.authoring.engine._LONG", math.inf)


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


def test_where_births_take_long_each_is_begun_before_the_next(log, appends, monkeypatch):
    monkeypatch.setattr("pluperfect.authoring.engine._LONG", -1.0)

    @flow
    def whole():
        return same.map(range(20)).result()

    assert whole() == [*range(20)]
    assert max(appends) == 1


def test_each_that_is_given_its_name_by_somebodys_code_begins_before_the_next_is_born(log):
    begun = [threading.Event() for _ in range(5)]

    def name():
        x = pluperfect.runtime.task_run.parameters["x"]
        return str(x == 0 or begun[x - 1].wait(20))

    @task(task_run_name=name)
    def begins(x):
        begun[x].set()

    @flow
    def whole():
        begins.map(range(5)).wait()

    whole()
    [root] = log.runs(roots=True)
    assert [child.name for child in root.children] == ["True"] * 5


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
    assert found == {**dict.fromkeys(range(5), "Completed"), 5: "Crashed", 6: "Cancelled"}
    assert births(log) == [*range(7)]


class Inline:
    """Makes each call at once, and is interrupted behind the fourth."""

    remote = False
    made = 0

    def submit(self, call):
        call()
        self.made += 1
        if self.made == 4:
            raise KeyboardInterrupt

    def close(self):
        pass


def test_an_interruption_behind_the_end_of_a_call_is_heard_and_the_others_end_with_the_flow(log):
    @flow(task_runner=Inline())
    def whole():
        with pytest.raises(KeyboardInterrupt):
            same.map(range(20))
        return "went on"

    assert whole() == "went on"
    assert ends(log) == {**dict.fromkeys(range(4), "Completed"), **dict.fromkeys(range(4, 7), "Cancelled")}


def test_what_is_on_record_stays_where_one_before_it_is_not_taken(uri, clock, tmp_path):
    again = []

    class Full(ThreadPoolTaskRunner):
        def submit_steps(self, step):
            if again:
                raise RuntimeError("no more today")
            super().submit_steps(step)

    class Dies:
        """As if the process had died: nothing of the flow's end is recorded, nor that of one call."""

        name = "dies"

        @hookimpl
        def review(self, run, proposal, definition):
            ends = proposal.to.kind not in ("Pending", "Running")
            if ends and (definition.kind == "flow" or run.spec.map_index == 4):
                raise RuntimeError("dead")

    @flow(idempotency_key="one", task_runner=Full())
    def whole():
        try:
            same.map(range(20)).wait()
        except RuntimeError as error:
            return str(error)
        return "made"

    uri = f"lmdb:{tmp_path / 'kept'}"
    with pluperfect.open(uri, plugins=[Dies()], clock=clock) as log, pytest.raises(PluginError, match="dead"):
        whole()
    again.append(True)
    with pluperfect.open(uri, clock=clock) as log:
        assert whole() == "no more today"
        assert ends(log) == {place: "Crashed" if place == 4 else "Completed" for place in range(20)}


def test_where_one_cannot_even_be_ended_the_flow_ends_and_it_stays_open(uri, clock):
    class Endless:
        name = "endless"

        @hookimpl
        def review(self, run, proposal, definition):
            if proposal.to.kind == "Failed":
                raise KeyError("a bug")

    class Full(ThreadPoolTaskRunner):
        taken = 0

        def submit_steps(self, step):
            if self.taken == 5:
                raise RuntimeError("no more today")
            self.taken += 1
            super().submit_steps(step)

    @flow(task_runner=Full())
    def whole():
        with pytest.raises(PluginError, match="a bug"):
            same.map(range(COUNT))
        return "went on"

    with pluperfect.open(uri, plugins=[Endless()], clock=clock) as log:
        assert whole() == "went on"
        assert ends(log) == {**dict.fromkeys(range(5), "Completed"), 5: "Pending", 6: "Pending"}


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_where_one_cannot_be_announced_those_before_it_are_begun(log, error):
    class Full(logging.Filter):
        def filter(self, record):
            if record.getMessage() == "Submitted task run 'same-6' for execution.":
                raise error("in a filter")
            return True

    @flow
    def whole():
        with pytest.raises(error, match="in a filter"):
            same.map(range(COUNT))
        return "went on"

    logger, full = logging.getLogger("pluperfect.flow_runs"), Full()
    logger.addFilter(full)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        assert whole() == "went on"
    finally:
        logger.removeFilter(full)
        logger.setLevel(before)
    assert ends(log) == dict.fromkeys(range(6), "Completed")


def test_a_map_in_another_thread_goes_on_where_its_flow_ends_meanwhile(log):
    handing, ended = threading.Event(), threading.Event()
    mapped = []

    class Slow(ThreadPoolTaskRunner):
        taken = 0

        def submit_steps(self, step):
            self.taken += 1
            if self.taken == 4:
                handing.set()
                assert ended.wait(20)
            super().submit_steps(step)

    @flow(task_runner=Slow())
    def whole():
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(lambda: mapped.extend(same.map(range(20))),)
        )
        thread.start()
        assert handing.wait(20)
        threads.append(thread)
        raise ValueError("over")

    threads = []
    with pytest.raises(ValueError, match="over"):
        whole()
    ended.set()
    threads[0].join(20)

    assert len(mapped) == 20
    assert all(future.state.final for future in mapped[3:7])
    assert [ends(log)[place] for place in range(3, 7)] == ["Cancelled"] * 4

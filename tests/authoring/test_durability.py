"""Who waits for the disk, by level: commits are counted, not timed."""

from __future__ import annotations

import threading
import time

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.authoring.sessions import HOLDS


@pytest.fixture
def log(tmp_path):
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", entry_points=False) as opened:
        yield opened


class Waits:
    """Counts the waits on tickets that were not done yet."""

    def __init__(self, log):
        self.count, self._append = 0, log.log.append
        log.log.append = self.append

    def append(self, *args, **options):
        ticket = self._append(*args, **options)
        waits = self

        class Counted:
            @property
            def done(self):
                return ticket.done

            def wait(self, timeout=None):
                waits.count += not ticket.done
                ticket.wait(timeout)

            def extend(self, part):
                return ticket.extend(part)

            def notify(self, callback):
                ticket.notify(callback)

        return Counted()


def committed(log, name):
    head = log.log.head(bytes.fromhex(name.replace("-", "")))
    return 0 if head is None else head.seq


@pytest.mark.parametrize(("level", "most"), [("effect", 22), ("result", 3), ("lazy", 3)])
def test_a_flow_of_n_tasks_waits_for_each_start_at_effect_and_for_its_end_alone_elsewhere(log, level, most):
    @task
    def step(n):
        return n

    @flow(durability=level)
    def whole():
        return [step(n) for n in range(20)]

    waits = Waits(log)
    whole()

    assert waits.count <= most
    if level == "effect":
        assert waits.count >= 20


def test_at_effect_the_body_begins_when_its_running_is_durable(log):
    from pluperfect.runtime import flow_run, task_run

    seen = []

    @task
    def looks():
        seen.append((committed(log, task_run.id), committed(log, flow_run.id)))

    @flow
    def whole():
        looks()
        looks.submit().wait()

    whole()
    assert seen == [(2, 2), (2, 2)]


@pytest.mark.parametrize("level", ["effect", "result", "lazy"])
def test_at_every_level_the_body_of_a_root_begins_when_its_lease_is_durable(log, level):
    from pluperfect.runtime import flow_run

    seen = []

    @flow(durability=level)
    def looks():
        run = bytes.fromhex(flow_run.id.replace("-", ""))
        seen.append((committed(log, flow_run.id), log.log.holder(run).epoch))

    looks()
    assert seen == [(2, 1)]


def test_a_body_does_not_begin_once_the_time_of_its_caller_is_up(log):
    began, states = [], []

    def late(task, run, state):
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            pass

    @task(on_running=[late])
    def never():
        began.append("never")

    @flow(timeout_seconds=0.1)
    def short():
        never()

    # In a thread no signal ends the hook: it goes on past the limit.
    thread = threading.Thread(target=lambda: states.append(short(return_state=True)))
    with log:
        thread.start()
        thread.join()
    assert began == []
    assert states[0].is_timed_out()


class Appends:
    """Counts the appends of a log, with how long each may wait."""

    def __init__(self, log, monkeypatch):
        self.holds, append = [], log.log.append

        def counted(parts, *, hold=0.0, **options):
            self.holds.append(hold)
            return append(parts, hold=hold, **options)

        monkeypatch.setattr(log.log, "append", counted)


@pytest.mark.parametrize("submitted", [False, True])
def test_calls_that_nobody_waits_for_share_their_appends_in_the_order_of_the_calls(log, monkeypatch, submitted):
    monkeypatch.setitem(HOLDS, "lazy", 1_000.0)  # seconds: nothing is written meanwhile

    @task
    def same(n):
        return n

    @flow(durability="lazy")
    def many():
        if submitted:
            return sum(future.result() for future in [same.submit(n) for n in range(100)])
        return sum(same(n) for n in range(100))

    appends = Appends(log, monkeypatch)
    assert many() == sum(range(100))

    assert len(appends.holds) < 20
    run = log.run("many")
    born = [event.entry.to.spec.run_name for event in run.events if event.entry.to.is_pending()]
    assert born == [run.name, *(f"same-{n}" for n in range(100))]
    assert [event.entry.seq for event in run.events if event.run.name == "same-99"] == [1, 2, 3]


def test_what_may_wait_for_less_long_does_not_join_what_may_wait_for_longer(log, monkeypatch):
    @task
    def patient():
        pass

    @task(durability="result")
    def urgent():
        pass

    @flow(durability="lazy")
    def both():
        patient()
        urgent()
        patient()  # joins what is written sooner than it has to be

    monkeypatch.setitem(HOLDS, "lazy", 1_000.0)  # seconds: nothing is written meanwhile
    monkeypatch.setitem(HOLDS, "result", 500.0)
    appends = Appends(log, monkeypatch)
    both()

    assert appends.holds[-2:] == [1_000.0, 500.0]


def test_at_every_level_a_root_call_returns_when_all_of_it_is_durable(log):
    for level in ("effect", "result", "lazy"):

        @task(durability=level)
        def alone():
            return 1

        @flow(durability=level)
        def whole():
            alone()
            alone.submit()

        for call in (alone, whole):
            before = log.log.position()
            call()
            after = log.log.position()
            log.flush()
            assert before < after == log.log.position()


def test_tasks_inherit_the_level_of_their_caller_and_may_have_their_own(log):
    @task
    def inherits():
        pass

    @task(durability="effect")
    def own():
        pass

    @flow(durability="lazy")
    def whole():
        inherits()
        own()

    whole()
    assert [child.folded.birth.durability for child in log.runs(roots=True)[0].children] == ["lazy", "effect"]


def test_at_most_once_is_refused_where_a_start_is_not_waited_for(log):
    @task(on_interrupt="fail")
    def pays():
        pass

    @flow(durability="lazy")
    def whole():
        pays()

    with pytest.raises(ValueError, match="durability='effect'"):
        whole()

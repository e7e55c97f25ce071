"""What another thread does between any two steps of an append, of its going on, or of the wait for it."""

from __future__ import annotations

import itertools

import pytest

from pluperfect.errors import StoreClosed
from pluperfect.states import Running
from pluperfect_store.conformance import born, new_id, part, whole
from pluperfect_store.lmdb import LmdbLog
from racing import look_at_all, raced, raced_everywhere

FOR_EVER = 1_000.0  # seconds: nothing is written that nobody waits for


@pytest.fixture
def log(tmp_path):
    log = LmdbLog(tmp_path / "runs")
    yield log
    log.close()


def others_of(log):
    """What others do: have all written that is queued, queue more behind it, or so much that they write it themselves."""
    return {
        "writes": lambda: log.append([whole(new_id())], epoch=1).wait(),
        "queues": lambda: log.append([whole(new_id())], epoch=1, hold=FOR_EVER),
        "fills": lambda: [log.append([whole(new_id())], epoch=1, hold=FOR_EVER) for _ in range(60)],
    }


@pytest.mark.parametrize("others", ["writes", "queues"])
def test_an_append_goes_on_or_does_not_whatever_another_thread_does_meanwhile(log, others):
    """A queued append that is written at this very moment answers that it is too late."""
    answers = set()

    def prepare():
        run, told = new_id(), []
        ticket = log.append([part(run, None, 0, born(run))], epoch=1, hold=FOR_EVER)

        def then(where):
            log.flush()
            recorded = len(log.records(run))
            assert recorded == (2 if told[0] else 1), f"answered {told}, recorded {recorded}, with the other at {where}"
            answers.add(told[0])

        return lambda: told.append(ticket.extend(part(run, None, 1, Running()))), then

    assert raced_everywhere(prepare, others_of(log)[others]) > 100
    assert answers == {True, False}


def test_of_two_threads_that_go_on_with_one_run_at_once_one_is_told_that_it_did(log):
    """The other one is too late: what it brings stands where something else stands already."""
    current = []

    def prepare():
        run, told = new_id(), []
        ticket = log.append([part(run, None, 0, born(run))], epoch=1, hold=FOR_EVER)

        def go_on():
            told.append(ticket.extend(part(run, None, 1, Running())))

        def then(where):
            log.flush()
            assert sorted(told) == [False, True], f"told {told}, with the other at {where}"
            assert len(log.records(run)) == 2, where

        current[:] = [go_on]
        return go_on, then

    assert raced_everywhere(prepare, lambda: current[0]()) > 100
    assert log.verify().sound


@pytest.mark.parametrize("others", ["writes", "queues", "joins"])
def test_what_is_born_joins_or_does_not_whatever_another_thread_does_meanwhile(log, others):
    """Whoever is told that he has joined is recorded, once and whole; whoever is not is not there."""
    root, answers, beside = new_id(), set(), []
    log.append([part(root, None, 0, born(root))], epoch=1).wait()

    def prepare():
        first, run, told = new_id(), new_id(), []
        ticket = log.append([part(first, root, 0, born(first, root))], epoch=1, hold=FOR_EVER)

        def joins():
            other = new_id()
            beside.append((other, ticket.extend(whole(other, root))))

        def then(where):
            log.flush()
            for one, joined in ((run, told[0]), *beside):
                assert len(log.records(one)) == 3 * joined, f"told {joined}, with the other at {where}"
            beside.clear()
            answers.add(told[0])

        current[:] = [joins]
        return lambda: told.append(ticket.extend(whole(run, root))), then

    current = []
    acts = {**others_of(log), "joins": lambda: current[0]()}
    assert raced_everywhere(prepare, acts[others]) > 100
    assert answers == {True, False}
    assert log.verify().sound


@pytest.mark.long
@pytest.mark.parametrize("others", ["writes", "queues", "fills"])
@pytest.mark.parametrize("act", ["append", "wait", "notify"])
def test_an_append_is_written_once_whatever_another_thread_does_meanwhile(log, act, others):
    """However the two meet: nobody waits for ever, and the append is in the log, once."""

    def prepare():
        run, tickets, told = new_id(), [], []

        def append():
            tickets.append(log.append([whole(run)], epoch=1, hold=FOR_EVER))

        if act != "append":
            append()
        acts = {
            "append": append,
            "wait": lambda: tickets[0].wait(),
            "notify": lambda: tickets[0].notify(lambda: told.append(True)),
        }

        def then(where):
            log.flush()
            assert tickets[0].done, where
            assert len(log.records(run)) == 3, where
            assert told == ([True] if act == "notify" else []), where

        return acts[act], then

    assert raced_everywhere(prepare, others_of(log)[others]) > 50
    assert log.verify().sound


@pytest.mark.long
def test_an_append_beside_the_end_of_the_log_is_written_or_refused(tmp_path):
    """What is appended while the log is closed is there afterwards, or was told that it came too late."""
    ends = set()
    first = LmdbLog(tmp_path / "runs")
    first.append([whole(new_id())], epoch=1, hold=FOR_EVER)
    look_at_all(first.close)
    for nth in itertools.count(1):
        log, run, end = LmdbLog(tmp_path / "runs"), new_id(), []
        before = log.append([whole(new_id())], epoch=1, hold=FOR_EVER)

        def other(log=log, run=run, end=end, before=before):
            before.wait()
            try:
                log.append([whole(run)], epoch=1).wait()
                end.append("written")
            except StoreClosed:
                end.append("refused")

        met = raced(log.close, other, nth)
        if met is None:
            log.close()
            break
        mine, others, where = met
        assert (mine, others) == (None, None), f"with the other at {where}"
        log.close()
        again = LmdbLog(tmp_path / "runs")
        assert len(again.records(run)) == (3 if end == ["written"] else 0), f"{end}, with the other at {where}"
        again.close()
        ends.add(end[0])
    assert ends == {"written", "refused"}

"""Forks: they share what had ended, write nothing for it, and go their own way from there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys

import pytest

import pluperfect
from pluperfect import LOOP, Completed, Failed, Retrying, flow, task
from pluperfect.errors import PluperfectError, UnpackableValue
from pluperfect.places import places
from pluperfect.runtime import task_run
from pluperfect.testing import kinds

done = []
broken = set()


@pytest.fixture(autouse=True)
def _nothing_was_done():
    del done[:]
    broken.clear()


@task
def fetch(page):
    done.append(f"fetch {page}")
    if page in broken:
        raise ConnectionError(f"page {page}")
    return page * 10


@task
def add(a, b):
    done.append(f"add {a} {b}")
    return a + b


@flow
def part(n):
    return add(fetch(n), 1)


@flow
def crawl(n):
    total = 0
    for page in range(n):
        total = add(total, fetch(page))
    return part(total)


def last(log, name="crawl"):
    return log.runs(name=name)[0]


def event(run, place, kind):
    """The number of the event that brought a call into a state of this kind."""
    wanted = places(run.at(len(run.events)))[place].id
    return next(e.number for e in run.events if e.after.id == wanted and e.state.kind == kind)


def own(run):
    return [e.run.name for e in run.events if e.run != run]


def test_a_fork_at_the_end_of_a_run_carries_nothing_out_again_and_writes_only_its_own_entries(log):
    answer = crawl(3)
    run = last(log)
    del done[:]
    fork = run.fork(flow=crawl)

    assert (fork.result(), done) == (answer, [])
    assert len(fork.events) == len(fork.history) == 3
    assert fork.id != run.id
    assert fork.folded.birth.forked.run == run.folded.id
    assert fork.folded.birth.forked.digest == run.tree.digest(len(run.events))


def test_what_came_after_the_fork_is_carried_out_anew_and_what_came_before_is_not(log):
    answer = crawl(3)
    run = last(log)
    for number in range(len(run.events) + 1):
        ended = [one for one in run.at(number).runs if one.final and one.birth.kind == "task"]
        every = [one for one in run.at(len(run.events)).runs if one.birth.kind == "task"]
        del done[:]
        fork = run.fork(number, flow=crawl)
        assert fork.result() == answer
        assert len(done) == len(every) - len(ended)


def test_an_override_takes_the_place_of_an_outcome_and_what_depended_on_it_is_carried_out(log):
    crawl(3)
    run = last(log)
    del done[:]
    fork = run.fork(overrides={"fetch:1": 500}, flow=crawl)

    assert done == ["add 0 500", "add 500 20", "fetch 520", "add 5200 1"]
    assert fork.result() == 5201
    (overridden,) = [e for e in fork.events if e.after.birth.name == "fetch" and e.state.final][:1]
    assert (overridden.state.kind, overridden.entry.by, overridden.state.result()) == ("Cached", "override", 500)
    assert kinds(overridden.run) == ["Pending", "Cached"]


def test_an_exception_and_a_state_are_overrides_too(log):
    crawl(2)
    run = last(log)
    failed = run.fork(overrides={"fetch": ConnectionError("gone")}, flow=crawl)
    with pytest.raises(ConnectionError, match="gone"):
        failed.result()
    assert run.fork(overrides={"fetch": Completed(data=7, message="by hand")}, flow=crawl).result() == 171
    state = run.fork(overrides={"fetch": Failed("no")}, flow=crawl).state
    assert (state.kind, state.message.splitlines()[0]) == ("Failed", "no") or "no" in state.message


def test_a_failed_run_goes_on_from_where_it_failed_with_what_it_lacked(log):
    broken.add(1)
    with pytest.raises(ConnectionError):
        crawl(3)
    run = last(log)
    del done[:]
    fork = run.fork(overrides={"fetch:1": 10}, flow=crawl)

    assert fork.state.is_completed()
    assert done[0] == "add 0 10"
    assert "fetch 0" not in done


def test_an_override_inside_of_a_subflow_has_a_place_behind_it(log):
    crawl(1)
    run = last(log)
    del done[:]
    fork = run.fork(overrides={"part/fetch": 7}, flow=crawl)

    assert fork.result() == 8
    assert done == ["add 7 1"]


def test_a_subflow_that_was_under_way_goes_on_inside_of_the_fork(log):
    answer = crawl(1)
    run = last(log)
    number = event(run, "part:0/fetch:0", "Completed")
    del done[:]
    fork = run.fork(number, flow=crawl)

    assert (fork.result(), done) == (answer, ["add 0 1"])
    assert own(fork) == [fork.children[0].name] * 2 + ["add-0"] * 3 + [fork.children[0].name]


def test_a_fork_of_a_fork_shares_what_both_share(log):
    crawl(3)
    run = last(log)
    first = run.fork(event(run, "add:1", "Completed"), {"fetch:0": 1}, flow=crawl)
    del done[:]
    second = first.fork(overrides={"fetch:2": 100}, flow=crawl)

    assert done == ["add 11 100", "fetch 111", "add 1110 1"]
    assert second.result() == 1111
    assert [one.place for one in second.folded.birth.forked.overrides] == ["fetch:2"]
    third = second.fork(flow=crawl)
    assert third.result() == 1111
    assert len(third.events) == 3


def test_an_override_that_a_fork_had_not_come_to_holds_in_its_forks(log):
    crawl(2)
    run = last(log)
    first = run.fork(0, {"fetch:1": 5}, flow=crawl)
    again = first.fork(event(first, "fetch:0", "Completed"), flow=crawl)

    assert first.result() == again.result() == 51


def test_calls_that_take_futures_are_answered_in_a_fork_and_know_where_their_inputs_come_from(log):
    @flow
    def joined(n):
        pages = fetch.map(range(n))
        sums = add.map(pages, [1] * n)
        return sum(one.result() for one in sums)

    answer = joined(4)
    run = last(log, "joined")
    del done[:]
    assert run.fork(flow=joined).result() == answer
    assert done == []
    fork = run.fork(overrides={"fetch:2": 1000}, flow=joined)
    assert (fork.result(), done) == (answer - 20 + 1000, ["add 1000 1"])
    source = {run.folded.birth.run_name: run.folded.id for run in fork.children}
    assert fork.children[-1].folded.birth.upstream == (source["fetch-2"],)


def test_side_by_side_coroutines_are_answered_by_their_inputs(log):
    @task
    async def ask(n):
        done.append(n)
        await asyncio.sleep(0.001 * (5 - n))
        return n

    @task
    async def then(n):
        done.append(-n)
        return n

    @flow
    async def gathering():
        async def chain(n):
            return await then(await ask(n))

        return sum(await asyncio.gather(*[chain(n) for n in range(1, 5)]))

    assert asyncio.run(gathering()) == 10
    run = last(log, "gathering")
    del done[:]
    fork = run.fork(flow=gathering)
    assert (fork.result(), done) == (10, [])


def test_a_retry_inside_of_a_fork_takes_what_the_fork_shares(log):
    tries = []

    @flow(retries=1)
    def stubborn():
        value = fetch(1)
        tries.append(1)
        if len(tries) == 2:
            raise ConnectionError("in the fork")
        return value

    stubborn()
    run = last(log, "stubborn")
    del done[:]
    fork = run.fork(flow=stubborn)
    assert fork.result() == 10
    assert kinds(fork) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    assert done == []


def test_the_attempt_that_was_under_way_is_the_one_that_is_shared(log):
    tries = []

    @flow(retries=1)
    def stubborn():
        value = add(1, fetch(len(tries)))
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("once")
        return value

    stubborn()
    run = last(log, "stubborn")
    tries.pop()
    del done[:]
    fork = run.fork(flow=stubborn)
    assert (fork.result(), done) == (11, [])


def test_loops_and_retries_that_had_not_ended_begin_anew(log):
    @task
    def count(n):
        done.append(task_run.loop_count)
        if task_run.loop_count < n:
            raise LOOP("on")
        return n

    @flow
    def counting():
        return count(3)

    counting()
    run = last(log, "counting")
    del done[:]
    number = event(run, "count:0", "Looped")
    assert run.fork(number, flow=counting).result() == 3
    assert done == [1, 2, 3]
    del done[:]
    assert run.fork(flow=counting).result() == 3
    assert done == []


def test_an_override_without_a_call_is_said(log, caplog):
    crawl(1)
    with caplog.at_level(logging.WARNING, "pluperfect.engine"):
        last(log).fork(overrides={"fetch:7": 1, "fetch:0": 0}, flow=crawl)
    assert "no call was made at fetch:7: this override had no effect" in caplog.text


def test_a_fork_is_no_call_of_the_body_that_asks_for_it(log):
    crawl(1)
    run = last(log)

    @flow
    def outer():
        return run.fork(flow=crawl).id

    made = log.run(outer())
    assert made.parent is None


def test_what_cannot_be_forked_is_refused_and_nothing_is_written(log):
    crawl(1)
    run = last(log)
    before = log.log.position()
    with pytest.raises(IndexError, match="is not among 0 to"):
        run.fork(99, flow=crawl)
    with pytest.raises(PluperfectError, match=r"only such a run is forked\. Fork run"):
        run.children[0].fork(flow=crawl)
    with pytest.raises(PluperfectError, match="is a run of flow 'crawl'; the flow 'part' was given"):
        run.fork(flow=part)
    with pytest.raises(TypeError, match="not <Task fetch>|not <"):
        run.fork(flow=fetch)
    with pytest.raises(ValueError, match="no place of a call"):
        run.fork(overrides={"": 1}, flow=crawl)
    with pytest.raises(TypeError, match="ends nothing"):
        run.fork(overrides={"fetch": Retrying()}, flow=crawl)
    with pytest.raises(UnpackableValue):
        run.fork(overrides={"fetch": (n for n in "x")}, flow=crawl)

    @flow
    def local():
        pass

    local()
    with pytest.raises(PluperfectError, match="inside of a function"):
        last(log, "local").fork()
    assert log.log.position() == before + len(last(log, "local").events)


PROGRAM = """
import os, signal, sys
import pluperfect
from pluperfect import flow, task

@task
def fetch(page):
    print("fetch", page, flush=True)
    if page == 2 and os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return page

@flow
def crawl(n):
    return [fetch(page) for page in range(n)]

if __name__ == "__main__":
    with pluperfect.open(sys.argv[1]) as log:
        if sys.argv[2] == "run":
            crawl(4)
        else:
            run = log.runs(name="crawl")[0]
            number = next(e.number for e in run.events if e.run.name == "fetch-1" and e.state.final)
            run.fork(number, {"fetch:0": 100})
"""


def test_a_fork_that_was_killed_goes_on_with_what_it_shares_and_what_was_set(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    store = str(tmp_path / "runs")

    def call(*words, **env):
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True)

    assert call("program.py", store, "run").returncode == 0
    killed = call("program.py", store, "fork", DIE="1")
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout == "fetch 2\n"
    gone_on = call("-m", "pluperfect", "--store", store, "resume", "--all")
    assert gone_on.returncode == 0, gone_on.stderr
    assert [line for line in gone_on.stdout.splitlines() if line.startswith("fetch")] == ["fetch 2", "fetch 3"]
    with pluperfect.open(store, entry_points=False) as log:
        fork = log.runs(name="crawl")[0]
        assert fork.result() == [100, 1, 2, 3]
        assert log.verify().findings == ()
        assert log.compare() == []


UNRECORDED = """
import asyncio, os, signal, sys
import pluperfect
from pluperfect import flow, task

@task
def act(x):
    print("act", x)
    return x * 10

@flow(persist_result=False)
def below():
    return act(1)

@task
def last():
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)

@flow
def work():
    found = below()
    last()
    return found

@task
async def later(x):
    print("later", x)
    return x * 10

@flow
async def beside(x):
    if os.environ.get("DIE"):
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    return await later(x)

@flow
async def awaiting():
    return sorted(await asyncio.gather(*(beside(x) for x in map(int, os.environ.get("ORDER", "12")))))

if __name__ == "__main__":
    with pluperfect.open(sys.argv[1]) as log:
        if sys.argv[2] == "work":
            work()
        elif sys.argv[2] == "awaiting":
            asyncio.run(awaiting())
        elif sys.argv[2] == "fork work":
            log.fork(log.runs(name="work")[0], 0, {"below:0/act:0": 99}, flow=work)
        elif sys.argv[2] == "fork awaiting":
            log.fork(log.runs(name="awaiting")[0], 0, {"beside:0/later:0": 99, "beside:1/later:0": 98}, flow=awaiting)
"""


@pytest.mark.parametrize(("name", "found"), [("work", 99), ("awaiting", [98, 99])])
def test_calls_that_are_made_anew_or_in_another_order_when_a_fork_goes_on_have_what_was_set_below_them(
    tmp_path, name, found
):
    (tmp_path / "program.py").write_text(UNRECORDED)
    store = str(tmp_path / "runs")

    def call(*words, **env):
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True)

    first = call("program.py", store, name)
    assert first.returncode == 0, first.stderr
    assert call("program.py", store, f"fork {name}", DIE="1").returncode == -signal.SIGKILL
    gone_on = call("-m", "pluperfect", "--store", store, "resume", "--all", ORDER="21")
    assert gone_on.returncode == 0, gone_on.stderr
    assert [line for line in gone_on.stdout.splitlines() if line.startswith(("act", "later"))] == []
    with pluperfect.open(store, entry_points=False) as log:
        assert log.runs(name=name)[0].result() == found


def test_a_fork_of_ten_thousand_events_writes_fewer_than_ten_records(log):
    @flow(durability="lazy")
    def many(n):
        return sum(add(i, 0) for i in range(n))

    answer = many(3334)
    run = last(log, "many")
    assert len(run.events) > 10_000
    before = log.log.position()
    assert run.fork(flow=many).result() == answer
    assert run.fork(overrides={"add:3333": 0}, flow=many).result() == answer - 3333
    assert log.log.position() - before < 10


def test_the_export_of_a_fork_takes_along_what_it_shares_however_many_steps_back(log, tmp_path):
    answer = crawl(2)
    fork = last(log).fork(flow=crawl).fork(flow=crawl)
    log.export(tmp_path / "file", [fork])
    with pluperfect.open("memory:", entry_points=False) as other:
        other.import_runs(tmp_path / "file")
        assert len(other.runs(roots=True)) == 3
        assert other.verify().findings == ()
        again = other.run(fork.id)
        assert again.result() == answer
        assert list(places(again.at(3), shared=True)) == list(places(fork.at(3), shared=True))


def test_a_fork_whose_beginning_is_gone_is_found_and_goes_no_further(log, tmp_path):
    from pluperfect.records import open_row

    crawl(2)
    parent = last(log)
    fork = parent.fork(flow=crawl)
    # What pruning the parent would leave: the records of the fork alone.
    with pluperfect.open("memory:", entry_points=False) as other:
        from pluperfect.hooks import Part

        entries = tuple(open_row(data).entry(log.log.blob) for data in log.log.records(fork.folded.id)[:-1])
        other.log.append((Part(fork.folded.id, fork.folded.id, 0, entries),), epoch=1).wait()
        (finding,) = other.verify().findings
        assert "was forked from run" in finding.what
        with pytest.raises(PluperfectError, match="is not in this log. A fork goes on only beside the run"):
            crawl.resume(fork.folded.id, {"n": 2})


@task
def rows(n):
    return list(range(n))


@flow
def listed(n):
    first = [fetch(row) for row in rows(n)]
    second = [future.result() for future in fetch.map(rows(n))]
    return first + second


@pytest.mark.parametrize(
    "override", [{}, {"rows:0": [1, 2]}, {"rows:0": []}, {"rows:0": [2, 1, 0, 3]}, {"rows:1": [2]}, {"fetch:1": 5}]
)
def test_a_fork_replays_as_the_same_under_the_code_that_made_it_wherever_and_whatever_was_set(log, override):
    listed(3)
    run = last(log, "listed")
    for number in range(0, len(run.events) + 1, 3):
        fork = run.fork(number, override, flow=listed)
        assert log.replay(fork, listed).outcome == "same", f"{number} {fork!r}"


def test_a_fork_of_a_fork_replays_as_the_same_under_the_code_that_made_it(log):
    listed(3)
    first = last(log, "listed").fork(overrides={"rows:0": [0, 2]}, flow=listed)
    second = first.fork(overrides={"fetch:2": 7}, flow=listed)
    third = second.fork(len(second.events) // 2, flow=listed)
    assert [log.replay(one, listed).outcome for one in (first, second, third)] == ["same"] * 3

    @flow(name="listed")
    def other(n):
        return [fetch(row + 1) for row in rows(n)]

    assert {log.replay(one, other).outcome for one in (first, second, third)} == {"diverged"}


def test_the_events_of_a_run_are_the_same_whenever_they_are_read(log):
    @task
    def one():
        return 1

    @flow
    def whole():
        return one()

    whole()
    first, again = log.run("whole").events, log.run("whole").events
    assert first == again
    assert len({*first, *again}) == len(first)
    assert [event.after for event in reversed(first)] == [event.after for event in again][::-1]
    assert first[0] != first[1]

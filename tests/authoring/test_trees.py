"""A tree of runs, event by event."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import pluperfect
from pluperfect import Retrying, flow, task
from pluperfect.authoring.cli import main
from pluperfect.errors import UnknownRun
from pluperfect.places import find_place, full_place, places
from pluperfect.testing import FakeClock
from pluperfect.trees import due_at


@task(retries=1, retry_delay_seconds=60)
def fetch(page):
    if page == 1:
        raise ConnectionError("page 1")
    return page


@task
def total(pages):
    return sum(pages)


@flow
def part(n):
    return total([fetch(0), n])


@flow
def crawl(n):
    pages = [fetch.submit(i).result(raise_on_failure=False) for i in range(n)]
    mapped = total.map([[1], [2]])
    return part(3), mapped[1].result(), len(pages)


@pytest.fixture
def run(log):
    crawl(2)
    return log.runs(name="crawl")[0]


def kinds(moment):
    return {place: run.state.kind for place, run in places(moment).items()}


def test_the_events_of_a_tree_are_the_entries_of_all_its_runs_in_the_order_of_the_log(run, log):
    events = run.events

    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [event.position for event in events] == sorted(event.position for event in events)
    assert [(e.run.id, e.entry) for e in events] == [(s.run, s.entry) for s in log.follow(timeout=0)]
    assert events[0].run == run


def test_a_tree_at_its_last_event_is_what_every_run_is_now(run):
    moment = run.at(len(run.events))

    assert moment.run.id == run.folded.id
    assert {one.id: one for one in moment.runs} == {
        found.folded.id: found.folded for found in {event.run for event in run.events}
    }
    assert (moment.running, moment.due, moment.waiting) == ((), (), ())


def test_a_tree_at_any_event_is_the_fold_of_the_events_up_to_it(run):
    for number in range(len(run.events) + 1):
        moment = run.at(number)
        lengths = {}
        for event in run.events[:number]:
            lengths[event.run] = event.entry.seq
        assert list(moment.runs) == [found.after(seq) for found, seq in lengths.items()]
        assert moment.event is None if number == 0 else moment.event.number == number


def test_what_ran_what_was_due_and_what_waited_is_told_for_every_moment(run):
    retrying = next(event for event in run.events if isinstance(event.state, Retrying))
    moment = run.at(retrying.number)

    assert [one.name for one in moment.due] == ["fetch-1"]
    assert due_at(moment.due[0]) == retrying.state.due
    assert [one.birth.name for one in moment.running] == ["crawl"]
    assert run.at(0).state is None
    assert run.at(0).runs == ()


def test_a_call_that_waits_for_another_names_it(log):
    @task
    def join(a):
        return a

    @flow
    def waits():
        first = fetch.submit(1)
        return join.submit(first).result(raise_on_failure=False)

    waits(return_state=True)
    tree = log.runs(name="waits")[0].tree
    seen = [
        [one.name for one in moment.blockers(waiting)]
        for moment in map(tree.at, range(len(tree.events)))
        for waiting in moment.waiting
        if waiting.birth.name == "join"
    ]
    assert seen
    assert all(names == ["fetch-0"] for names in seen[:-1])


def test_the_places_of_calls_are_numbered_within_their_caller_as_their_default_names_are(run):
    last = run.at(len(run.events))

    assert list(places(last)) == [
        "fetch:0",
        "fetch:1",
        "total:0",
        "total:1",
        "part:0",
        "part:0/fetch:0",
        "part:0/total:0",
    ]
    assert find_place(last, "total:1").name == "total-1"
    assert find_place(last, "part/fetch").birth.name == "fetch"
    with pytest.raises(UnknownRun, match=r"crawl.*made no call fetch:7|made no call fetch:7.*such as fetch:"):
        find_place(last, "fetch:7")


@given(st.integers(0, 9), st.integers(0, 3), st.text("abc-: 1", min_size=1, max_size=5))
def test_a_full_place_stays_as_it_is(number, generation, name):
    text = full_place(f"{name}:{number}" + (f"@{generation}" if generation else ""))
    assert full_place(text) == text


def test_what_is_no_place_is_refused():
    for text in ("", "a//b", "/a"):
        with pytest.raises(ValueError, match="no place of a call"):
            full_place(text)


def test_the_calls_of_a_body_that_is_begun_anew_have_its_generation(log):
    tried = []

    @flow(retries=1)
    def again():
        tried.append(fetch(0))
        if len(tried) == 1:
            raise ConnectionError("once")

    again()
    run = log.runs(name="again")[0]
    assert list(places(run.at(len(run.events)))) == ["fetch:0", "fetch:0@1"]


def test_a_number_beyond_the_tree_is_refused(run):
    with pytest.raises(IndexError, match=f"has {len(run.events)} events; 999 is not among 0 to"):
        run.at(999)
    with pytest.raises(IndexError, match="-1 is not among"):
        run.at(-1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=4), st.data())
def test_the_digest_of_a_beginning_is_that_of_no_other(pages, data):
    @flow
    def some(these):
        for page in these:
            fetch(page, return_state=True)

    with pluperfect.open("memory:", clock=FakeClock(), entry_points=False) as log:
        some(pages)
        tree = log.runs(name="some")[0].tree
    digests = [tree.digest(n) for n in range(len(tree.events) + 1)]
    assert len(set(digests)) == len(digests)


# --- the commands


@pytest.fixture
def cli(tmp_path):
    store = f"lmdb:{tmp_path / 'runs'}"
    with pluperfect.open(store, clock=FakeClock(), entry_points=False):
        crawl(2)

    def call(*words, code=0):
        result = CliRunner().invoke(main, ["--store", store, *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return call


def test_show_events_numbers_what_show_at_takes(cli):
    events = json.loads(cli("show", "crawl", "--events", "--json"))
    lines = cli("show", "crawl", "--events").splitlines()

    assert len(lines) == len(events)
    retrying = next(event for event in events if event["entry"].get("to", {}).get("kind") == "Retrying")
    assert "fetch:1" in lines[retrying["event"] - 1]
    assert "Retrying" in lines[retrying["event"] - 1]
    shown = cli("show", "crawl", "--at", str(retrying["event"]))
    assert f"after event {retrying['event']} of {len(events)}: Running" in shown
    assert "due:     fetch:1 at" in shown
    assert "part:0" not in shown
    there = json.loads(cli("show", "crawl", "--at", str(retrying["event"]), "--json"))
    assert [row["call"] for row in there["due"]] == ["fetch:1"]
    assert [child["state"]["kind"] for child in there["children"]] == ["Completed", "Retrying"]
    assert len(there["children"][1]["history"]) == 3


def test_show_at_a_number_that_is_not_there_is_a_wrong_use(cli):
    assert "is not among 0 to" in cli("show", "crawl", "--at", "999", code=2)
    assert "is not among 0 to" in cli("show", "crawl", "--events", "--at", "-1", code=2)

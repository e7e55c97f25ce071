"""Two runs side by side, and the commands that fork, compare, and call a body again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pluperfect import flow, task

broken = set()


@pytest.fixture(autouse=True)
def _nothing_is_broken():
    broken.clear()


@task(retries=1)
def fetch(page):
    if page in broken:
        raise ConnectionError(f"page {page}")
    return page * 10


@task
def add(a, b):
    return a + b


@flow
def crawl(n, scale=1):
    pages = [fetch.submit(i * scale) for i in range(n)]
    total = 0
    for page in pages:
        total = add(total, page)
    return total


def last(log, number=0):
    return log.runs(name="crawl")[number]


def test_two_runs_that_did_the_same_do_not_differ(log):
    crawl(3)
    crawl(3)
    found = last(log).diff(last(log, 1))

    assert (found.first, found.calls, found.same) == (None, (), 6)
    assert found.took == (0.0, 0.0)


def test_inputs_and_results_that_differ_are_named_by_call_and_references_are_compared_by_place(log):
    crawl(2)
    crawl(2, 2)
    found = last(log, 1).diff(last(log))

    assert [call.place for call in found.calls] == ["", "fetch:1", "add:1"]
    assert found.calls[0].inputs == {"scale": ("1", "2")}
    assert found.calls[1].inputs == {"page": ("1", "2")}
    assert found.calls[1].results == ("10", "20")
    assert found.calls[2].inputs == {}
    assert found.same == 2
    assert (found.place, [event.number for event in found.first]) == ("", [1, 1])


def test_the_first_differing_event_is_the_earliest_of_all_calls(log, clock):
    crawl(3)
    broken.add(1)
    crawl(3, return_state=True)
    found = last(log, 1).diff(last(log))

    assert found.place == "fetch:1"
    assert [event.state.kind for event in found.first] == ["Completed", "Retrying"]
    differ = {call.place: call for call in found.calls}
    assert differ["fetch:1"].results == ("10", "Failed 'ConnectionError: page 1'")
    assert differ["add:2"].runs[1] is None


def test_a_fork_and_what_it_was_forked_from_part_at_the_override(log):
    crawl(3)
    run = last(log)
    fork = run.fork(overrides={"fetch:1": 500}, flow=crawl)
    found = run.diff(fork)

    assert found.place == "fetch:1"
    assert [call.place for call in found.calls] == ["", "fetch:1", "add:1", "add:2"]
    assert found.calls[2].inputs == {}
    assert found.calls[3].inputs == {"a": ("10", "500")}
    assert found.same == 3
    assert fork.diff(run).place == "fetch:1"


# --- the commands

PROGRAM = """
import sys
import pluperfect
from pluperfect import flow, task

@task
def fetch(page):
    print("fetch", page)
    if page == 1:
        raise ConnectionError("page 1")
    return page * 10

@flow
def crawl(n):
    return sum(fetch(page) for page in range(n))

if __name__ == "__main__":
    with pluperfect.open("runs"):
        crawl(3, return_state=True)
"""


@pytest.fixture
def cli(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def call(*words, code=0):
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "PLUPERFECT_LOGGING_LEVEL": "CRITICAL"}
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, env=env)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code != 2 else done.stderr

    call("program.py")
    return lambda *words, code=0: call("-m", "pluperfect", "--store", "runs", *words, code=code)


def test_a_failed_run_is_forked_with_what_it_lacked_and_held_against_the_failed_one(cli):
    failed = json.loads(cli("runs", "--json"))[0]["id"]
    made = json.loads(cli("fork", failed, "--set", "fetch:1=7", "--json"))
    assert (made["state"], made["forked"]["run"]) == ("Completed", failed)
    shown = cli("diff", made["id"])
    assert "first differing event: fetch:1" in shown
    assert "fetch:2: not called" in shown
    told = json.loads(cli("diff", failed, made["id"], "--json", "--exit-code", code=1))
    assert [call["place"] for call in told["calls"]] == ["", "fetch:1", "fetch:2"]
    cli("test-from", made["id"], "-o", "test_fork.py")
    assert cli("replay", made["id"], code=0)
    assert "Failed" in cli("fork", failed, "--fail", "fetch:0=no", code=1)


def test_wrong_uses_say_what_is_wrong(cli):
    assert "is not PLACE=JSON" in cli("fork", "crawl", "--set", "fetch", code=2)
    assert "is no JSON" in cli("fork", "crawl", "--set", "fetch=x", code=2)
    assert "is not among 0 to" in cli("fork", "crawl", "--at", "99", code=2)
    assert "no place of a call" in cli("fork", "crawl", "--set", "=1", code=2)
    assert "is no fork. Name the run" in cli("diff", "crawl", code=2)
    assert "There is no run 'nobody'" in cli("diff", "crawl", "nobody", code=2)
    assert "go with one RUN" in cli("replay", "--all", "--task", "fetch", code=2)
    assert "is not NAME=JSON" in cli("replay", "crawl", "--task", "fetch", "--input", "page", code=2)
    assert "made no call fetch:9" in cli("replay", "crawl", "--task", "fetch:9", code=2)
    assert "has no attempt 4" in cli("replay", "crawl", "--task", "fetch:0", "--attempt", "4", code=2)


def test_one_body_is_called_again_from_the_command_line(cli):
    shown = cli("replay", "crawl", "--task", "fetch:1")
    assert "page = 1" in shown
    assert "the same" in shown
    assert 'raise ConnectionError("page 1")' in shown
    told = json.loads(cli("replay", "crawl", "--task", "fetch", "--input", "page=5", "--json", code=1))
    assert (told["same"], told["recorded"], told["now"]) == (False, "Completed: 0", "Completed: 50")

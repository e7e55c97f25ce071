"""Stepping through a run, by lines and by keys, and the expressions that look for events."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.authoring.cli import main
from pluperfect.runtime import task_run
from pluperfect.testing import FakeClock
from pluperfect_plugins.expressions import BadExpression, Expression
from pluperfect_plugins.stepping import NAMES, Stepper, values_of


@task(retries=1)
def fetch(page, tags=()):
    if page == 1:
        raise ConnectionError(f"page {page}")
    return {"page": page}


@task
def count(up_to):
    if task_run.loop_count < up_to:
        raise LOOP("again", result=task_run.loop_count)
    return up_to


@flow
def crawl(n):
    for page in range(n):
        fetch(page, return_state=True)
    return count(2)


@pytest.fixture
def store(tmp_path):
    store = f"lmdb:{tmp_path / 'runs'}"
    with pluperfect.open(store, clock=FakeClock(), entry_points=False):
        crawl(2)
    return store


@pytest.fixture
def step(store):
    def call(lines, *words, code=0):
        result = CliRunner().invoke(main, ["--store", store, "step", "crawl", *words], input="\n".join(lines))
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return call


@pytest.fixture
def stepper(store):
    with pluperfect.open(store, entry_points=False) as log:
        said = []
        yield Stepper(log.run("crawl"), said.append), said


def test_forward_to_the_end_and_back_shows_every_event_twice_but_the_last(stepper):
    stepper, said = stepper
    total = len(stepper.tree.events)
    for _ in range(total + 1):
        stepper.do("n")
    heads = [line for line in said if line.startswith("event ")]
    assert [int(line.split()[1]) for line in heads] == list(range(1, total + 1))
    assert said[-1] == "This is the last event."
    del said[:]
    for _ in range(total + 1):
        stepper.do("p")
    heads = [line for line in said if line.startswith("event ")]
    assert [int(line.split()[1]) for line in heads] == list(range(total - 1, 0, -1))
    assert said[-2:] == [f"before the first of {total} events: the run is not born", "This is before the first event."]


def test_an_event_stands_beside_its_line_its_inputs_its_verdict_and_what_went_on(step):
    shown = step(["v"], "--until", "by == 'retries'")

    assert "recorded  Retrying error, due" in shown
    assert "asked     Failed 'ConnectionError: page 1'" in shown
    assert "by        retries: retry 1 of 1" in shown
    assert "test_stepping:" in shown
    assert "fetch(page, return_state=True)" in shown
    assert "input     page = 1" in shown
    assert "due       fetch:1 at" in shown
    assert "running   " in shown
    assert 'raise ConnectionError(f"page {page}")' in shown


def test_results_and_payloads_stand_beside_what_brought_them(step):
    assert "payload   1" in step([], "--until", "state == 'Looped'")
    assert "result    {'page': 0}" in step([], "--until", "state == 'Completed'")


def test_a_search_goes_on_and_back_and_is_repeated(stepper):
    stepper, said = stepper
    stepper.do("f state == 'Running' and name == 'fetch'")
    first = stepper.number
    stepper.do(".")
    second = stepper.number
    assert second > first
    stepper.do("b name == 'fetch' and state == 'Running'")
    assert stepper.number == first
    stepper.do("b name == 'nobody'")
    assert stepper.number == first
    assert said[-1] == "No event before this one has: name == 'nobody'"


def test_what_cannot_be_done_is_said_and_the_place_is_kept(stepper):
    stepper, said = stepper
    for command, told in [
        ("fly", "There is no command 'fly'"),
        ("g x", "g takes the number of an event"),
        ("g 999", "There is no event 999"),
        (".", "Nothing was looked for yet"),
        ("f sate == 'Failed'", "Did you mean state?"),
        ("f", "There is no expression."),
    ]:
        assert stepper.do(command)
        assert told in said[-1]
        assert stepper.number == 0
    assert stepper.do("h")
    assert stepper.do("g -1")
    assert stepper.number == len(stepper.tree.events)
    assert not stepper.do("q")


def test_a_wrong_start_is_a_wrong_use(step):
    assert "is not among 0 to" in step([], "--at", "999", code=2)
    assert "There is no 'x'" in step([], "--until", "x", code=2)


def test_in_a_terminal_single_keys_lead_through(store):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pluperfect", "--store", store, "step", "crawl"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = ""
    for key, expected in [("\x1b[C", "event 2 of"), ("n", "event 3 of"), ("\x1b[D", "event 2 of"), ("q", "")]:
        while not re.search(r"\(\d+/\d+\) $", seen):  # the prompt: keys that come before it are dropped
            seen += os.read(ours, 4096).decode()
        seen = ""
        os.write(ours, key.encode())
        while expected not in seen:
            seen += os.read(ours, 4096).decode()
    assert running.wait(20) == 0
    os.close(ours)


# --- expressions


def test_every_name_has_a_value_at_every_event(stepper):
    stepper, _ = stepper
    for event in stepper.tree.events:
        assert tuple(values_of(event, {})) == NAMES


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from(["", "a", "b"]), st.sampled_from(["", "a", "b"]))
def test_an_expression_means_what_it_means_in_python(n, m, a, b):
    values = {"n": n, "m": m, "a": a, "b": b}
    for text in (
        "n == m",
        "n < m <= 3 or a != b",
        "not a and n in [1, 2, -3]",
        "a in b and (n > -2 or m is None)",
        "a not in ('a', 'b')",
        "n is not None",
    ):
        assert Expression(text, tuple(values))(values) == bool(eval(text, {}, dict(values)))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "name.__class__",
        "name[0]",
        "(lambda: 1)()",
        "[n for n in name]",
        "f'{name}'",
        "n + 1",
        "n ** 99999999",
        "(n := 3)",
        "name if n else name",
        "b'bytes'",
        "1j",
        "*name",
        "n;n",
        "",
        "(" * 900,
        "not " * 249 + "n " + "#" * 1000,
    ],
)
def test_what_is_no_comparison_of_names_is_refused(text):
    with pytest.raises(BadExpression):
        Expression(text, NAMES)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(BadExpression, match="'<' not supported"):
        Expression("name < 3", NAMES)({"name": "x"})


def test_an_event_that_is_not_there_is_said_to_be_none_and_an_assignment_to_be_no_comparison(step):
    told = step(["g 99", "g -99", "f call = 'fetch:0'", "q"])
    assert "There is no event 99: they are numbered from 0, before the first, to " in told
    assert "There is no event -99" in told
    assert "two things are compared with ==" in told

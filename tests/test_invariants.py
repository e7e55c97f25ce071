"""Every promise has a checker; each checker can fail; a busy log keeps them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import checkers
import pluperfect
from pluperfect import LOOP, Verdict, flow, hookimpl, task
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import Refused
from pluperfect.runtime import task_run
from pluperfect.testing import FakeClock

DOCUMENT = (Path(__file__).parents[1] / "specs" / "invariants.md").read_text()


def test_every_promise_has_a_checker_of_its_number():
    numbers = [int(n) for n in re.findall(r"^## (\d+)\. ", DOCUMENT, re.MULTILINE)]

    assert numbers == list(range(1, 10))
    assert set(checkers.PROMISES) == set(numbers)
    for number in numbers:
        section = DOCUMENT.split(f"## {number}. ")[1].split("\n## ")[0]
        assert f"`promise_{number}`" in section or "later release" in section


class Moody:
    @hookimpl
    def review(self, run, proposal, definition):
        if definition is None or definition.name != "moody" or not proposal.to.is_running():
            return None
        return Verdict(delay=5, why="not yet") if run.ruling is None else Verdict(refuse="not ever")


@task(retries=3, retry_delay_seconds=[1, 5], retry_jitter_factor=0.4)
def shaky():
    if task_run.run_count < 3:
        raise ConnectionError(task_run.run_count)
    if task_run.loop_count < 3:
        raise LOOP("again", result={"n": task_run.loop_count})
    return task_run.loop_count


@task(cache_policy=INPUTS)
def square(x):
    return x * x


@task
def moody():
    return 1


@task(retries=2, retry_condition_fn=lambda task, run, state: run.attempt < 2)
def hopeless():
    raise ValueError("no")


@flow(retries=1)
def busy():
    shaky()
    square.map([1, 2, 3, 1]).wait()
    square(1)
    with pytest.raises(Refused):
        moody()
    hopeless()


@pytest.fixture(params=["memory:", "lmdb:runs"])
def busy_log(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pluperfect.open(request.param, plugins=[Moody()], clock=FakeClock(), entry_points=False) as log:
        with pytest.raises(ValueError, match="no"):
            busy()
        busy_again = busy.with_options(idempotency_key="k")
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                busy_again()
        log.flush()
        yield log


@pytest.mark.parametrize("number", sorted(set(checkers.PROMISES) - {2}))
def test_a_busy_log_keeps_the_promise(busy_log, number):
    checkers.PROMISES[number](busy_log.log)


def test_a_checker_of_what_was_acknowledged_misses_nothing(busy_log):
    root = busy_log.runs(roots=True)[0].folded
    checkers.promise_2(busy_log.log, [(root.id, root.seq)])

    with pytest.raises(AssertionError):
        checkers.promise_2(busy_log.log, [(root.id, root.seq + 1)])
    with pytest.raises(AssertionError):
        checkers.promise_2(busy_log.log, [(bytes(16), 1)])


def test_a_rule_that_judges_otherwise_is_found(busy_log, monkeypatch):
    from pluperfect_plugins import retries

    monkeypatch.setattr(retries, "jittered", lambda base, factor, chance: base * 3)

    with pytest.raises(AssertionError):
        checkers.promise_6(busy_log.log)


def test_a_reader_that_decodes_is_found(busy_log, monkeypatch):
    from pluperfect.histories import RecordedRun

    monkeypatch.setattr(
        RecordedRun, "__repr__", lambda self: str(self.parameters or self.result(raise_on_failure=False))
    )

    with pytest.raises(AssertionError, match="decoded"):
        checkers.promise_9(busy_log.log)

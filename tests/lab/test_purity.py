"""What a rule may not do is found wherever it does it; what it may do is left alone."""

import gc
import logging
import os
import random
import secrets
import sys
import threading
import time
import uuid
from datetime import UTC, date, datetime
from time import time as now_by_another_name

import pytest

from pluperfect import Running, Verdict
from pluperfect.errors import ImpureRule
from pluperfect.purity import watched
from pluperfect.rules import draw
from pluperfect.testing.rules import ask, running


def rule_of(act):
    def made(run, proposal):
        act(run, proposal)

    return made


class Sneaky(datetime):
    pass


IMPURE = {
    "time": lambda run, proposal: time.time(),
    "another name": lambda run, proposal: now_by_another_name(),
    "monotonic": lambda run, proposal: time.monotonic(),
    "now": lambda run, proposal: datetime.now(UTC),
    "today": lambda run, proposal: date.today(),
    "a subclass": lambda run, proposal: Sneaky.now(),
    "random": lambda run, proposal: random.random(),
    "choice": lambda run, proposal: random.choice([1, 2]),
    "secrets": lambda run, proposal: secrets.token_hex(),
    "uuid": lambda run, proposal: uuid.uuid4(),
    "environment": lambda run, proposal: os.environ.get("HOME"),
    "getenv": lambda run, proposal: os.getenv("HOME"),
    "sleep": lambda run, proposal: time.sleep(0),
    "read": lambda run, proposal: open(__file__).read(),
    "write": lambda run, proposal: open("anything", "w"),
    "process": lambda run, proposal: os.system("true"),
    "sorted by chance": lambda run, proposal: sorted([1, 2], key=lambda _: random.random()),
}

PURE = {
    "the time that is given": lambda run, proposal: datetime.fromtimestamp(proposal.at, UTC).hour,
    "a date of its own": lambda run, proposal: datetime(2026, 11, 20, tzinfo=UTC).weekday(),
    "a draw": lambda run, proposal: draw(run),
    "a seeded generator": lambda run, proposal: random.Random(7).random(),
    "logging": lambda run, proposal: logging.getLogger("tests.rules").warning("seen"),
    "printing": lambda run, proposal: print("seen"),
    "a late import": lambda run, proposal: __import__("colorsys"),
    "time as text": lambda run, proposal: time.gmtime(proposal.at),
}


@pytest.mark.parametrize("act", IMPURE.values(), ids=IMPURE)
def test_what_no_rule_may_do_is_named_with_its_line(act):
    with pytest.raises(ImpureRule, match="Rule 'made' is not pure") as caught:
        ask(rule_of(act), running(), Running())
    assert f"{__file__}:{act.__code__.co_firstlineno} tries to" in str(caught.value)


@pytest.mark.parametrize("act", PURE.values(), ids=PURE)
def test_what_a_rule_may_do_is_left_alone(act):
    assert ask(rule_of(act), running(), Running()) is None


def test_an_answer_that_differs_the_second_time_is_shown_with_the_first():
    answers = iter([Verdict(refuse="one"), Verdict(refuse="two")])

    def fickle(run, proposal):
        return next(answers)

    with pytest.raises(ImpureRule, match=r"(?s)asked twice about Running attempt 1 -> Running.*'one'.*'two'"):
        ask(fickle, running(), Running())


def test_the_profiler_and_the_collector_are_given_back():
    def mine(frame, event, arg):
        return None

    was = gc.isenabled()
    sys.setprofile(mine)
    try:
        with watched("any"):
            pass
        with pytest.raises(ImpureRule), watched("any"):
            time.time()
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)
    assert gc.isenabled() == was


def test_other_threads_may_do_what_they_like():
    stop, count = threading.Event(), []

    def busy():
        while not stop.is_set():
            time.time()
            os.environ.get("HOME")
            count.append(1)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(200):
            ask(rule_of(PURE["a draw"]), running(), Running())
    finally:
        stop.set()
        thread.join()
    assert count

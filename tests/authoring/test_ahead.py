"""Recorded calls are read before they are made again, and answer all the same as if each had been looked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pluperfect
from dying import Dies
from pluperfect import flow, task
from pluperfect.errors import RuleError
from pluperfect.testing import FakeClock


def opened(store, *plugins):
    return pluperfect.open(store, plugins=plugins, clock=FakeClock(), entry_points=False)


def led(called):
    """A flow that makes these calls, and the bodies that were carried out for it."""
    made = []

    @task
    def step(i):
        made.append(i)
        return [i]

    @task
    def other(i):
        made.append(-i)
        return [-i]

    @flow(idempotency_key="once", durability="lazy", on_divergence="rerun")
    def whole(calls):
        return [other(-i) if i < 0 else step(i) for i in called]

    return whole, made


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_resumed_body_gets_each_recorded_answer_whatever_calls_its_code_makes_by_now(tmp_path_factory, data):
    store = f"lmdb:{tmp_path_factory.mktemp('ahead') / 'runs'}"
    before = data.draw(st.lists(st.integers(-3, 3).filter(bool), max_size=150), label="calls")
    whole, made = led(before)
    proposals = 2 + 3 * len(before)
    with opened(store, Dies(data.draw(st.integers(2, max(2, proposals - 1)), label="proposals until it dies"))):
        try:
            whole(0)
        except RuleError:
            pass
    kept = data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)), label="calls that are kept")
    fewer = [call for call, keep in zip(before, kept, strict=True) if keep]
    now = data.draw(st.sampled_from([before, fewer]), label="calls of the code of today")
    again, more = led(now)
    with opened(store) as log:
        assert again(0) == [[i] for i in now]
        assert log.compare() == []
    if now == before:
        assert len(made) + len(more) - len(before) in (0, 1)  # the body that was under way when it died is called again


def test_a_call_that_was_under_way_is_looked_for_when_it_is_made_and_goes_on(tmp_path):
    store, attempts = f"lmdb:{tmp_path / 'runs'}", []

    @task(retries=1)
    def fails_once(i):
        attempts.append(i)
        if i == 3 and attempts.count(3) == 1:
            raise ValueError("once")
        return i

    @flow(idempotency_key="once", durability="lazy")
    def whole():
        return [fails_once(i) for i in range(6)]

    with opened(store, Dies(2 + 3 * 3 + 3)), pytest.raises(RuleError):
        whole()
    assert attempts == [0, 1, 2, 3]
    with opened(store) as log:
        assert whole() == [0, 1, 2, 3, 4, 5]
        assert [child.folded.attempt for child in log.run("whole").children] == [1, 1, 1, 2, 1, 1]
    assert attempts == [0, 1, 2, 3, 3, 4, 5]


class Counting:
    """A log that counts how often it was asked for the records of runs."""

    def __init__(self, log):
        self.asked = 0
        self._log = log

    def __getattr__(self, name):
        return getattr(self._log, name)

    def records(self, *given):
        self.asked += 1
        return self._log.records(*given)

    def called(self, *given):
        self.asked += 1
        return self._log.called(*given)


def test_a_body_that_made_many_calls_is_led_again_with_few_looks_into_the_log(tmp_path):
    store, n = f"lmdb:{tmp_path / 'runs'}", 500

    @task
    def step(i):
        return i

    @flow(idempotency_key="once", durability="lazy")
    def whole():
        return sum(step(i) for i in range(n))

    with opened(store, Dies(2 + 3 * n)), pytest.raises(RuleError):
        whole()
    with opened(store) as log:
        log.log = counting = Counting(log.log)
        assert whole() == sum(range(n))
        assert counting.asked < n / 20


def test_calls_of_earlier_attempts_do_not_keep_those_of_this_one_from_being_read_ahead(tmp_path):
    store, n, attempts = f"lmdb:{tmp_path / 'runs'}", 150, []

    @task
    def step(i):
        return i

    @flow(idempotency_key="once", durability="lazy", retries=3)
    def whole():
        attempts.append(1)
        total = sum(step(i) for i in range(n))
        if len(attempts) < 3:
            raise ValueError("again")
        return total

    proposals = 7 * n  # three for each call of the first attempt, two for each of the others
    with opened(store, Dies(proposals)), pytest.raises(RuleError):
        whole()
    with opened(store) as log:
        log.log = counting = Counting(log.log)
        assert whole() == sum(range(n))
        assert counting.asked < n / 5

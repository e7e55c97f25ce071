"""The retry rule alone: pure, within its budget, with delays as they were given."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.hooks import Definition
from pluperfect.rules import Proposal, Verdict
from pluperfect.states import Completed, Failed, Pending, Retrying, Running, Spec, TimedOut
from pluperfect.transitions import Facts, Run
from pluperfect_plugins.retries import base_delay, jittered, options, review

SPEC = Spec("task", "t", "t", "t-0", bytes(16))
CHECKS = {option.name: option.check for option in options("task")}


def judged(to, *, spent=0, facts=None, **given_options):
    checked = {name: CHECKS[name](value) for name, value in given_options.items()}
    run = Run(bytes(16), 5, Running(), SPEC, attempt=spent + 1, spent=spent)
    return review(run, Proposal(to, 100.0, facts or Facts()), Definition("task", "t", fn=print, options=checked))


@given(st.integers(0, 5), st.integers(0, 8))
def test_a_failure_is_retried_while_the_budget_lasts(retries, spent):
    verdict = judged(Failed(), retries=retries, spent=spent)

    if spent < retries:
        assert isinstance(verdict.to, Retrying)
        assert verdict.why == f"retry {spent + 1} of {retries}"
        assert verdict.to.due == 100.0
    else:
        assert verdict is None


@pytest.mark.parametrize("cause", ["crashed", "cancelled", "upstream", "in_doubt", "refused", "validation", "children"])
def test_what_another_attempt_cannot_mend_is_not_retried(cause):
    assert judged(Failed(cause=cause), retries=3) is None
    assert judged(Completed(), retries=3) is None


def test_a_flow_that_failed_through_its_children_is_retried():
    spec = Spec("flow", "f", "f", "f-0", bytes(16))
    run = Run(bytes(16), 5, Running(), spec, attempt=1)
    proposal = Proposal(Failed(cause="children"), 100.0)

    assert review(run, proposal, Definition("flow", "f", fn=print, options={"retries": 1})).to.cause == "returned"


def test_the_cause_says_what_ended_the_attempt():
    assert judged(TimedOut(), retries=1).to.cause == "timeout"
    assert judged(Failed(cause="returned"), retries=1).to.cause == "returned"


def test_only_a_running_run_is_retried():
    run = Run(bytes(16), 1, Pending(spec=SPEC), SPEC)

    assert review(run, Proposal(Failed(), 1.0), Definition("task", "t", fn=print, options={"retries": 3})) is None


def test_a_condition_is_asked_for_once_and_only_a_yes_counts():
    condition = print

    assert judged(Failed(), retries=1, retry_condition_fn=condition) == Verdict(ask="retry_condition_fn")
    for answer, retried in ((True, True), (1, True), (False, False), (None, False), ({"raised": "x"}, False)):
        verdict = judged(
            Failed(), retries=1, retry_condition_fn=condition, facts=Facts(answers={"retry_condition_fn": answer})
        )
        assert (verdict is not None) == retried


@given(st.lists(st.floats(0, 1e6), max_size=6), st.integers(0, 9))
def test_a_list_of_delays_goes_on_with_its_last(delays, spent):
    expected = delays[min(spent, len(delays) - 1)] if delays else 0.0

    assert base_delay(tuple(delays), 10, spent) == expected


def test_a_callable_is_asked_once_with_the_retries():
    asked = []

    def delays(retries):
        asked.append(retries)
        return [1.0] * retries

    assert [base_delay(delays, 3, spent) for spent in range(3)] == [1.0] * 3
    assert asked == [3]


def test_two_callables_by_turns_are_asked_once_each():
    asked = []
    one, two = (lambda n: asked.append(1) or 5.0), (lambda n: asked.append(2) or 7.0)

    assert [base_delay(fn, 3, spent) for spent in range(3) for fn in (one, two)] == [5.0, 7.0] * 3
    assert asked == [1, 2]


def test_a_callable_that_gives_bad_delays_is_found_out_at_birth_and_not_after_the_first_failure():
    definition = Definition("task", "t", fn=print, options={"retries": 2, "retry_delay_seconds": lambda n: [1.0] * 51})

    with pytest.raises(ValueError, match="more than 50 retry delays"):
        review(Run(bytes(16)), Proposal(Pending(spec=SPEC), 1.0), definition)


@pytest.mark.parametrize("given_delays", [5, [1, 7], None, [], lambda n: n, lambda n: [2.0] * n])
def test_good_delays_are_no_reason_to_object_to_a_birth(given_delays):
    definition = Definition("task", "t", fn=print, options={"retries": 2, "retry_delay_seconds": given_delays})

    assert review(Run(bytes(16)), Proposal(Pending(spec=SPEC), 1.0), definition) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=4), st.floats(0, 4), st.integers(0, 3))
def test_base_draw_and_due_are_recorded_and_agree(delays, factor, spent):
    waiting = judged(Failed(), retries=9, spent=spent, retry_delay_seconds=delays, retry_jitter_factor=factor).to
    base = delays[min(spent, len(delays) - 1)]

    assert waiting.delay == base
    assert (waiting.draw is None) == (not base or not factor)
    assert waiting.due == round(100.0 + (base if waiting.draw is None else jittered(base, factor, waiting.draw)), 6)


@given(st.integers(0, 2**51), st.floats(0.001, 1e5), st.floats(0, 4))
def test_whoever_reads_the_attempt_from_a_log_and_asks_again_is_told_the_same_due_time(micros, delay, factor):
    """A log keeps times to the microsecond; one retry is due when the next one's clock is read."""
    options = {"retries": 9, "retry_delay_seconds": delay, "retry_jitter_factor": factor}
    definition = Definition("task", "t", fn=print, options=options)
    at = micros / 1e6
    for spent in range(3):
        run = Run(bytes(16), 5, Running(), SPEC, attempt=spent + 1, spent=spent)
        first = review(run, Proposal(Failed(), at), definition)
        assert review(run, Proposal(Failed(), round(at * 1e6) / 1e6), definition) == first
        at = first.to.due


@given(st.floats(0.01, 1e4), st.floats(49, 1e6), st.floats(0, 1, exclude_max=True))
def test_jitter_without_measure_is_still_a_number(base, factor, chance):
    assert 0 <= jittered(base, factor, chance) <= base * (1 + factor)


@given(st.floats(0.01, 1e4), st.floats(0.01, 4), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_in_its_bounds(base, factor, chance):
    k = 1 + factor
    least = base * math.log2(2**k / (2**k - 1))

    assert least <= jittered(base, factor, chance) <= base * k or math.isclose(least, base * k)


def test_half_of_the_bounds_of_ten_seconds_and_one_half_are_6_3_and_15():
    delays = [jittered(10, 0.5, i / 1000) for i in range(1000)]

    assert round(min(delays), 1) == 6.3
    assert 14.9 < max(delays) <= 15
    assert 9.5 < statistics.mean(delays) < 10.5


def test_jitter_spreads_and_piles_nothing_up_on_its_bounds():
    delays = [jittered(10, 0.5, i / 1000) for i in range(1000)]

    assert delays == sorted(set(delays))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("retries", 1.5, TypeError),
        ("retries", True, TypeError),
        ("retries", -1, ValueError),
        ("retry_delay_seconds", -1, ValueError),
        ("retry_delay_seconds", "soon", TypeError),
        ("retry_delay_seconds", [1, "x"], TypeError),
        ("retry_delay_seconds", [1.0] * 51, ValueError),
        ("retry_delay_seconds", math.inf, ValueError),
        ("retry_delay_seconds", [math.nan], ValueError),
        ("retry_jitter_factor", -0.1, ValueError),
        ("retry_jitter_factor", math.inf, ValueError),
        ("retry_jitter_factor", "x", TypeError),
        ("retry_condition_fn", 5, TypeError),
    ],
)
def test_bad_options_are_refused(name, value, error):
    with pytest.raises(error, match=name):
        CHECKS[name](value)

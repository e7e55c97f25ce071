"""Caching as a program sees it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from pluperfect import flow, task
from pluperfect.cache_policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE
from pluperfect.testing import kinds


def counting(**options):
    """A task that doubles, and the list of its calls."""
    calls = []

    @task(name="double", **options)
    def double(x, y=0):
        calls.append((x, y))
        return [x * 2]

    return double, calls


def test_a_hit_cites_the_run_that_computed_it_and_gives_a_fresh_copy(log):
    double, calls = counting(cache_policy=INPUTS)

    first = double(1)
    first.append("changed by the caller")

    assert double(1) == [2]
    assert calls == [(1, 0)]
    hit, source = log.runs(name="double")
    assert kinds(hit) == ["Pending", "Cached"]
    assert hit.state.source == (bytes.fromhex(source.id.replace("-", "")), 3)
    assert hit.result() == [2]
    assert hit.transitions[1].by == "caching"
    assert hit.transitions[1].asked.kind == "Running"


def test_other_inputs_miss_and_the_parts_say_which_changed(log):
    double, calls = counting(cache_policy=INPUTS)

    double(1, y=1)
    double(1, y=2)

    assert len(calls) == 2
    one, other = (run.transitions[1].facts for run in log.runs(name="double"))
    assert one.key != other.key
    assert {name for name in one.parts if one.parts[name] != other.parts[name]} == {"input y"}


@pytest.mark.parametrize(
    ("policy", "second_is_made"),
    [
        (INPUTS, False),
        (INPUTS - "y", False),
        (INPUTS + TASK_SOURCE, False),
        (NO_CACHE, True),
        (INPUTS + RUN_ID, True),
        (DEFAULT, True),
    ],
)
def test_policies_between_two_flow_runs(log, policy, second_is_made):
    double, calls = counting(cache_policy=policy)
    whole = flow(name="whole")(lambda: double(1))

    whole()
    whole()

    assert len(calls) == (2 if second_is_made else 1)


def test_an_excluded_input_does_not_count(log):
    double, calls = counting(cache_policy=INPUTS - "y")

    double(1, y=1)
    double(1, y=2)

    assert calls == [(1, 1)]


def test_flow_parameters_are_a_key(log):
    double, calls = counting(cache_policy=FLOW_PARAMETERS)

    @flow
    def whole(n):
        return double(3)

    for n in (1, 1, 2):
        whole(n)
    assert len(calls) == 2


def test_run_id_hits_within_a_flow_run_only(log):
    double, calls = counting(cache_policy=RUN_ID + INPUTS)

    @flow
    def twice():
        return double(1), double(1)

    twice()
    twice()
    assert len(calls) == 2


def test_a_key_function_gets_context_and_arguments(log):
    seen = []

    def key(context, arguments):
        seen.append((context.task.name, context.task_run.name, dict(arguments)))
        return None if arguments["y"] else f"k{arguments['x']}"

    double, calls = counting(cache_key_fn=key)
    double(1)
    double(1)
    double(1, y=1)
    double(1, y=1)

    assert calls == [(1, 0), (1, 1), (1, 1)]
    assert seen[0] == ("double", "double", {"x": 1, "y": 0})
    assert log.runs(name="double")[-1].transitions[1].facts.key == "k1"


def test_results_expire_and_at_the_very_instant_it_is_a_miss(log, clock):
    double, calls = counting(cache_policy=INPUTS, cache_expiration=timedelta(minutes=1))

    double(1)
    clock.advance(59.9)
    double(1)
    assert len(calls) == 1
    clock.advance(0.1)
    double(1)
    assert len(calls) == 2


def test_refresh_makes_the_call_and_replaces_the_entry(log):
    double, calls = counting(cache_policy=INPUTS)
    double(1)
    double.with_options(refresh_cache=True)(1)
    double(1)

    assert len(calls) == 2
    newest, refreshed, _ = log.runs(name="double")
    assert newest.state.source[0].hex() == refreshed.id.replace("-", "")


def test_failures_are_never_hits(log):
    calls = []

    @task(cache_policy=INPUTS)
    def fails(x):
        calls.append(x)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            fails(1)
    assert calls == [1, 1]


def test_an_input_that_cannot_be_hashed_means_no_cache_and_the_reason_is_on_record(log):
    double, calls = counting(cache_policy=INPUTS)

    class Odd:
        def __mul__(self, other):
            return 4

    odd = Odd()
    odd.self = odd
    double(odd)
    double(odd)

    assert len(calls) == 2
    assert "x" in log.runs(name="double")[0].transitions[1].facts.uncached


def test_large_results_are_kept_once_and_named_by_both_runs(log):
    @task(cache_policy=INPUTS)
    def large(x):
        return "x" * 100_000

    large(1)
    assert large(1) == "x" * 100_000
    hit, source = log.runs(name="large")
    assert hit.state.data.digest == source.state.data.digest
    assert hit.state.data.held is None
    assert hit.result() == "x" * 100_000


def test_structured_inputs_are_compared_by_value(log):
    @dataclasses.dataclass
    class Point:
        x: int
        tags: set

    calls = []

    @task(cache_policy=INPUTS)
    def at(point):
        calls.append(point)

    at(Point(1, {"a", "b"}))
    at(Point(1, {"b", "a"}))
    at(Point(2, set()))
    assert len(calls) == 2


def test_persist_result_false_records_no_result_and_disables_the_cache(log):
    calls = []

    @task(persist_result=False)
    def secret():
        calls.append(1)
        return "secret"

    assert secret() == "secret"
    with pytest.raises(Exception, match="persist_result=False"):
        log.runs()[0].result()


async def _key_later(context, arguments):
    return "never awaited"


@pytest.mark.parametrize("ask", [lambda context, arguments: 5, lambda context, arguments: "", _key_later])
def test_a_key_function_that_gives_no_string_is_logged_and_the_call_is_made_uncached(log, caplog, ask):
    double, calls = counting(cache_key_fn=ask)

    assert [double(1), double(1)] == [[2], [2]]
    assert len(calls) == 2
    assert "no string" in caplog.text
    assert "must give a string" in log.runs(name="double")[0].transitions[1].facts.uncached
    assert [kinds(run) for run in log.runs()] == [["Pending", "Running", "Completed"]] * 2

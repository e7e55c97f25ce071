"""Results that answer later calls: ``cache_for`` and its validators, ``target``, ``checkpoint``."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from pluperfect.classic import Flow, Parameter, task
from pluperfect.classic.engine import cache_validators as validators
from pluperfect.classic.engine.results import LocalResult, PrefectResult

HOUR = timedelta(hours=1)


def squares(calls, **options):
    @task(name="squares", **options)
    def squares(x, y=0):
        calls.append(x)
        return x * x

    with Flow("kept") as flow:
        found = squares(Parameter("x"), Parameter("y", default=0))
    return lambda **given: flow.run(**given).result[found]


def test_by_default_a_kept_result_answers_whatever_the_inputs_are(log):
    calls = []
    run = squares(calls, cache_for=HOUR)
    assert run(x=2).result == 4
    again = run(x=3)
    assert (again.is_cached(), again.result, calls) == (True, 4, [2])


def test_a_kept_result_grows_too_old(log, clock):
    calls = []
    run = squares(calls, cache_for=HOUR)
    run(x=2)
    clock.advance(3599)
    assert run(x=3).is_cached()
    clock.advance(2)
    assert (run(x=3).result, calls) == (9, [2, 3])


@pytest.mark.parametrize(
    ("validator", "same"),
    [
        (validators.all_inputs, {"x": 2, "y": 0}),
        (validators.all_parameters, {"x": 2, "y": 0}),
        (validators.partial_inputs_only(["x"]), {"x": 2, "y": 5}),
        (validators.partial_parameters_only(["x"]), {"x": 2, "y": 5}),
    ],
)
def test_each_validator_says_which_inputs_may_be_answered(log, validator, same):
    calls = []
    run = squares(calls, cache_for=HOUR, cache_validator=validator)
    run(x=2)
    assert (run(**same).result, calls) == (4, [2])
    assert (run(x=3).result, calls) == (9, [2, 3])


def test_all_inputs_are_all_of_them(log):
    calls = []
    run = squares(calls, cache_for=HOUR, cache_validator=validators.all_inputs)
    run(x=2)
    run(x=2, y=1)
    assert calls == [2, 2]


def test_never_use_never_answers(log):
    calls = []
    run = squares(calls, cache_for=HOUR, cache_validator=validators.never_use)
    run(x=2)
    run(x=2)
    assert calls == [2, 2]


def test_a_validator_of_ones_own_is_given_the_kept_state_the_inputs_and_the_parameters(log):
    seen = []

    def close(state, inputs, parameters):
        seen.append((state.cached_inputs, state.cached_parameters, inputs, parameters))
        return abs(state.cached_inputs["x"] - inputs["x"]) < 2

    calls = []
    run = squares(calls, cache_for=HOUR, cache_validator=close)
    run(x=2)
    assert run(x=3).result == 4
    assert run(x=9).result == 81
    assert seen[0] == ({"x": 2, "y": 0}, {"x": 2, "y": 0}, {"x": 3, "y": 0}, {"x": 3, "y": 0})
    assert calls == [2, 9]


def test_tasks_share_results_by_key_and_not_by_name_where_they_have_one(log):
    calls = []
    squares(calls, cache_for=HOUR, cache_key="shared")(x=2)

    @task(cache_for=HOUR, cache_key="shared")
    def other():
        raise AssertionError("is not called")

    with Flow("other") as flow:
        found = other()
    assert flow.run().result[found].result == 4
    assert squares(calls, cache_for=HOUR)(x=3).result == 9


def test_names_of_validators_are_a_list():
    with pytest.raises(TypeError, match="list of names"):
        validators.partial_inputs_only("x")


def test_a_validator_without_a_time_warns():
    with pytest.warns(UserWarning, match="nothing is cached"):
        task(cache_validator=validators.all_inputs)(lambda: 1)


def test_a_target_answers_every_later_call_of_its_name(log):
    calls = []
    run = squares(calls, target="{flow_name}/square-of-{x}")
    assert run(x=2).result == 4
    assert (run(x=2).is_cached(), run(x=2).result, run(x=3).result, calls) == (True, 4, 9, [2, 3])


@pytest.mark.parametrize("kind", [LocalResult, PrefectResult])
def test_the_location_of_a_result_is_a_target(log, kind):
    calls = []
    run = squares(calls, result=kind(location="at-{x}"))
    run(x=2)
    assert (run(x=2).result, calls) == (4, [2])


def test_a_target_that_cannot_be_made_keeps_nothing_and_says_why(log):
    calls = []
    run = squares(calls, target="{nothing}")
    assert run(x=2).result == 4
    assert run(x=2).result == 4
    assert calls == [2, 2]
    assert "nothing" in log.runs(name="squares")[0].transitions[1].facts.uncached


def test_without_a_checkpoint_the_result_is_not_recorded(log):
    calls = []
    assert squares(calls, checkpoint=False)(x=2).result == 4
    assert log.runs(name="squares")[0].state.data is None


def test_a_state_takes_its_result_along(log):
    run = squares([])
    state = pickle.loads(pickle.dumps(run(x=2)))
    assert (type(state).__name__, state.result) == ("Success", 4)

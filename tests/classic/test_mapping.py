"""Maps: which children there are, what each is given and depends on, and what becomes of their parent."""

from __future__ import annotations

from datetime import timedelta

import pytest

import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, apply_map, flatten, mapped, task, unmapped
from pluperfect.classic.engine import signals
from pluperfect.classic.engine.state import Mapped, TriggerFailed
from pluperfect.testing import kinds


@task
def add(x, y=10):
    return x + y


@task
def numbers():
    return [1, 2, 3]


@task
def inverse(x):
    return 1 / x


def run(build, **parameters):
    with Flow("maps") as flow:
        found = build()
    return flow.run(**parameters).result[found]


def test_arguments_are_zipped_to_the_shortest(log):
    state = run(lambda: add.map([1, 2, 3], [10, 20]))
    assert (state.result, state.is_mapped(), len(state.map_states)) == ([11, 22], True, 2)


def test_results_of_tasks_parameters_and_values_are_mapped_alike(log):
    state = run(lambda: add.map(numbers(), Parameter("ys")), ys=(10, 20, 30))
    assert state.result == [11, 22, 33]


def test_an_empty_list_has_no_children_and_succeeds(log):
    state = run(lambda: add.map([]))
    assert (state.result, state.map_states, state.is_successful()) == ([], [], True)


def test_unmapped_is_the_same_for_every_child(log):
    assert run(lambda: add.map(numbers(), unmapped([1]) and unmapped(5))).result == [6, 7, 8]
    assert run(lambda: add.map([[1], [2]], unmapped([0]))).result == [[1, 0], [2, 0]]


def test_mapped_marks_one_argument_of_a_plain_call(log):
    assert run(lambda: add(mapped(numbers()), 5)).result == [6, 7, 8]


@pytest.mark.parametrize(
    ("value", "says"), [({"a": 1}, "a dict has no items"), (5, "a int has no items"), ({1, 2}, "a set has no items")]
)
def test_what_has_no_items_by_place_fails_the_map_and_not_the_flow_run(log, value, says):
    state = run(lambda: add.map(Parameter("x")), x=value)
    assert state.is_failed()
    assert says in state.message


def test_the_children_are_runs_under_a_parent_that_is_their_map(log):
    run(lambda: add.map([1, 2]))
    parent = next(found for found in log.runs(name="add") if found.folded.birth.map_index is None)
    assert (kinds(parent), parent.state.name) == (["Pending", "Running", "Completed"], "Mapped")
    assert [child.folded.birth.map_index for child in parent.children] == [0, 1]


def test_a_lost_child_fails_the_map_and_the_others_have_their_results(log):
    state = run(lambda: inverse.map([1, 0, 2]))
    assert (state.is_failed(), state.is_mapped()) == (True, True)
    assert (state.result[0], type(state.result[1]), state.result[2]) == (1, ZeroDivisionError, 0.5)
    assert isinstance(state.error, ZeroDivisionError)


def test_child_n_depends_on_child_n_alone(log):
    with Flow("chained") as flow:
        first = inverse.map([1, 0, 2])
        second = add.map(first, unmapped(1))
    state = flow.run().result[second]
    assert [child.result for child in state.map_states if child.is_successful()] == [2, 1.5]
    assert type(state.map_states[1]) is TriggerFailed


def test_a_skipped_child_skips_its_successor_alone(log):
    @task
    def odd(x):
        if x % 2 == 0:
            raise signals.SKIP("even", result=None)
        return x

    with Flow("skipping") as flow:
        first = odd.map([1, 2, 3])
        second = add.map(first)
        gathered = prefect.tasks.control_flow.FilterTask()(second)
    state = flow.run()
    assert [child.is_skipped() for child in state.result[second].map_states] == [False, True, False]
    assert state.result[gathered].result == [11, 13]


def test_a_task_that_is_not_mapped_is_given_the_list(log):
    @task
    def total(xs):
        return sum(xs)

    assert run(lambda: total(add.map(numbers()))).result == 36


def test_each_child_has_its_own_budget_and_its_place_in_the_context(log):
    calls = []

    @task(max_retries=1, retry_delay=timedelta(seconds=1))
    def shaky(x):
        calls.append((prefect.context.map_index, prefect.context.task_run_count))
        if prefect.context.task_run_count == 1:
            raise ConnectionError("once")
        return x

    assert run(lambda: shaky.map(["a", "b"])).result == ["a", "b"]
    assert sorted(calls) == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_flatten_puts_lists_end_to_end_one_level_deep(log):
    @task
    def nested():
        return [[1, 2], [[3]], 4]

    @task
    def same(x):
        return x

    assert run(lambda: same.map(flatten(nested()))).result == [1, 2, [3], 4]
    assert run(lambda: same(flatten(nested()))).result == [1, 2, [3], 4]

    @task
    def up_to(n):
        return list(range(n))

    with Flow("flat") as flow:
        found = add.map(flatten(up_to.map([1, 2, 3])), unmapped(100))
    assert flow.run().result[found].result == [100, 100, 101, 100, 101, 102]


def test_apply_map_maps_every_task_that_a_function_adds(log):
    def both(x, y):
        return add(inverse(x), y)

    with Flow("applied") as flow:
        found = apply_map(both, numbers(), unmapped(1))
    assert flow.run().result[found].result == [2, 1.5, 1 / 3 + 1]


def test_apply_map_takes_branches_along(log):
    def only_ones(x):
        with prefect.case(x, 1):
            return add(x, 100)

    with Flow("applied") as flow:
        found = apply_map(only_ones, numbers())
    state = flow.run().result[found]
    assert [child.is_skipped() for child in state.map_states] == [False, True, True]
    assert state.map_states[0].result == 101


def test_apply_map_outside_of_a_flow_says_what_to_do():
    with pytest.raises(ValueError, match="No flow is active"):
        apply_map(lambda x: add(x), [1])


def test_a_mapped_result_that_failed_fails_the_trigger_of_the_map(log):
    @task
    def fails():
        raise ValueError("no")

    state = run(lambda: add.map(fails()))
    assert state.is_failed()
    assert "nothing of what it maps over succeeded" in state.message or type(state) is TriggerFailed


def test_mapped_states_list_what_their_children_gave():
    assert Mapped(map_states=[]).n_map_states == 0

"""Branches: which tasks are skipped, and how branches come together again."""

from __future__ import annotations

import pytest

from pluperfect.classic import Flow, Parameter, case, task
from pluperfect.classic.tasks.control_flow import FilterTask, ifelse, merge, switch


@task
def say(word):
    return word


@task
def add(x, y):
    return x + y


def test_case_skips_its_branch_where_the_value_differs(log):
    with Flow("case") as flow:
        x = Parameter("x")
        with case(x, "a"):
            first = say("first")
            after = add(first, "!")
        beside = say("beside")
    state = flow.run(x="a")
    assert state.result[after].result == "first!"
    state = flow.run(x="b")
    assert [state.result[t].is_skipped() for t in (first, after, beside)] == [True, True, False]
    assert state.is_successful()


def test_cases_nest(log):
    with Flow("nested") as flow:
        x, y = Parameter("x"), Parameter("y")
        with case(x, 1):
            outer = say("outer")
            with case(y, 1):
                inner = say("inner")
    found = lambda **given: [not flow.run(**given).result[t].is_skipped() for t in (outer, inner)]
    assert found(x=1, y=1) == [True, True]
    assert found(x=1, y=2) == [True, False]
    assert found(x=2, y=2) == [False, False]


def test_a_case_compares_with_values_and_not_with_tasks():
    with Flow("tasks"), pytest.raises(TypeError, match="compares with a value"):
        case(say("a"), say("b"))


def test_switch_runs_the_task_under_the_value_alone(log):
    with Flow("switch") as flow:
        x = Parameter("x")
        branches = {name: say(name) for name in "abc"}
        switch(x, branches)
        found = merge(*branches.values())
    for name in "abc":
        state = flow.run(x=name)
        assert [key for key, made in branches.items() if not state.result[made].is_skipped()] == [name]
        assert state.result[found].result == name
    state = flow.run(x="d")
    assert state.result[found].is_skipped()


def test_ifelse_takes_the_truth_of_the_condition(log):
    with Flow("ifelse") as flow:
        x = Parameter("x")
        yes, no = say("yes"), say("no")
        ifelse(x, yes, no)
        found = merge(yes, no)
    assert flow.run(x=[1]).result[found].result == "yes"
    assert flow.run(x=[]).result[found].result == "no"


def test_one_side_of_ifelse_may_be_missing(log):
    with Flow("half") as flow:
        yes = say("yes")
        ifelse(Parameter("x"), yes, None)
    assert flow.run(x=0).result[yes].is_skipped()
    assert flow.run(x=1).result[yes].result == "yes"


def test_merge_gives_the_first_result_in_the_order_of_its_arguments(log):
    with Flow("merge") as flow:
        found = merge(*[say(Parameter(f"p{n}", default=None)) for n in range(12)])
    assert flow.run(p2="two", p10="ten").result[found].result == "two"
    assert flow.run(p11="eleven").result[found].result == "eleven"
    state = flow.run().result[found]
    assert (state.is_successful(), state.result) == (True, None)


def test_merge_is_not_begun_where_a_branch_failed(log):
    @task
    def fails():
        raise ValueError("no")

    with Flow("failing") as flow:
        found = merge(say("a"), fails())
    assert type(flow.run().result[found]).__name__ == "TriggerFailed"


def test_branches_are_chosen_item_by_item_in_a_map(log):
    with Flow("mapped") as flow:
        x = Parameter("x")
        small, large = say.map(x), add.map(x, x)
        switch(x, {1: small, 5: large}, mapped=True)
        found = merge(small, large, mapped=True)
    assert flow.run(x=[1, 5]).result[found].result == [1, 10]


def test_filter_task_drops_none_and_exceptions_or_what_it_is_told(log):
    @task
    def inverse(x):
        return 1 / x if x else None

    with Flow("filter") as flow:
        found = FilterTask()([say(1), say(None), say(0)])
        mapped = FilterTask()(inverse.map([1, 0, "one"]))
        large = FilterTask(filter_func=lambda x: x > 1, log_func=lambda x: f"left {x}")([say(1), say(2)])
    state = flow.run()
    assert [state.result[t].result for t in (found, mapped, large)] == [[1, 0], [1.0], [2]]

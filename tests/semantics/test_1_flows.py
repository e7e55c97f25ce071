"""Section 1: flows."""

from __future__ import annotations

import asyncio

import pytest

from pluperfect import Completed, Failed, Flow, flow, task
from pluperfect.errors import InvalidNameError, ParameterBindError, ReservedArgumentError
from pluperfect.runtime import flow_run
from pluperfect.testing import kinds


def test_a_call_makes_a_run_and_returns_the_value_or_raises(log):
    @flow
    def gives(x):
        if x is None:
            raise LookupError("none")
        return x

    assert gives(3) == 3
    with pytest.raises(LookupError, match="none"):
        gives(None)
    assert [r.state.kind for r in log.runs(name="gives")] == ["Failed", "Completed"]


def test_flow_is_a_class_too():
    made = Flow(lambda: 1, name="made", version="2")
    assert (made.name, made.version) == ("made", "2")
    assert Flow(fn=print, name="also").name == "also"


@pytest.mark.parametrize(("given", "name"), [({}, "my-flow"), ({"name": "Mine"}, "Mine")])
def test_the_name_is_that_of_the_function_with_hyphens(given, name):
    def my_flow():
        pass

    assert flow(**given)(my_flow).name == name


def test_a_lambda_is_an_unknown_lambda():
    assert flow(lambda: 1).name == "unknown-lambda"


@pytest.mark.parametrize("name", ["a/b", "a%b", "a&b", "a>b", "a<b", ""])
def test_a_name_with_banned_characters_is_refused(name):
    with pytest.raises(InvalidNameError, match="Choose another name"):
        flow(name=name)(print)


@pytest.mark.parametrize("name", [1, b"a", ["a"]])
def test_a_name_that_is_no_string_is_a_type_error(name):
    with pytest.raises(TypeError, match="Expected string for flow parameter 'name'"):
        flow(name=name)(print)


def test_the_description_is_the_docstring_unless_one_is_given():
    def documented():
        """Say something."""

    assert flow(documented).description == "Say something."
    assert flow(description="other")(documented).description == "other"


@pytest.mark.parametrize(
    "value", ["{x}-of-{day}", lambda: f"{flow_run.parameters['x']}-of-{flow_run.parameters['day']}"]
)
def test_the_run_name_is_a_template_over_the_parameters_or_a_callable(log, value):
    flow(lambda x, day="monday": None, name="f", flow_run_name=value)(5)
    assert log.run("f").name == "5-of-monday"


def test_a_callable_for_the_run_name_may_take_the_parameters(log):
    flow(lambda x: None, name="f", flow_run_name=lambda parameters: f"p{parameters['x']}")(7)
    assert log.run("f").name == "p7"


@pytest.mark.parametrize(
    ("value", "kind"), [(lambda: 3, TypeError), ("{nothing}", KeyError), (lambda: 1 / 0, ZeroDivisionError)]
)
def test_an_error_in_the_run_name_fails_the_run_before_its_body(log, value, kind):
    called = []
    with pytest.raises(kind):
        flow(lambda: called.append(1), name="f", flow_run_name=value)()
    assert kinds(log.run("f")) == ["Pending", "Failed"]
    assert called == []


@pytest.mark.parametrize("value", [3, ["a"]])
def test_what_is_no_template_and_no_callable_is_refused_as_a_run_name(value):
    with pytest.raises(TypeError, match="flow_run_name"):
        flow(flow_run_name=value)(print)


def test_the_run_name_is_made_once_for_all_attempts(log):
    made = []

    def name():
        made.append(1)
        return f"name-{len(made)}"

    @flow(flow_run_name=name, retries=2)
    def fails():
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert (made, log.run("fails").name) == ([1], "name-1")


def test_without_one_the_run_name_is_two_words(log):
    flow(lambda: 1, name="f")()
    first, _, second = log.run("f").name.partition("-")
    assert first.isalpha()
    assert second.isalpha()


def test_retries_call_the_whole_body_again_with_every_form_of_delay(log, clock):
    calls = []

    @flow(retries=2, retry_delay_seconds=[3, 4])
    def fails():
        calls.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert len(calls) == 3
    assert clock.slept == [3, 4]


def test_a_flow_has_a_retry_condition_too(log):
    @flow(retries=5, retry_condition_fn=lambda flow, run, state: isinstance(state.result(False), LookupError))
    def fails():
        raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert log.run("fails").folded.attempt == 1


def test_return_state_gives_the_state_and_raises_nothing(log):
    @flow
    def fails():
        raise ValueError("no")

    state = fails(return_state=True)
    assert isinstance(state, Failed)
    with pytest.raises(ValueError, match="no"):
        state.result()
    assert isinstance(flow(lambda: 3)(return_state=True), Completed)


def test_return_state_of_an_async_flow(log):
    @flow
    async def gives():
        return 3

    async def ask():
        state = await gives(return_state=True)
        return await state.result()

    assert asyncio.run(ask()) == 3


def test_a_flow_waits_for_what_it_is_told_to_wait_for(log):
    order = []

    @task
    def first():
        order.append("first")

    @flow
    def second():
        order.append("second")

    @flow
    def outer():
        second(wait_for=[first.submit()])

    outer()
    assert order == ["first", "second"]


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
@pytest.mark.parametrize("decorator", [flow, task])
def test_the_names_that_a_call_needs_are_no_parameters(decorator, name):
    with pytest.raises(ReservedArgumentError, match=name):
        exec(f"def f({name}): pass\ndecorator(f)", {"decorator": decorator})


@pytest.mark.parametrize("decorator", [flow, task])
def test_with_options_counts_whatever_is_passed(decorator):
    first = decorator(name="a", retries=3, timeout_seconds=5, description="d")(print)
    second = first.with_options(retries=0, timeout_seconds=None, description="")
    assert (second.name, second.retries, second.timeout_seconds) == ("a", 0, None)
    assert (first.retries, first.timeout_seconds) == (3, 5)
    assert type(second) is type(first)


@pytest.mark.parametrize("decorator", [flow, task])
@pytest.mark.parametrize(("slip", "meant"), [("retrys", "retries"), ("timeout", "timeout_seconds"), ("nme", "name")])
def test_an_unknown_option_names_the_nearest(decorator, slip, meant):
    with pytest.raises(TypeError, match=f"{slip}.*Did you mean '{meant}'"):
        decorator(**{slip: 1})(print)


@pytest.mark.parametrize("name", ["visualize", "serve", "deploy", "from_source"])
def test_what_needs_a_server_is_absent_not_stubbed(name):
    assert not hasattr(flow(print), name)


@pytest.mark.parametrize("name", ["delay", "apply_async", "serve"])
def test_so_it_is_with_tasks(name):
    assert not hasattr(task(print), name)


@pytest.mark.parametrize("value", ["nowhere", 4, None])
def test_only_functions_are_decorated(value):
    with pytest.raises(TypeError, match="decorates a function"):
        Flow(value)


def test_a_class_is_no_function():
    with pytest.raises(TypeError, match="not the class"):
        flow(type("Thing", (), {}))


def test_arguments_that_do_not_fit_make_no_run(log):
    with pytest.raises(ParameterBindError, match="signature"):
        flow(lambda x: x, name="f")()
    with pytest.raises(TypeError):
        flow(lambda x: x, name="f")(1, y=2)
    assert log.runs() == []


def test_an_option_can_be_read_from_the_object():
    made = flow(retries=3, timeout_seconds=4, log_prints=True)(print)
    assert (made.retries, made.timeout_seconds, made.log_prints, made.persist_result) == (3, 4.0, True, None)
    with pytest.raises(AttributeError, match="nonsense"):
        made.nonsense  # noqa: B018

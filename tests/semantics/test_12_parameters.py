"""Section 12: parameters of flows, checked and converted. (What fits what: tests/authoring/test_validation.py.)"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pydantic
import pytest

from pluperfect import flow, task
from pluperfect.errors import ParameterBindError, ParameterTypeError
from pluperfect.testing import kinds


def test_what_is_lax_is_converted_and_the_log_holds_what_the_function_received(log):
    @flow
    def takes(n: int, when: list[int] = ()):
        return n, when

    assert takes("5", when=range(2)) == (5, [0, 1])
    assert log.run("takes").parameters == {"n": 5, "when": [0, 1]}


def test_what_fits_is_the_very_object(log):
    given = [1, 2]

    @flow
    def takes(numbers: list[int]):
        return numbers is given

    assert takes(given)


def test_what_does_not_fit_fails_the_run_before_its_body_without_a_retry_and_names_all(log):
    called = []

    @flow(retries=3)
    def takes(n: int, items: list[int], fine: str = "x"):
        called.append(1)

    with pytest.raises(ParameterTypeError) as raised:
        takes("five", [1, "two"])
    text = str(raised.value)
    assert "takes() was given what does not fit" in text
    assert "n: expected `int`, given str 'five'" in text
    assert "items[1]" in text
    assert "validate_parameters=False" in text
    recorded = log.run("takes")
    assert kinds(recorded) == ["Pending", "Failed"]
    assert (recorded.state.cause, called) == ("validation", [])
    assert takes("five", [1], return_state=True).cause == "validation"


def test_validation_can_be_switched_off_or_made_strict(log):
    def takes(n: int):
        return n

    assert flow(takes, name="off").with_options(validate_parameters=False)("5") == "5"
    with pytest.raises(ParameterTypeError):
        flow(name="strict", validate_parameters="strict")(takes)("5")
    with pytest.raises(ValueError, match="'strict'"):
        flow(validate_parameters="lax")(takes)


def test_tasks_are_not_validated_unless_they_say_so(log):
    def takes(n: int):
        return n

    assert task(takes)("5") == "5"
    assert task(validate=True)(takes)("5") == 5
    with pytest.raises(ParameterTypeError):
        task(validate=True)(takes)("five")


def test_parameters_of_subflows_are_checked_when_their_futures_are_resolved(log):
    @flow
    def inner(n: int):
        return n

    @flow
    def outer(text):
        return inner(task(lambda: text, name="gives").submit())

    assert outer("7") == 7
    with pytest.raises(ParameterTypeError):
        outer("seven")
    assert kinds(log.runs(name="inner")[0]) == ["Pending", "Failed"]


def test_async_flows_are_checked_alike(log):
    @flow
    async def takes(n: int):
        return n

    assert asyncio.run(takes("5")) == 5
    with pytest.raises(ParameterTypeError):
        asyncio.run(takes("five"))


def test_defaults_are_never_checked(log):
    @flow
    def takes(n: int = None):  # noqa: RUF013 - that is the point
        return n

    assert takes() is None


def test_arguments_of_another_number_or_name_make_no_run_and_show_the_signature(log):
    @flow
    def takes(n: int, day="monday"):
        return n

    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"dya": "x"})):
        with pytest.raises(ParameterBindError, match=r"takes\(n: 'int', day='monday'\)"):
            takes(*args, **kwargs)
    assert issubclass(ParameterBindError, TypeError)
    assert log.runs() == []


@dataclass
class Config:
    name: str
    size: int = 1


def test_structured_parameters_are_built_from_dicts_and_recorded(log):
    @flow
    def takes(config: Config):
        return config

    assert takes({"name": "a", "size": "3"}) == Config("a", 3)
    assert log.run("takes").parameters == {"config": Config("a", 3)}


class Model(pydantic.BaseModel):
    n: pydantic.PositiveInt


def test_pydantic_rules_where_an_annotation_is_pydantics(log):
    @flow
    def takes(model: Model, ratio: pydantic.NonNegativeFloat = 0.0):
        return model.n, ratio

    assert takes({"n": "5"}, ratio="0.5") == (5, 0.5)
    with pytest.raises(ParameterTypeError, match="model"):
        takes({"n": -1})
    with pytest.raises(ParameterTypeError, match="ratio"):
        takes({"n": 1}, ratio=-1)


def test_a_parameter_that_cannot_be_recorded_leaves_its_repr_and_the_run_goes_on(log):
    import threading

    lock = threading.Lock()

    @flow
    def takes(x):
        return x is lock

    assert takes(lock)
    (recorded,) = log.run("takes").folded.birth.inputs
    assert b"lock" in bytes(recorded.value.data)


def test_the_check_can_be_asked_for_by_itself():
    @flow
    def takes(n: int, day="monday"):
        pass

    assert takes.validate_parameters({"n": "5"}) == {"n": 5}
    with pytest.raises(ParameterTypeError):
        takes.validate_parameters({"n": "five"})
    with pytest.raises(ParameterBindError):
        takes.validate_parameters({"m": 1})
    assert takes.should_validate_parameters

"""Code that raises where it did not: the exception is what a replay shows, and not the calls that it kept from being made."""

from __future__ import annotations

from pluperfect import flow, task


@task
def add(x):
    return x + 1


def test_an_exception_of_the_new_code_is_shown_with_its_line_in_the_place_of_the_calls_that_it_prevents(log):
    @flow
    def whole():
        return [add(1), add(2)]

    whole()

    @flow(name="whole")
    def mistyped():
        return [add(1), ad(2)]  # noqa: F821 - as users mistype it

    found = log.replay("whole", mistyped)
    first = found.first
    assert (found.outcome, first.part, first.recorded.what) == ("diverged", "call", "add(x=2)")
    assert first.replayed.what == "the end: Failed \"NameError: name 'ad' is not defined\""
    assert first.replayed.source == "return [add(1), ad(2)]  # noqa: F821 - as users mistype it"
    assert first.advice == "The code ends before this call, with an exception that is not on record there."


def test_a_call_that_is_left_out_by_code_that_comes_to_its_end_is_told_as_such(log):
    @flow
    def whole():
        return [add(1), add(2)]

    whole()

    @flow(name="whole")
    def shorter():
        return [add(1)]

    first = log.replay("whole", shorter).first
    assert (first.recorded.what, first.replayed.what) == ("add(x=2)", "nothing")
    assert "no longer makes this call" in first.advice

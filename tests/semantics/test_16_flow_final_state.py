"""The state that a flow ends in: from what its body returns, and from its children."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pluperfect import Completed, Failed, allow_failure, flow, quote, states, task
from pluperfect.errors import CrashedRun, FailedRun
from pluperfect.testing import kinds


@task
def good(x=1):
    return x


@task
def bad(x=None):
    raise ValueError("bad")


@task
def crashes():
    return states.Crashed("bang")


@task
def cancels():
    return states.Cancelled("off")


def ended(body, *, is_async=False):
    """The state of a flow with this body."""

    async def body_async():
        return body()

    if is_async:
        return asyncio.run(flow(name="judged")(body_async)(return_state=True))
    return flow(name="judged")(body)(return_state=True)


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
ALL = "All states completed."
ROWS = {
    # without children
    "None": (lambda: None, "Completed", ""),
    "data": (lambda: 5, "Completed", ""),
    "an empty list": (lambda: [], "Completed", ""),  # noqa: PIE807 - a class is no body
    "an exception object": (lambda: ValueError("a value"), "Completed", ""),
    # None, with children
    "None, all completed": (lambda: (good(), good.submit(), None)[2], "Completed", ALL),
    "None, a child nobody looked at failed": (
        lambda: (good.submit(), bad.submit(), None)[2],
        "Failed",
        "1/2 states failed.",
    ),
    "None, the exception was caught": (lambda: caught(bad), "Completed", "0/1 states completed."),
    "None, one of two was only waited for": (
        lambda: (bad.submit().wait(), bad.submit(return_state=True), None)[2],
        "Failed",
        "1/2 states failed.",
    ),
    "None, many that were only waited for": (
        lambda: [bad.submit().wait() for _ in range(40)] and None,
        "Failed",
        "40/40 states failed.",
    ),
    "None, .state looked at": (lambda: looked(bad.submit()), "Completed", "0/1 states completed."),
    "None, return_state looked at": (
        lambda: (good(), bad(return_state=True), None)[2],
        "Completed",
        "1/2 states completed.",
    ),
    "None, result(raise_on_failure=False)": (
        lambda: (bad.submit().result(raise_on_failure=False), None)[1],
        "Completed",
        "0/1 states completed.",
    ),
    "None, allow_failure": (lambda: (good(allow_failure(bad.submit())), None)[1], "Completed", "1/2 states completed."),
    "None, mapped": (lambda: (good.map([1, 2, 3]), None)[1], "Completed", ALL),
    "None, a mapped one failed": (lambda: (bad.map([1, 2, 3]), None)[1], "Failed", "3/3 states failed."),
    # data, with children
    "data, all completed": (lambda: (good.submit(), 5)[1], "Completed", ""),
    "data, a child nobody looked at failed": (lambda: (bad.submit(), 5)[1], "Failed", "1/1 states failed."),
    "data, the failure was looked at": (lambda: (bad(return_state=True), 5)[1], "Completed", ""),
    # futures and states
    "a future": (lambda: good.submit(), "Completed", ALL),
    "a failed future": (lambda: bad.submit(), "Failed", "1/1 states failed."),
    "a state of a run": (lambda: good(return_state=True), "Completed", ALL),
    "a failed state of a run": (lambda: bad(return_state=True), "Failed", "1/1 states failed."),
    "a list of futures": (lambda: [good.submit(), good.submit()], "Completed", ALL),
    "a tuple of futures": (lambda: (good.submit(), good.submit()), "Completed", ALL),
    "a set of futures": (lambda: {good.submit(), good.submit()}, "Completed", ALL),
    "a mapping": (lambda: good.map([1, 2]), "Completed", ALL),
    "futures and states": (lambda: [good.submit(), good(return_state=True)], "Completed", ALL),
    "a list with failures": (lambda: [good.submit(), bad.submit(), bad.submit()], "Failed", "2/3 states failed."),
    "a list with a crash": (lambda: [good.submit(), crashes.submit()], "Failed", "1/2 states failed."),
    # nested or mixed
    "a dict of futures": (lambda: {"a": good.submit()}, "Completed", ""),
    "a dict with a failed one": (lambda: {"a": good.submit(), "b": bad.submit()}, "Failed", "1/2 states failed."),
    "mixed with values": (lambda: [1, good.submit()], "Completed", ""),
    "mixed with values, failed": (lambda: [1, bad.submit()], "Failed", "1/1 states failed."),
    "nested": (lambda: [[good.submit()], [[bad.submit()]]], "Failed", "1/2 states failed."),
    # made by hand
    "Completed by hand": (lambda: Completed("by hand"), "Completed", "by hand"),
    "Failed by hand": (lambda: Failed("by hand"), "Failed", "by hand"),
    "Pending by hand": (lambda: states.Pending(), "Failed", None),
    "Running by hand": (lambda: states.Running(), "Failed", None),
    "Paused by hand": (lambda: states.Paused(), "Failed", None),
    "by hand, beside a failed child": (lambda: (bad.submit(), Completed("by hand"))[1], "Completed", "by hand"),
    "a list of states by hand": (lambda: [Completed(), Completed()], "Completed", ALL),
    "a list of states by hand, failed": (lambda: [Completed(), Failed("no")], "Failed", "1/2 states failed."),
    "a list of states by hand, not final": (
        lambda: [Completed(), states.Running(), states.Pending()],
        "Failed",
        "2/3 states are not final.",
    ),
    # quoted
    "a quoted future": (lambda: quote(good.submit()), "Completed", ""),
    "a quoted failed state": (lambda: quote(Failed()), "Completed", ""),
}


def caught(call):
    with pytest.raises(ValueError):
        call()


def looked(future):
    future.wait()
    assert future.state.is_failed()


@both
@pytest.mark.parametrize("row", ROWS)
def test_a_flow_that_returns_this_ends_in_that_state(log, row, is_async):
    body, kind, message = ROWS[row]

    state = ended(body, is_async=is_async)

    assert state.kind == kind
    assert message is None or state.message == message
    recorded = log.runs(roots=True)[0].state
    assert (recorded.kind, recorded.message, recorded.name) == (state.kind, state.message, state.name)


# --- raises


@both
def test_a_flow_that_raises_fails_with_that_exception(log, is_async):
    error = ValueError("mine")

    def body():
        raise error

    state = ended(body, is_async=is_async)
    assert (state.kind, state.cause, state.result(raise_on_failure=False)) == ("Failed", "error", error)
    assert "ValueError: mine" in state.message


def test_an_exception_of_a_child_that_is_not_caught_is_the_flows(log):
    state = ended(lambda: bad())
    assert (state.kind, state.cause) == ("Failed", "error")
    assert isinstance(state.result(raise_on_failure=False), ValueError)


# --- cancelled, paused


def test_a_list_that_holds_a_cancelled_state_is_cancelled(log):
    state = ended(lambda: [good.submit(), cancels.submit(), bad.submit()])
    assert (state.kind, state.cause, state.name) == ("Failed", "cancelled", "Cancelled")
    assert state.message == "1/3 states cancelled."
    assert state.type == "CANCELLED"


# --- hand-made


@both
@pytest.mark.parametrize(
    "made",
    [
        Completed("well", name="Skipped"),
        Failed("ill", name="Sick"),
        states.Cancelled("off"),
        states.Crashed("bang"),
        Failed("ill", data=ValueError("this")),
    ],
    ids=lambda state: state.name,
)
def test_a_hand_made_state_is_taken_word_for_word_and_keeps_its_label(log, made, is_async):
    state = ended(lambda: made, is_async=is_async)
    assert (state.kind, state.name, state.message, state.type) == (made.kind, made.name, made.message, made.type)
    recorded = log.runs()[0].state
    assert (recorded.name, recorded.message, recorded.type) == (made.name, made.message, made.type)


def test_a_hand_made_state_keeps_its_data(log):
    assert ended(lambda: Completed(data=[1])).result() == [1]
    assert log.runs()[0].result() == [1]
    assert ended(lambda: Completed("no data")).result() is None
    assert log.runs()[0].result() is None


def test_a_state_that_is_not_final_fails_the_flow_and_says_so(log):
    state = ended(lambda: states.Pending())
    with pytest.raises(TypeError, match="Pending, which is not final"):
        state.result()


def test_a_hand_made_failure_is_raised_by_a_plain_call(log):
    with pytest.raises(FailedRun, match="ill"):
        flow(name="fails")(lambda: Failed("ill"))()
    with pytest.raises(KeyError):
        flow(name="fails")(lambda: Failed(data=KeyError()))()
    with pytest.raises(CrashedRun):
        flow(name="fails")(lambda: states.Crashed("bang"))()


# --- what the caller gets


def test_the_caller_gets_states_in_the_place_of_futures(log):
    def body():
        return {"a": good.submit(1), "b": [good.submit(2), 3]}

    given = flow(name="gives")(body)()
    assert given["a"].result() == 1
    assert [given["b"][0].result(), given["b"][1]] == [2, 3]
    assert flow(name="gives")(lambda: good.submit(5))().result() == 5
    assert flow(name="gives")(lambda: quote(5))().unquote() == 5


@pytest.mark.parametrize(
    "body",
    [
        lambda: bad.submit(),
        lambda: [good.submit(), bad.submit()],
        lambda: {"a": bad.submit()},
        lambda: (bad.submit(), 5)[1],
        lambda: (bad.submit(), None)[1],
        lambda: bad(return_state=True),
    ],
)
@both
def test_a_plain_call_of_a_failed_flow_raises_the_first_failure(log, body, is_async):
    async def body_async():
        return body()

    call = flow(name="fails")(body_async if is_async else body)
    with pytest.raises(ValueError, match="bad"):
        asyncio.run(call()) if is_async else call()


def test_an_exception_object_is_a_value_and_is_returned(log):
    error = ValueError("a value")
    assert flow(name="gives")(lambda: error)() is error


def test_a_subflow_whose_failure_was_looked_at_does_not_fail_its_caller(log):
    inner = flow(lambda: bad(), name="inner")
    state = ended(lambda: (inner(return_state=True), None)[1])
    assert (state.kind, state.message) == ("Completed", "0/1 states completed.")


def test_children_that_nobody_awaited_are_awaited_before_they_are_judged(log):
    gate = threading.Event()

    @task
    def late():
        gate.wait(60)
        raise ValueError("late")

    def body():
        late.submit()
        threading.Timer(0.05, gate.set).start()

    state = ended(body)
    assert (state.kind, state.message) == ("Failed", "1/1 states failed.")
    assert kinds(log.runs(name="late")[0]) == ["Pending", "Running", "Failed"]


def test_the_failed_state_has_cause_children_and_the_first_failure(log):
    state = ended(lambda: [bad.submit(), good.submit()])
    assert state.cause == "children"
    assert isinstance(state.result(raise_on_failure=False), ValueError)
    assert isinstance(log.runs(roots=True)[0].state.result(raise_on_failure=False), ValueError)

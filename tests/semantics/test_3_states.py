"""States: what they are called, what they say of themselves, and what their result is."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

import pytest

import pluperfect
from pluperfect import Cached, Completed, Failed, Looped, Pending, Retrying, Running, State, TimedOut, flow, task
from pluperfect import states as names
from pluperfect.errors import CancelledRun, CrashedRun, FailedRun, MissingResult, PausedRun, UnfinishedRun
from pluperfect.states import StateGroup, StateType
from pluperfect.testing import kinds

WRAPPERS = [(Failed, FailedRun), (names.Crashed, CrashedRun), (names.Cancelled, CancelledRun)]


# --- 3.1 the eight


def test_a_state_of_a_run_has_kind_name_message_timestamp_and_attempt(log, clock):
    @task(retries=1, retry_delay_seconds=5)
    def shaky():
        clock.advance(1)
        if clock.slept == []:
            raise ValueError
        return 1

    state = shaky(return_state=True)

    assert (state.kind, state.name, state.message, state.attempt) == ("Completed", "Completed", "", 2)
    assert state.timestamp == dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    recorded = log.runs()[0].state
    assert (recorded.timestamp, recorded.attempt) == (state.timestamp, 2)


def test_a_submitted_call_has_them_too(log, clock):
    @flow
    def whole():
        return task(lambda: 1).submit()

    state = whole()
    assert state.timestamp == dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    assert state.attempt == 1


def test_a_state_made_by_hand_has_no_time_and_no_run():
    assert Completed().timestamp is None
    assert Running(attempt=3).attempt == 3
    assert Failed().attempt is None


# --- 3.2 the table


def test_final_is_final_and_making_the_call_again_is_another_run(log):
    one = task(lambda: 1, name="one")

    one()
    one()

    assert [kinds(run) for run in log.runs(name="one")] == [["Pending", "Running", "Completed"]] * 2
    assert len({run.id for run in log.runs()}) == 2


# --- 3.3 and 3.4 names, types, constructors

MADE = [
    (names.Scheduled(), Pending, "Scheduled", "SCHEDULED"),
    (names.Late(), Pending, "Late", "SCHEDULED"),
    (names.AwaitingRetry(), Retrying, "AwaitingRetry", "SCHEDULED"),
    (names.AwaitingConcurrencySlot(), Pending, "AwaitingConcurrencySlot", "SCHEDULED"),
    (names.Pending(), Pending, "Pending", "PENDING"),
    (names.Submitting(), Pending, "Submitting", "PENDING"),
    (names.InfrastructurePending(), Pending, "InfrastructurePending", "PENDING"),
    (names.Running(), Running, "Running", "RUNNING"),
    (names.Retrying(), Retrying, "Retrying", "SCHEDULED"),
    (names.Paused(), Retrying, "Paused", "PAUSED"),
    (names.Suspended(), Retrying, "Suspended", "PAUSED"),
    (names.Cancelling(), Failed, "Cancelling", "CANCELLED"),
    (names.Cancelled(), Failed, "Cancelled", "CANCELLED"),
    (names.Completed(), Completed, "Completed", "COMPLETED"),
    (names.Failed(), Failed, "Failed", "FAILED"),
    (names.Crashed(), Failed, "Crashed", "CRASHED"),
    (names.Looped(), Looped, "Looped", "RUNNING"),
    (names.Cached(), Cached, "Cached", "COMPLETED"),
    (names.TimedOut(), TimedOut, "TimedOut", "FAILED"),
]


@pytest.mark.parametrize(("state", "kind", "name", "type"), MADE, ids=[row[2] for row in MADE])
def test_a_constructor_builds_the_kind_under_prefects_label_and_type(state, kind, name, type):
    assert isinstance(state, kind)
    assert (state.name, state.type) == (name, StateType(type))
    assert isinstance(state.type, str)


@pytest.mark.parametrize(
    "make", [names.Scheduled, names.Late, names.AwaitingRetry, names.AwaitingConcurrencySlot], ids=lambda m: m.__name__
)
def test_a_scheduled_state_takes_a_time_as_a_datetime_or_as_seconds(make):
    when = dt.datetime(2027, 1, 15, 8, tzinfo=dt.UTC)
    assert make(when).due == make(scheduled_time=1_800_000_000).due == 1_800_000_000.0
    assert make(message="for later").message == "for later"


@pytest.mark.parametrize(
    "make",
    [getattr(names, row[2]) for row in MADE],
    ids=[row[2] for row in MADE],
)
def test_a_constructor_takes_a_message_and_a_name(make):
    state = make(message="why", name="Mine")
    assert (state.message, state.name) == ("why", "Mine")


def test_a_name_that_is_given_stands_before_the_label_of_the_cause():
    assert Failed(cause="upstream").name == "NotReady"
    assert Failed(cause="upstream", name="Mine").name == "Mine"
    assert Completed(name="Skipped").name == "Skipped"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Completed(), "Completed()"),
        (Completed("well done"), "Completed('well done')"),
        (Completed(name="Skipped"), "Skipped(type=COMPLETED)"),
        (Completed("not today", name="Skipped"), "Skipped('not today', type=COMPLETED)"),
        (Cached(), "Cached(type=COMPLETED)"),
        (TimedOut("too slow"), "TimedOut('too slow', type=FAILED)"),
        (Failed(), "Failed()"),
        (Failed(cause="upstream"), "NotReady(type=FAILED)"),
        (names.Crashed(), "Crashed()"),
        (names.Cancelled("by me"), "Cancelled('by me')"),
        (Running(), "Running()"),
        (names.Scheduled(), "Scheduled()"),
        (names.AwaitingRetry(), "AwaitingRetry(type=SCHEDULED)"),
        (names.Paused(), "Paused()"),
    ],
    ids=str,
)
def test_the_text_of_a_state_is_its_name_its_message_and_a_type_that_differs(state, text):
    assert str(state) == text


# --- predicates

PREDICATES = {
    "is_pending": {"Scheduled", "Late", "AwaitingConcurrencySlot", "Pending", "Submitting", "InfrastructurePending"},
    "is_running": {"Running"},
    "is_retrying": {"AwaitingRetry", "Retrying", "Paused", "Suspended"},
    "is_looped": {"Looped"},
    "is_cached": {"Cached"},
    "is_timed_out": {"TimedOut"},
    "is_scheduled": {"Scheduled", "Late", "AwaitingConcurrencySlot", "AwaitingRetry", "Retrying"},
    "is_paused": {"Paused", "Suspended"},
    "is_crashed": {"Crashed"},
    "is_cancelled": {"Cancelled", "Cancelling"},
    "is_cancelling": set(),
    "is_completed": {"Completed", "Cached"},
    "is_failed": {"Failed", "Crashed", "Cancelled", "Cancelling", "TimedOut"},
    "is_final": {"Completed", "Cached", "Failed", "Crashed", "Cancelled", "Cancelling", "TimedOut"},
}


@pytest.mark.parametrize("predicate", PREDICATES)
def test_a_predicate_says_yes_to_these_states_and_to_no_others(predicate):
    assert {name for state, _, name, _ in MADE if getattr(state, predicate)()} == PREDICATES[predicate]


@pytest.mark.parametrize("cause", ["error", "returned", "upstream", "validation", "trigger", "children", "cancelled"])
def test_a_failed_state_is_failed_whatever_its_cause(cause):
    assert Failed(cause=cause).is_failed()


# --- groups


def test_a_group_counts_by_derived_type():
    group = StateGroup([Completed(), Cached(), Failed(), TimedOut(), names.Crashed(), names.Cancelled(), Running()])

    assert group.total_count == 7
    counts = {kind: n for kind, n in group.type_counts.items() if n}
    assert counts == {"COMPLETED": 2, "FAILED": 2, "CRASHED": 1, "CANCELLED": 1, "RUNNING": 1}
    assert (group.final_count, group.not_final_count, group.cancelled_count) == (6, 1, 1)
    assert group.type_counts["PENDING"] == 0
    assert group.any_failed()
    assert group.any_cancelled()
    assert not group.any_paused()
    assert not group.all_final()
    assert not group.all_completed()


def test_the_failures_of_a_group_are_failed_crashed_and_timed_out():
    assert StateGroup([Failed(), names.Crashed(), TimedOut(), Completed()]).fail_count == 3


def test_the_message_of_a_group_tells_the_total_what_is_not_final_and_each_type():
    done = StateGroup([Completed(), Failed()]).counts_message()
    assert done == "total=2 'COMPLETED'=1 'FAILED'=1"
    mixed = StateGroup([Completed(), Running(), Running()]).counts_message()
    assert mixed == "total=3 not_final=2 'RUNNING'=2 'COMPLETED'=1"


def test_a_group_of_completed_states_is_completed_and_final():
    group = StateGroup([Completed(), Cached()])
    assert group.all_completed()
    assert group.all_final()
    assert StateGroup([names.Paused()]).any_paused()


# --- 3.5 result()


@pytest.mark.parametrize("state", [Pending(), Running(), Retrying(), Looped()], ids=lambda s: s.kind)
def test_the_result_of_a_state_that_is_not_final_is_unfinished(state):
    with pytest.raises(UnfinishedRun, match=state.type.value):
        state.result()
    with pytest.raises(UnfinishedRun):
        state.result(raise_on_failure=False)
    with pytest.raises(UnfinishedRun):
        asyncio.run(state.aresult())


@pytest.mark.parametrize("state", [names.Paused(), names.Suspended()], ids=lambda s: s.name)
def test_the_result_of_a_paused_state_is_paused(state):
    with pytest.raises(PausedRun):
        state.result()


def test_the_result_of_a_completed_state_is_its_data():
    assert Completed(data=5).result() == 5
    assert asyncio.run(Completed(data=5).aresult()) == 5


@pytest.mark.parametrize("make", [Failed, names.Crashed, names.Cancelled], ids=lambda m: m.__name__)
def test_an_exception_as_data_is_the_exception_of_the_failure(make):
    error = ValueError("this one")
    assert make(data=error).result(raise_on_failure=False) is error
    with pytest.raises(ValueError, match="this one") as caught:
        make(data=error).result()
    assert caught.value is error


@pytest.mark.parametrize(("make", "wrapper"), WRAPPERS, ids=lambda m: m.__name__)
def test_a_text_as_data_is_wrapped_by_the_kind_of_failure(make, wrapper):
    with pytest.raises(wrapper, match="it broke"):
        make(data="it broke").result()


@pytest.mark.parametrize(("make", "wrapper"), WRAPPERS, ids=lambda m: m.__name__)
def test_without_data_the_message_is_wrapped(make, wrapper):
    with pytest.raises(wrapper, match="the message"):
        make(message="the message").result()
    with pytest.raises(wrapper, match="Run "):
        make().result()


@pytest.mark.parametrize("make", [Failed, names.Crashed, names.Cancelled], ids=lambda m: m.__name__)
def test_a_failed_state_as_data_is_asked_in_turn(make):
    with pytest.raises(KeyError):
        make(data=Failed(data=Failed(data=KeyError("deep")))).result()


@pytest.mark.parametrize("make", [Failed, names.Crashed, names.Cancelled], ids=lambda m: m.__name__)
def test_a_state_that_did_not_fail_explains_no_failure(make):
    with pytest.raises(ValueError, match="Expected failed or crashed state got Completed"):
        make(data=Completed(data="test")).result()


@pytest.mark.parametrize("listed", [list, tuple, set], ids=lambda m: m.__name__)
@pytest.mark.parametrize("make", [Failed, names.Crashed, names.Cancelled], ids=lambda m: m.__name__)
def test_of_states_as_data_the_first_failure_counts(make, listed):
    states = [Completed(), Failed(data=ValueError("first"))]
    with pytest.raises(ValueError, match="first"):
        make(data=listed(states)).result()


def test_of_several_failures_the_first_one_counts():
    with pytest.raises(ValueError, match="first"):
        Failed(data=[Completed(), Failed(data=ValueError("first")), Failed(data=KeyError())]).result()


def test_states_none_of_which_failed_explain_no_failure():
    with pytest.raises(ValueError, match="Failed state result was an iterable of states but none were failed"):
        Failed(data=[Completed(), Completed()]).result()


@pytest.mark.parametrize("data", [2, {"a": 1}, [1, 2], object()])
def test_other_data_is_no_exception(data):
    with pytest.raises(TypeError, match=f"{type(data).__name__} cannot be resolved into an exception"):
        Failed(data=data).result()


def test_none_is_a_result_like_any_other(log):
    state = task(lambda: None)(return_state=True)
    assert state.result() is None
    assert log.runs()[0].result() is None


def test_a_completed_state_made_by_hand_without_data_says_what_is_missing():
    with pytest.raises(MissingResult, match="no data"):
        Completed().result()


def test_a_missing_result_names_the_reason(log):
    lock = threading.Lock()
    task(lambda: lock, name="locked")()
    task(lambda: 1, name="kept_back", persist_result=False)()

    with pytest.raises(MissingResult, match="lock"):
        log.runs(name="locked")[0].result()
    with pytest.raises(MissingResult, match="persist_result=False"):
        log.runs(name="kept_back")[0].result()


def test_with_raise_on_failure_false_the_exception_is_returned(log):
    error = ValueError("no")

    @task
    def fails():
        raise error

    assert fails(return_state=True).result(raise_on_failure=False) is error
    recorded = log.runs()[0].result(raise_on_failure=False)
    assert (type(recorded), recorded.args) == (ValueError, ("no",))


def test_an_exception_that_is_a_result_is_returned_and_not_raised(log):
    error = ValueError("the value")
    state = task(lambda: error)(return_state=True)
    assert state.is_completed()
    assert state.result() is error


def test_an_exception_that_cannot_be_decoded_is_a_failed_run_with_type_text_and_traceback(log):
    class Stubborn(Exception):
        def __reduce__(self):
            raise TypeError("not me")

    @task
    def fails():
        raise Stubborn("the text")

    with pytest.raises(Stubborn):
        fails()
    with pytest.raises(FailedRun) as caught:
        log.runs()[0].result()
    for part in ("Stubborn", "the text", "in fails"):
        assert part in str(caught.value)


# --- in coroutines


def test_in_a_coroutine_result_gives_an_awaitable_and_elsewhere_the_value():
    state, failed = Completed(data=3), Failed(data=ValueError("no"))

    async def inside():
        assert await state.result() == 3
        assert isinstance(await failed.result(raise_on_failure=False), ValueError)
        with pytest.raises(ValueError):
            await failed.result()
        return helper()

    def helper():
        return state.result()  # a plain function, although a loop runs in this thread

    assert asyncio.run(inside()) == 3
    assert state.result() == 3


def test_in_a_coroutine_the_helpers_give_awaitables_too():
    failed = Failed(data=ValueError("no"))

    async def inside():
        assert isinstance(await names.get_state_exception(failed), ValueError)
        assert await names.raise_state_exception(Completed()) is None
        assert (await names.return_value_to_state(1)).result is not None
        assert (await names.exception_to_crashed_state(ValueError("no"))).is_crashed()
        with pytest.raises(ValueError):
            await names.raise_state_exception(failed)

    asyncio.run(inside())


@pytest.mark.parametrize("make", [Failed, names.Crashed, names.Cancelled], ids=lambda m: m.__name__)
def test_raise_state_exception_raises_what_get_state_exception_gives(make):
    error = ValueError("no")
    assert names.get_state_exception(make(data=error)) is error
    with pytest.raises(ValueError, match="no"):
        names.raise_state_exception(make(data=error))


def test_a_state_that_did_not_fail_has_no_exception():
    assert names.raise_state_exception(Completed()) is None
    with pytest.raises(ValueError, match="Expected failed or crashed state got Completed"):
        names.get_state_exception(Completed())


@pytest.mark.parametrize("listed", [list, tuple, set], ids=lambda m: m.__name__)
def test_states_in_a_list_tuple_or_set_are_states(listed):
    assert names.is_state_iterable(listed([Completed(), Completed(data=1)]))
    assert not names.is_state_iterable(listed())
    assert not names.is_state_iterable(listed([Completed(), 1]))


def test_states_as_keys_or_in_a_generator_are_not():
    assert not names.is_state_iterable({Completed(): 1})
    assert not names.is_state_iterable(state for state in [Completed()])


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (5, "Completed", ""),
        (Running("as it is"), "Running", "as it is"),
        ([Completed(), Cached()], "Completed", "All states completed."),
        ([Completed(), Failed(), Failed()], "Failed", "2/3 states failed."),
        ([Completed(), Running(), Pending()], "Failed", "2/3 states are not final."),
        ([Completed(), names.Cancelled()], "Failed", "1/2 states cancelled."),
        ([Completed(), names.Paused()], "Retrying", "1/2 states paused."),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_value_becomes_the_state_that_it_amounts_to(value, kind, message):
    state = names.return_value_to_state(value)
    assert (state.kind, state.message) == (kind, message)


def test_an_exception_becomes_a_failed_or_a_crashed_state():
    error = ValueError("no")
    failed, crashed = names.exception_to_failed_state(error), names.exception_to_crashed_state(error)
    assert (failed.type, failed.result(raise_on_failure=False)) == ("FAILED", error)
    assert (crashed.type, crashed.result(raise_on_failure=False)) == ("CRASHED", error)
    try:
        raise error
    except ValueError:
        assert names.exception_to_failed_state().result(raise_on_failure=False) is error
    with pytest.raises(ValueError, match="no active exception"):
        names.exception_to_failed_state()


# --- persistence


def test_a_result_is_recorded_by_default_and_with_the_completed_transition(log):
    task(lambda: [1, 2])()
    run = log.runs()[0]
    assert run.transitions[-1].to.result() == [1, 2]


def test_a_result_that_cannot_be_encoded_is_no_source_for_a_cache(log, caplog):
    from pluperfect.cache_policies import INPUTS

    calls = []

    @task(cache_policy=INPUTS)
    def lock(n):
        calls.append(n)
        return threading.Lock()

    assert lock(1) is not lock(1)
    assert calls == [1, 1]
    assert "not recorded" in caplog.text


def test_a_state_is_exported_where_prefects_is():
    assert pluperfect.State is State is names.State
    assert {"Scheduled", "Completed", "StateGroup", "return_value_to_state"} <= set(names.__all__)

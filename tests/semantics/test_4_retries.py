"""Retries: how often, after what, how long to wait, and who may object."""

from __future__ import annotations

import asyncio
import functools
import math

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.runtime import flow_run, task_run
from pluperfect.tasks import exponential_backoff
from pluperfect.testing import kinds

RETRIED = ["Pending", "Running", "Retrying", "Running", "Completed"]


def failing(times, decorate=task, *, is_async=False, error=ConnectionError, **options):
    """A task or flow that fails so many times, and the attempts that it made, by `run_count`."""
    attempts = []
    here = task_run if decorate is task else flow_run

    def body():
        attempts.append(here.run_count)
        if len(attempts) <= times:
            raise error(f"attempt {len(attempts)}")
        return "done"

    async def body_async():
        await asyncio.sleep(0)
        return body()

    return decorate(name="shaky", **options)(body_async if is_async else body), attempts


def made(call):
    """What the call gives, awaited where that is needed."""
    found = call()
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
either = pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])


# --- count


@both
@either
def test_retries_are_attempts_after_the_first_and_run_count_is_the_attempt(log, decorate, is_async):
    shaky, attempts = failing(2, decorate, is_async=is_async, retries=2)

    assert made(shaky) == "done"
    assert attempts == [1, 2, 3]


@both
@either
def test_when_the_attempts_are_used_up_the_last_exception_is_raised(log, decorate, is_async):
    shaky, attempts = failing(9, decorate, is_async=is_async, retries=2)

    with pytest.raises(ConnectionError, match="attempt 3"):
        made(shaky)
    assert attempts == [1, 2, 3]


@both
@either
def test_without_retries_there_is_one_attempt(log, decorate, is_async):
    shaky, attempts = failing(1, decorate, is_async=is_async)
    with pytest.raises(ConnectionError):
        made(shaky)
    assert attempts == [1]


# --- delay

DELAYS = [
    (3, [3, 3, 3, 3]),
    (0.5, [0.5] * 4),
    ([1, 10], [1, 10, 10, 10]),
    ((1, 2, 3, 4, 5), [1, 2, 3, 4]),
    (exponential_backoff(10), [10, 20, 40, 80]),
    (exponential_backoff(backoff_factor=0.5), [0.5, 1, 2, 4]),
    (lambda retries: [retries, 1], [4, 1, 1, 1]),
    (lambda retries: retries * 2, [8, 8, 8, 8]),
    (functools.partial(lambda base, retries: [base] * retries, 7), [7] * 4),
    (0, []),
    (None, []),
    ([], []),
    ([0, 5, 0], [5]),
]


@both
@either
@pytest.mark.parametrize(("given", "slept"), DELAYS, ids=[str(i) for i in range(len(DELAYS))])
def test_the_k_th_wait_is_the_k_th_delay_and_the_last_one_repeats(log, clock, given, slept, decorate, is_async):
    shaky, _ = failing(4, decorate, is_async=is_async, retries=4, retry_delay_seconds=given)

    made(shaky)
    assert clock.slept == slept


def test_an_object_that_is_called_may_give_the_delays(log, clock):
    class Delays:
        def __call__(self, retries):
            return [retries]

    shaky, _ = failing(1, retries=6, retry_delay_seconds=Delays())
    shaky()
    assert clock.slept == [6]


def test_a_delay_callable_is_asked_when_it_is_given_once_and_not_at_each_run(log):
    asked = []

    def delays(retries):
        asked.append(retries)
        return [0] * retries

    shaky, _ = failing(2, retries=3, retry_delay_seconds=delays)
    assert asked == [3]
    shaky()
    shaky()
    assert asked == [3]


def test_with_other_retries_the_delay_callable_is_asked_again(log, clock):
    shaky, _ = failing(3, retries=1, retry_delay_seconds=exponential_backoff(1))

    assert shaky.with_options(retries=3)() == "done"
    assert clock.slept == [1, 2, 4]


@either
def test_fifty_delays_are_the_most(decorate):
    decorate(retries=99, retry_delay_seconds=[1] * 50)(lambda: 1)
    with pytest.raises(ValueError, match="50"):
        decorate(retries=99, retry_delay_seconds=[1] * 51)(lambda: 1)
    with pytest.raises(ValueError, match="50"):
        decorate(retries=99, retry_delay_seconds=lambda retries: [1] * retries)(lambda: 1)


@either
@pytest.mark.parametrize("bad", ["1", b"1", object(), ["a"], [None], True, {"a": 1}])
def test_a_delay_is_made_of_numbers(decorate, bad):
    with pytest.raises(TypeError, match="retry_delay_seconds"):
        decorate(retries=1, retry_delay_seconds=bad)(lambda: 1)


@either
@pytest.mark.parametrize("bad", [-1, [1, -1], math.nan, math.inf, lambda retries: [-1]])
def test_a_negative_delay_is_refused(decorate, bad):
    with pytest.raises(ValueError, match="retry_delay_seconds"):
        decorate(retries=1, retry_delay_seconds=bad)(lambda: 1)


@pytest.mark.parametrize("bad", [-1, -100])
def test_negative_retries_are_refused(bad):
    with pytest.raises(ValueError, match="retries"):
        task(retries=bad)(lambda: 1)


@pytest.mark.parametrize(
    ("factor", "retries", "delays"),
    [(10, 3, [10, 20, 40]), (1, 5, [1, 2, 4, 8, 16]), (2, 0, []), (1, 60, [2.0**k for k in range(50)])],
)
def test_exponential_backoff_doubles_uncapped_for_at_most_fifty_retries(factor, retries, delays):
    assert exponential_backoff(backoff_factor=factor)(retries) == delays


# --- jitter


@either
@pytest.mark.parametrize("bad", [-0.1, -10])
def test_a_negative_jitter_factor_is_refused(decorate, bad):
    with pytest.raises(ValueError, match="retry_jitter_factor"):
        decorate(retries=1, retry_jitter_factor=bad)(lambda: 1)


@pytest.mark.parametrize("factor", [0, None, 0.0])
def test_without_a_jitter_factor_the_delay_is_exact(log, clock, factor):
    shaky, _ = failing(2, retries=2, retry_delay_seconds=[10, 20], retry_jitter_factor=factor)
    shaky()
    assert clock.slept == [10, 20]
    assert log.runs()[0].transitions[2].to.draw is None


@both
@either
def test_jitter_is_applied_within_its_bounds(log, clock, decorate, is_async):
    shaky, _ = failing(
        3, decorate, is_async=is_async, retries=3, retry_delay_seconds=exponential_backoff(10), retry_jitter_factor=1
    )
    made(shaky)

    waits = [t.to for t in log.runs()[0].transitions if t.to.kind == "Retrying"]
    assert [wait.delay for wait in waits] == [10, 20, 40]
    least = math.log2(2**2 / (2**2 - 1))
    for wait, slept in zip(waits, clock.slept, strict=True):
        assert wait.delay * least - 1e-6 <= slept <= wait.delay * 2
        assert wait.draw is not None
    assert clock.slept != [10, 20, 40]


def test_a_delay_of_nothing_is_not_jittered(log, clock):
    shaky, _ = failing(1, retries=1, retry_delay_seconds=0, retry_jitter_factor=3)
    shaky()
    assert clock.slept == []
    assert log.runs()[0].transitions[2].to.draw is None


# --- history


def test_a_retry_without_a_delay_is_on_record_too(log):
    shaky, _ = failing(1, retries=1)
    shaky()

    run = log.runs()[0]
    assert kinds(run) == RETRIED
    retry = run.transitions[2]
    assert (retry.asked.kind, retry.by, retry.to.cause) == ("Failed", "retries", "error")
    assert retry.to.error.type == "ConnectionError"
    assert retry.to.due == retry.at


def test_a_timed_out_attempt_says_that_timed_out_was_asked(log):
    from pluperfect.errors import RunTimeout

    calls = []

    @task(retries=1, timeout_seconds=0.05)
    def slow():
        calls.append(1)
        while len(calls) == 1:
            pass
        return 1

    assert slow() == 1
    retry = log.runs()[0].transitions[2]
    assert (retry.asked.kind, retry.to.cause) == ("TimedOut", "timeout")
    assert RunTimeout.__name__ in retry.to.error.type


# --- the condition


def conditions(answer):
    """The same condition in every shape that can be called."""

    def plain(task, task_run, state):
        return answer

    async def awaited(task, task_run, state):
        await asyncio.sleep(0)
        return answer

    class Callable:
        def __call__(self, task, task_run, state):
            return answer

    class Awaited:
        async def __call__(self, task, task_run, state):
            return answer

        def method(self, task, task_run, state):
            return answer

    return {
        "function": plain,
        "async function": awaited,
        "object": Callable(),
        "async object": Awaited(),
        "method": Awaited().method,
        "partial": functools.partial(lambda extra, *three: answer, 1),
        "partial of async": functools.partial(awaited),
        "lambda": lambda *three: answer,
    }


SHAPES = list(conditions(True))


@both
@either
@pytest.mark.parametrize("shape", SHAPES)
def test_a_condition_in_any_shape_that_can_be_called_is_asked(log, shape, decorate, is_async):
    yes, _ = failing(1, decorate, is_async=is_async, retries=1, retry_condition_fn=conditions(True)[shape])
    no, attempts = failing(1, decorate, is_async=is_async, retries=1, retry_condition_fn=conditions(False)[shape])

    assert made(yes) == "done"
    with pytest.raises(ConnectionError):
        made(no)
    assert attempts == [1]


@pytest.mark.parametrize(("answer", "retried"), [(1, True), ("yes", True), ([0], True), (0, False), (None, False)])
def test_what_a_condition_gives_counts_by_its_truth_and_none_is_no(log, answer, retried):
    shaky, attempts = failing(1, retries=1, retry_condition_fn=lambda *_: answer)
    state = shaky(return_state=True)
    assert (state.is_completed(), len(attempts)) == (retried, 1 + retried)


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_condition_is_given_the_definition_the_run_and_the_failed_state(log, decorate):
    seen = []

    def asked(definition, run, state):
        seen.append((definition, run.name, state.kind))
        with pytest.raises(ConnectionError, match="attempt 1"):
            state.result()

    shaky, _ = failing(1, decorate, retries=1, retry_condition_fn=asked)
    with pytest.raises(ConnectionError):
        shaky()
    assert [(definition, kind) for definition, _, kind in seen] == [(shaky, "Failed")]


def test_a_condition_is_not_asked_where_there_is_no_attempt_left(log):
    asked = []
    shaky, _ = failing(9, retries=2, retry_condition_fn=lambda *_: asked.append(1) or True)
    with pytest.raises(ConnectionError):
        shaky()
    assert asked == [1, 1]


def test_a_condition_is_asked_of_timeouts_and_of_returned_failures(log):
    seen = []

    def asked(_, __, state):
        seen.append(state.kind)
        return True

    turns = []

    @task(retries=2, timeout_seconds=0.05, retry_condition_fn=asked)
    def many():
        turns.append(1)
        if len(turns) == 1:
            while True:
                pass
        return pluperfect.Failed(message="returned") if len(turns) == 2 else 1

    assert many() == 1
    assert seen == ["TimedOut", "Failed"]


@both
def test_a_condition_that_raises_means_no(log, caplog, is_async):
    def broken(*_):
        raise ZeroDivisionError

    shaky, attempts = failing(1, is_async=is_async, retries=3, retry_condition_fn=broken)
    with pytest.raises(ConnectionError):
        made(shaky)
    assert attempts == [1]
    assert "ZeroDivisionError" in caplog.text


@either
@pytest.mark.parametrize("bad", ["yes", 1, object()])
def test_a_condition_that_cannot_be_called_is_refused(decorate, bad):
    with pytest.raises(TypeError, match=r"retry_condition_fn.*not callable"):
        decorate(retries=1, retry_condition_fn=bad)(lambda: 1)


# --- what retries


@pytest.mark.parametrize("state", [pluperfect.Failed(message="no"), pluperfect.TimedOut(message="late")])
@both
def test_a_returned_failure_is_retried_and_at_the_end_raised(log, state, is_async):
    calls = []

    def body():
        calls.append(1)
        return state

    async def body_async():
        return body()

    call = task(retries=1, name="returns")(body_async if is_async else body)
    with pytest.raises(pluperfect.errors.FailedRun):
        made(call)
    assert len(calls) == 2
    assert kinds(log.runs()[0]) == ["Pending", "Running", "Retrying", "Running", state.kind]
    if state.kind == "Failed":
        assert log.runs()[0].state.cause == "returned"
    assert log.runs()[0].transitions[2].to.cause == ("returned" if state.kind == "Failed" else "timeout")


@pytest.mark.parametrize(
    ("state", "cause"),
    [(pluperfect.states.Cancelled("off"), "cancelled"), (pluperfect.states.Crashed("bang"), "crashed")],
    ids=["cancelled", "crashed"],
)
def test_a_returned_cancelled_or_crashed_state_ends_the_run_without_a_retry(log, state, cause):
    task(lambda: state, name="returns", retries=3)(return_state=True)
    run = log.runs()[0]
    assert kinds(run) == ["Pending", "Running", "Failed"]
    assert run.state.cause == cause


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_crash_is_not_retried(log, error, is_async):
    shaky, attempts = failing(1, is_async=is_async, retries=3, error=error)
    with pytest.raises(error):
        made(shaky)
    assert attempts == [1]
    assert log.runs()[0].state.is_crashed()


def test_a_failed_upstream_is_not_retried(log):
    bad, _ = failing(9)
    downstream = task(retries=3, name="downstream")(lambda x: x)

    @flow
    def whole():
        downstream.submit(bad.submit()).wait()

    whole(return_state=True)
    assert kinds(log.runs(name="downstream")[0]) == ["Pending", "Failed"]


# --- task x flow


def test_each_attempt_of_a_flow_gives_its_tasks_a_fresh_budget(log):
    shaky, attempts = failing(99, retries=2)

    @flow(retries=3)
    def whole():
        shaky()

    with pytest.raises(ConnectionError):
        whole()
    assert len(attempts) == (2 + 1) * (3 + 1)
    assert attempts == [1, 2, 3] * 4


def test_a_flow_retry_makes_only_the_unfinished_calls_again(log):
    calls = []

    @task
    def step(name):
        calls.append(name)
        if calls == ["a", "b"]:
            raise ConnectionError
        return name

    @flow(retries=1)
    def whole():
        return [step("a"), step("b")]

    assert whole() == ["a", "b"]
    assert calls == ["a", "b", "b"]


# --- defaults

SETTINGS = [(task, "TASKS"), (flow, "FLOWS")]


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
@pytest.mark.parametrize(
    "spelling", ["{}_DEFAULT_RETRIES", "PREFECT_{}_DEFAULT_RETRIES", "PLUPERFECT_{}_DEFAULT_RETRIES"]
)
def test_a_setting_gives_the_retries_that_a_decorator_does_not(log, setting, decorate, prefix, spelling):
    setting(**{spelling.format(prefix): 2})
    shaky, attempts = failing(2, decorate)
    assert shaky() == "done"
    assert len(attempts) == 3


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
def test_the_other_spelling_of_the_setting_counts_too(log, setting, decorate, prefix):
    setting(**{f"{prefix[:-1]}_DEFAULT_RETRIES": 1})
    shaky, _ = failing(1, decorate)
    assert shaky() == "done"


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
def test_the_setting_of_one_kind_does_not_concern_the_other(log, setting, decorate, prefix):
    setting(**{f"{'FLOWS' if prefix == 'TASKS' else 'TASKS'}_DEFAULT_RETRIES": 5})
    shaky, attempts = failing(1, decorate)
    with pytest.raises(ConnectionError):
        shaky()
    assert attempts == [1]


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
def test_the_decorator_wins_over_the_setting_also_with_an_explicit_zero(log, setting, decorate, prefix):
    setting(**{f"{prefix}_DEFAULT_RETRIES": 5, f"{prefix}_DEFAULT_RETRY_DELAY_SECONDS": 9})
    shaky, attempts = failing(1, decorate, retries=0)
    with pytest.raises(ConnectionError):
        shaky()
    assert attempts == [1]


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
@pytest.mark.parametrize(("delay", "slept"), [(7, [7, 7]), ([1, 10, 100], [1, 10])])
def test_a_setting_gives_the_delays(log, clock, setting, decorate, prefix, delay, slept):
    setting(**{f"{prefix}_DEFAULT_RETRY_DELAY_SECONDS": delay})
    shaky, _ = failing(2, decorate, retries=2)
    shaky()
    assert clock.slept == slept


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
def test_a_delay_of_the_decorator_wins_over_the_setting(log, clock, setting, decorate, prefix):
    setting(**{f"{prefix}_DEFAULT_RETRY_DELAY_SECONDS": 7})
    shaky, _ = failing(1, decorate, retries=1, retry_delay_seconds=0)
    shaky()
    assert clock.slept == []


@pytest.mark.parametrize(("decorate", "prefix"), SETTINGS, ids=["task", "flow"])
def test_the_setting_is_read_when_the_function_is_decorated(log, decorate, prefix):
    from pluperfect.settings import temporary_settings

    with temporary_settings({f"{prefix}_DEFAULT_RETRIES": 1}):
        shaky, _ = failing(1, decorate)
    assert shaky() == "done"
    assert shaky.with_options(name="other").given["retries"] == 1


# --- during the wait


def test_the_wait_lasts_to_the_recorded_time(log, clock):
    shaky, _ = failing(1, retries=1, retry_delay_seconds=3600)
    before = clock.now()
    shaky()
    assert log.runs()[0].transitions[2].to.due == before + 3600
    assert clock.slept == [3600]

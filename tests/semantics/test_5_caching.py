"""Caching: which calls are answered without their body, from what, and how long."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    Inputs,
)
from pluperfect.errors import MissingResult
from pluperfect.testing import kinds

both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def counting(*, is_async=False, fn=None, **options):
    """A task that doubles, and the list of its calls."""
    calls = []

    def body(x=1, y=0):
        calls.append((x, y))
        return [x, y] if fn is None else fn(x, y)

    async def body_async(x=1, y=0):
        return body(x, y)

    made = task(name="counted", **options)(body_async if is_async else body)
    return (lambda *args, **kwargs: asyncio.run(made(*args, **kwargs))) if is_async else made, calls


# --- 5.1 policies


@both
def test_equal_inputs_are_answered_from_the_run_that_computed_them(log, is_async):
    counted, calls = counting(is_async=is_async, cache_policy=INPUTS)

    assert counted(1, 2) == counted(y=2, x=1) == [1, 2]
    assert calls == [(1, 2)]
    assert counted(2, 2) == [2, 2]
    assert len(calls) == 2


def test_without_inputs_inputs_alone_makes_no_key(log):
    calls = []

    @task(cache_policy=INPUTS)
    def nothing():
        calls.append(1)

    nothing()
    nothing()
    assert len(calls) == 2


@both
def test_an_input_that_cannot_be_hashed_is_logged_and_the_body_runs(log, caplog, is_async):
    counted, calls = counting(is_async=is_async, cache_policy=INPUTS, fn=lambda x, y: 1)
    lock = threading.Lock()

    counted(lock)
    counted(lock)
    assert len(calls) == 2
    assert "'x' cannot be hashed" in caplog.text
    assert "'x'" in log.runs()[0].transitions[1].facts.uncached


def test_bare_inputs_are_shared_by_all_tasks_with_equal_arguments(log):
    one = task(lambda x: "one", name="one", cache_policy=INPUTS)
    other = task(lambda x: "other", name="other", cache_policy=INPUTS)

    assert (one(1), other(1)) == ("one", "one")


def test_with_the_source_each_task_has_its_own(log):
    one = task(lambda x: "one", name="one", cache_policy=INPUTS + TASK_SOURCE)
    other = task(lambda x: "other", name="other", cache_policy=INPUTS + TASK_SOURCE)

    assert (one(1), other(1)) == ("one", "other")


def test_the_run_id_is_the_flow_run_else_the_task_run(log):
    counted, calls = counting(cache_policy=RUN_ID)

    counted()
    counted()
    assert len(calls) == 2

    @flow
    def whole():
        counted()
        counted()

    whole()
    assert len(calls) == 3
    whole()
    assert len(calls) == 4


def test_flow_parameters_are_a_key_and_without_any_there_is_none(log):
    counted, calls = counting(cache_policy=FLOW_PARAMETERS)

    @flow
    def whole(n):
        counted(n)

    @flow
    def bare():
        counted()

    whole(1)
    whole(1)
    whole(2)
    assert len(calls) == 2
    bare()
    bare()
    assert len(calls) == 4


@pytest.mark.parametrize("policy", [NO_CACHE, NONE])
def test_no_cache_is_no_cache(log, policy):
    counted, calls = counting(cache_policy=policy)
    counted()
    counted()
    assert len(calls) == 2


def test_default_given_explicitly_answers_the_second_call_of_a_flow_run(log):
    counted, calls = counting(cache_policy=DEFAULT)

    @flow
    def whole():
        return counted(1), counted(1)

    whole()
    assert len(calls) == 1
    whole()
    assert len(calls) == 2


def test_as_the_mere_default_two_equal_calls_are_both_made(log):
    counted, calls = counting()

    @flow
    def whole():
        counted(1)
        counted(1)

    whole()
    assert len(calls) == 2


def test_the_result_of_a_key_function_is_the_key_and_none_is_no_caching(log):
    seen = []

    def key(context, arguments):
        seen.append((context.task.name, context.task_run.name, dict(arguments)))
        return None if arguments["x"] < 0 else f"key-{arguments['x']}"

    counted, calls = counting(cache_key_fn=key)
    counted(1)
    counted(1, y=5)
    counted(-1)
    counted(-1)
    assert calls == [(1, 0), (-1, 0), (-1, 0)]
    assert seen[0] == ("counted", "counted", {"x": 1, "y": 0})
    assert log.runs()[-1].transitions[1].facts.key == "key-1"


def test_a_key_function_beats_a_policy_with_a_warning(log, caplog):
    counted, calls = counting(cache_key_fn=lambda *_: "same", cache_policy=INPUTS)
    counted(1)
    counted(2)
    assert len(calls) == 1
    assert "cache_key_fn" in caplog.text


# --- the storage key


@both
def test_a_storage_key_acts_as_the_key_so_that_other_inputs_hit_too(log, is_async):
    counted, calls = counting(is_async=is_async, result_storage_key="the-one")

    assert counted(1) == counted(2) == [1, 0]
    assert calls == [(1, 0)]
    assert log.runs()[0].state.key == "the-one"


def test_a_storage_key_is_shared_by_all_tasks(log):
    one = task(lambda: "one", name="one", result_storage_key="shared")
    other = task(lambda: "other", name="other", result_storage_key="shared")
    assert (one(), other()) == ("one", "one")


def test_a_storage_key_is_a_template_over_the_parameters(log):
    counted, calls = counting(result_storage_key="x-{parameters[x]}-{parameters[y]:03}")
    counted(1)
    counted(1)
    counted(2)
    assert calls == [(1, 0), (2, 0)]
    assert log.runs()[0].transitions[1].facts.key == "x-2-000"


def test_a_storage_key_is_a_template_over_the_runs(log):
    counted, calls = counting(result_storage_key="{flow_run.flow_name}-{flow_run.parameters[n]}-{task_run.task_name}")

    @flow
    def first(n):
        counted(n)

    first(1)
    first(1)
    first(2)
    assert calls == [(1, 0), (2, 0)]
    assert log.runs(name="counted")[0].transitions[1].facts.key == "first-2-counted"


@pytest.mark.parametrize("name", ["{task_run.name}", "{task_run.id}", "{task_run.run_count}", "{task_run.tags}"])
def test_a_storage_key_knows_its_task_run(log, name):
    counted, _ = counting(result_storage_key="k" + name, tags=["t"])
    counted()
    run = log.runs()[0]
    told = {"name": run.name, "id": run.id, "run_count": 0, "tags": ["t"]}
    assert run.transitions[1].facts.key == "k" + name.format(task_run=type("T", (), told))


@pytest.mark.parametrize("name", ["{flow_run.name}", "{flow_run.id}", "{flow_run.flow_name}"])
def test_a_storage_key_knows_its_flow_run(log, name):
    counted, _ = counting(result_storage_key="k" + name)
    flow(name="whole")(lambda: counted())()
    run = log.runs(roots=True)[0]
    told = {"name": run.name, "id": run.id, "flow_name": "whole"}
    child = log.runs(name="counted")[0]
    assert child.transitions[1].facts.key == "k" + name.format(flow_run=type("T", (), told))


def test_a_storage_key_beats_a_policy(log):
    counted, calls = counting(result_storage_key="one", cache_policy=INPUTS)
    counted(1)
    counted(2)
    assert len(calls) == 1


def test_a_storage_key_that_cannot_be_made_is_logged_and_the_body_runs(log, caplog):
    counted, _calls = counting(result_storage_key="{parameters[nobody]}")
    assert counted() == [1, 0]
    assert "nobody" in caplog.text
    assert "nobody" in log.runs()[0].transitions[1].facts.uncached


def test_a_storage_key_is_a_text():
    with pytest.raises(TypeError, match="result_storage_key"):
        task(result_storage_key=1)(lambda: 1)
    with pytest.raises(TypeError, match="result_storage_key"):
        flow(result_storage_key="no")(lambda: 1)


# --- sums of policies


def test_sums_are_flat_and_inputs_in_them_merge():
    made = (INPUTS - "a") + TASK_SOURCE + (INPUTS - "b") + (RUN_ID + FLOW_PARAMETERS)
    assert isinstance(made, CompoundCachePolicy)
    assert not any(isinstance(part, CompoundCachePolicy) for part in made.policies)
    (inputs,) = [part for part in made.policies if isinstance(part, Inputs)]
    assert inputs.exclude == {"a", "b"}


@pytest.mark.parametrize("policy", [INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS, DEFAULT, INPUTS - "x"], ids=repr)
def test_no_cache_is_neutral_in_a_sum(policy):
    assert policy + NO_CACHE == policy == NO_CACHE + policy


def test_parts_that_give_nothing_are_left_out_and_all_nothing_is_no_key(log):
    nothing = CacheKeyFnPolicy(lambda context, arguments: None)
    counted, calls = counting(cache_policy=nothing + INPUTS)
    counted(1)
    counted(1)
    counted(2)
    assert calls == [(1, 0), (2, 0)]

    counted, calls = counting(cache_policy=nothing + CachePolicy.from_cache_key_fn(lambda *_: None))
    counted()
    counted()
    assert len(calls) == 2


def test_minus_leaves_an_input_out_of_compounds_too_and_is_nothing_elsewhere():
    assert (INPUTS - "x").exclude == {"x"}
    (inputs,) = [part for part in (DEFAULT - "x").policies if isinstance(part, Inputs)]
    assert inputs.exclude == {"x"}
    assert TASK_SOURCE - "x" == TASK_SOURCE
    assert TASK_SOURCE + RUN_ID - "x" == TASK_SOURCE + RUN_ID
    assert NO_CACHE - "x" == NO_CACHE


@pytest.mark.parametrize("policy", [INPUTS, TASK_SOURCE, DEFAULT, NO_CACHE], ids=repr)
@pytest.mark.parametrize("bad", [1, None, ["x"], INPUTS])
def test_only_a_text_can_be_subtracted(policy, bad):
    with pytest.raises(TypeError, match="string"):
        policy - bad


def test_an_excluded_input_does_not_count(log):
    counted, calls = counting(cache_policy=INPUTS - "y")
    counted(1, y=1)
    counted(1, y=2)
    assert calls == [(1, 1)]


CONFIGURED = [
    ("key_storage", "here", "there", "storage locations"),
    ("isolation_level", "READ_COMMITTED", "SERIALIZABLE", "isolation levels"),
    ("lock_manager", "mine", "yours", "lock implementations"),
]
configured = pytest.mark.parametrize(("name", "one", "other", "words"), CONFIGURED, ids=[row[0] for row in CONFIGURED])


@configured
@pytest.mark.parametrize("policy", [INPUTS, TASK_SOURCE, DEFAULT], ids=["single", "other", "compound"])
def test_configure_gives_a_copy_that_is_kept_through_plus_and_minus(policy, name, one, other, words):
    made = policy.configure(**{name: one})

    assert getattr(made, name) == one
    assert getattr(policy, name) is None
    for sum_ in (made + RUN_ID, RUN_ID + made, made + made, made - "x", (made + RUN_ID) - "x", made + NO_CACHE):
        assert getattr(sum_, name) == one


@configured
def test_configure_leaves_what_it_is_not_given(name, one, other, words):
    twice = INPUTS.configure(**{name: one}).configure()
    assert getattr(twice, name) == one
    assert getattr(twice.configure(**{name: other}), name) == other
    assert (INPUTS - "x").configure(**{name: one}).exclude == {"x"}


@configured
def test_policies_configured_differently_cannot_be_added(name, one, other, words):
    with pytest.raises(ValueError, match=f"different {words}"):
        INPUTS.configure(**{name: one}) + RUN_ID.configure(**{name: other})
    with pytest.raises(ValueError, match=f"different {words}"):
        (DEFAULT - "x").configure(**{name: one}) + DEFAULT.configure(**{name: other})


def test_keys_in_different_storages_do_not_meet(log):
    one, calls = counting(cache_policy=INPUTS.configure(key_storage="here"))
    other, more = counting(cache_policy=INPUTS.configure(key_storage="there"))
    again, _ = counting(cache_policy=INPUTS.configure(key_storage="here"))

    one(1), other(1), again(1), one(1)
    assert (len(calls), len(more)) == (1, 1)


def test_a_policy_of_ones_own_makes_a_key(log):
    class ByFirst(CachePolicy, frozen=True):
        def compute_key(self, task_ctx, inputs, flow_parameters, **kwargs):
            return f"{task_ctx.task.name}-{inputs['x']}-{flow_parameters}"

    counted, calls = counting(cache_policy=ByFirst())
    counted(1)
    counted(1, y=2)
    counted(2)
    assert calls == [(1, 0), (2, 0)]
    both_, more = counting(cache_policy=ByFirst() + INPUTS)
    both_(1)
    both_(1)
    both_(1, y=2)
    assert len(more) == 2


def test_the_parts_of_a_key_are_on_record(log):
    counted, _ = counting(cache_policy=INPUTS + TASK_SOURCE)
    counted(1, 2)
    facts = log.runs()[0].transitions[1].facts
    assert set(facts.parts) == {"input x", "input y", "source"}
    assert facts.key


# --- 5.2 persistence

IMPLYING = [
    {"cache_policy": INPUTS},
    {"cache_key_fn": lambda *_: "k"},
    {"result_storage_key": "k"},
    {"result_storage": "somewhere"},
    {"result_serializer": "json"},
]


@pytest.mark.parametrize("options", IMPLYING, ids=[next(iter(o)) for o in IMPLYING])
@pytest.mark.parametrize("name", ["RESULTS_PERSIST_BY_DEFAULT", "TASKS_DEFAULT_PERSIST_RESULT"])
def test_an_option_about_results_turns_persistence_on(log, setting, name, options):
    setting(**{name: False})
    counted, _ = counting(**options)
    counted()
    assert log.runs()[0].result() == [1, 0]


@both
def test_results_are_recorded_unless_a_setting_says_no(log, setting, is_async):
    counted, _ = counting(is_async=is_async)
    counted()
    assert log.runs()[0].result() == [1, 0]
    setting(RESULTS_PERSIST_BY_DEFAULT=False)
    counted()
    with pytest.raises(MissingResult):
        log.runs()[0].result()


def test_the_setting_for_tasks_is_before_the_setting_for_all(log, setting):
    setting(RESULTS_PERSIST_BY_DEFAULT=False, TASKS_DEFAULT_PERSIST_RESULT=True)
    counted, _ = counting()
    whole = flow(lambda: counted(), name="whole")
    whole()
    assert log.runs(name="counted")[0].result() == [1, 0]
    with pytest.raises(MissingResult):
        log.runs(name="whole")[0].result()


def test_an_explicit_persist_result_is_before_all_settings(log, setting):
    setting(RESULTS_PERSIST_BY_DEFAULT=False, TASKS_DEFAULT_PERSIST_RESULT=False)
    counted, _ = counting(persist_result=True)
    counted()
    assert log.runs()[0].result() == [1, 0]
    setting(RESULTS_PERSIST_BY_DEFAULT=True, TASKS_DEFAULT_PERSIST_RESULT=True)
    counted, _ = counting(persist_result=False)
    counted()
    with pytest.raises(MissingResult, match="persist_result=False"):
        log.runs()[0].result()


def test_tasks_take_over_what_their_flow_says_of_persistence(log):
    counted, _ = counting()
    kept, _ = counting(persist_result=True)

    @flow(persist_result=False)
    def whole():
        counted(1)
        kept(2)

    whole()
    kept_run, lost = log.runs(name="counted")
    assert kept_run.result() == [2, 0]
    with pytest.raises(MissingResult):
        lost.result()


def test_the_state_returned_by_a_body_is_not_recorded_either(log):
    task(lambda: pluperfect.Completed(data=5), name="one", persist_result=False)(return_state=True)
    with pytest.raises(MissingResult):
        log.runs()[0].result()


@pytest.mark.parametrize(
    "options", [{"cache_policy": INPUTS}, {"cache_key_fn": lambda *_: "k"}, {"result_storage_key": "k"}]
)
def test_persist_result_false_disables_the_policy_with_a_warning(log, caplog, options):
    counted, calls = counting(persist_result=False, **options)
    counted(1)
    counted(1)
    assert len(calls) == 2
    assert "persist_result=False" in caplog.text


# --- hits


def test_a_hit_goes_from_pending_to_cached_and_cites_the_run_that_computed_it(log):
    counted, _ = counting(cache_policy=INPUTS)
    counted()
    state = counted(return_state=True)

    assert (state.kind, state.name, state.type) == ("Cached", "Cached", "COMPLETED")
    hit, source = log.runs()
    assert kinds(hit) == ["Pending", "Cached"]
    assert state.source[0].hex() == source.id.replace("-", "")


def test_each_hit_gives_a_fresh_copy(log):
    counted, _ = counting(cache_policy=INPUTS)
    counted(1).append("mine")
    counted(1).append("mine too")
    assert counted(1) == [1, 0]


def test_submitted_and_mapped_calls_are_answered_too(log):
    counted, calls = counting(cache_policy=INPUTS)

    @flow
    def whole():
        counted.submit(1).wait()
        return counted.submit(1), *counted.map([1, 1])

    assert [state.kind for state in whole()] == ["Cached"] * 3
    assert len(calls) == 1


def test_the_cache_is_looked_up_once_and_never_before_a_retry(log):
    asked = []

    def key(context, arguments):
        asked.append(1)
        return "k"

    tries = []

    @task(cache_key_fn=key, retries=2)
    def shaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError
        return 1

    shaky()
    assert asked == [1]
    assert len(tries) == 3


def test_nor_before_an_iteration_and_no_payload_is_stored(log):
    asked = []

    @task(cache_key_fn=lambda *_: asked.append(1) or "k")
    def loops():
        from pluperfect.runtime import task_run

        if task_run.loop_count < 3:
            raise pluperfect.LOOP(result=task_run.loop_count)
        return "end"

    assert loops() == "end"
    assert asked == [1]
    assert loops() == "end"
    assert kinds(log.runs()[0]) == ["Pending", "Cached"]


def test_the_key_is_made_of_inputs_that_are_resolved(log):
    counted, calls = counting(cache_policy=INPUTS)
    one = task(lambda: 1, name="one")

    @flow
    def whole():
        counted(one.submit())
        counted(1)

    whole()
    assert len(calls) == 1


@pytest.mark.parametrize("fail", [lambda: 1 / 0, lambda: pluperfect.Failed(message="no")], ids=["raises", "returns"])
def test_a_failure_is_never_a_hit(log, fail):
    counted, calls = counting(cache_policy=INPUTS, fn=lambda x, y: fail())
    counted(return_state=True)
    counted(return_state=True)
    assert len(calls) == 2


# --- expiry and refresh


@pytest.mark.parametrize("after", [timedelta(seconds=60), 60])
def test_a_result_expires_from_its_completion_and_at_the_instant_it_is_a_miss(log, clock, after):
    counted, calls = counting(cache_policy=INPUTS, cache_expiration=after)
    counted()
    clock.advance(59.999)
    counted()
    assert len(calls) == 1
    clock.advance(0.001)
    counted()
    assert len(calls) == 2
    clock.advance(59)
    counted()
    assert len(calls) == 2


def test_without_an_expiration_a_result_answers_for_ever(log, clock):
    counted, calls = counting(cache_policy=INPUTS)
    counted()
    clock.advance(1e9)
    counted()
    assert len(calls) == 1


def test_an_expiration_binds_all_who_share_the_key(log, clock):
    brief, _calls = counting(cache_policy=INPUTS, cache_expiration=60)
    patient, more = counting(cache_policy=INPUTS)
    brief()
    patient()
    assert more == []
    clock.advance(60)
    patient()
    assert len(more) == 1


@both
def test_refresh_cache_makes_the_call_and_replaces_the_entry(log, is_async):
    values = iter("abc")
    counted, _calls = counting(is_async=is_async, cache_policy=INPUTS, fn=lambda x, y: next(values))
    fresh, _ = counting(is_async=is_async, cache_policy=INPUTS, refresh_cache=True, fn=lambda x, y: next(values))
    assert counted() == "a"
    assert fresh() == "b"
    assert counted() == "b"


def test_a_setting_refreshes_what_does_not_say_so_itself(log, setting):
    counted, calls = counting(cache_policy=INPUTS)
    kept, more = counting(cache_policy=INPUTS, refresh_cache=False)
    counted()
    setting(TASKS_REFRESH_CACHE=True)
    counted()
    assert len(calls) == 2
    kept()
    assert more == []


def test_a_setting_disables_caching_whatever_the_policy(log, setting):
    counted, calls = counting(cache_policy=INPUTS)
    stored, _ = counting(result_storage_key="k")
    setting(TASKS_DISABLE_CACHING=True)
    counted()
    stored()
    counted()
    assert len(calls) == 2
    assert log.runs()[0].transitions[1].facts.key is None


def test_a_setting_leaves_tasks_that_name_no_policy_without_one(log, setting):
    setting(TASKS_DEFAULT_NO_CACHE=True)
    named, calls = counting(cache_policy=INPUTS)
    keyed, more = counting(cache_key_fn=lambda *_: "k2")
    stored, third = counting(result_storage_key="k3")
    bare, fourth = counting()
    for call in (named, keyed, stored, bare):
        call()
        call()
    assert [len(made) for made in (calls, more, third, fourth)] == [1, 1, 1, 2]


def test_with_that_setting_a_flow_retry_replays_nothing_either(log, setting):
    setting(TASKS_DEFAULT_NO_CACHE=True)
    bare, calls = counting()
    attempts = []

    @flow(retries=1)
    def whole():
        attempts.append(1)
        bare()
        if len(attempts) == 1:
            raise ValueError

    whole()
    assert len(calls) == 2


# --- replay


@pytest.mark.parametrize(
    ("options", "made"),
    [({}, 2), ({"cache_policy": NO_CACHE}, 4), ({"persist_result": False}, 4)],
    ids=["default", "no cache", "not persisted"],
)
def test_on_a_flow_retry_the_k_th_call_takes_the_earlier_ones_result_unless_it_opts_out(log, options, made):
    counted, calls = counting(**options)
    attempts = []

    @flow(retries=1)
    def whole():
        attempts.append(1)
        counted(1)
        counted(1)
        if len(attempts) == 1:
            raise ValueError

    whole()
    assert len(calls) == made
    if made == 2:
        second, first = log.runs(name="counted")[:2]
        assert kinds(first) == kinds(second) == ["Pending", "Cached"]
        assert first.state.source != second.state.source


def test_a_new_run_reuses_nothing(log):
    counted, calls = counting()
    whole = flow(lambda: counted(1), name="whole")
    whole()
    whole()
    assert len(calls) == 2


# --- expiration as an option


@pytest.mark.parametrize("bad", ["1", object(), True])
def test_an_expiration_is_a_span_of_time(bad):
    with pytest.raises(TypeError, match="cache_expiration"):
        task(cache_expiration=bad)(lambda: 1)


@pytest.mark.parametrize("bad", ["INPUTS", 1, lambda: 1])
def test_a_policy_is_a_policy(bad):
    with pytest.raises(TypeError, match="cache_policy"):
        task(cache_policy=bad)(lambda: 1)

"""Policies are values that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CompoundCachePolicy,
    Inputs,
)

policies = st.sampled_from([INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS, NO_CACHE, INPUTS - "a", INPUTS + RUN_ID])


@given(policies, policies, policies)
def test_sums_are_flat_and_it_does_not_matter_how_they_are_bracketed(a, b, c):
    total = (a + b) + c

    assert total == a + (b + c)
    if isinstance(total, CompoundCachePolicy):
        assert not any(isinstance(part, CompoundCachePolicy) for part in total.policies)
        assert sum(isinstance(part, Inputs) for part in total.policies) <= 1


@given(policies)
def test_no_cache_is_nothing_in_a_sum(policy):
    assert policy + NO_CACHE == policy
    assert NO_CACHE + policy == policy
    assert policy + policy == policy


def test_exclusions_unite_and_reach_into_sums():
    assert (INPUTS - "a") + (INPUTS - "b") == Inputs(frozenset({"a", "b"}))
    assert (INPUTS + RUN_ID) - "a" == (INPUTS - "a") + RUN_ID
    assert RUN_ID - "a" == RUN_ID


def test_default_is_inputs_source_and_run():
    assert DEFAULT == INPUTS + TASK_SOURCE + RUN_ID
    assert NONE is NO_CACHE


@pytest.mark.parametrize("other", [3, None, ["a"], INPUTS])
def test_only_a_name_can_be_taken_away(other):
    with pytest.raises(TypeError, match="name of a parameter"):
        INPUTS - other


def test_only_policies_add_up():
    with pytest.raises(TypeError):
        INPUTS + "a"


def test_a_compound_made_by_hand_is_as_flat_as_a_sum():
    assert CompoundCachePolicy([INPUTS - "a", RUN_ID + INPUTS, NO_CACHE]) == (INPUTS - "a") + RUN_ID
    assert Inputs(exclude=["a", "b"]) == INPUTS - "a" - "b"


@pytest.mark.parametrize("make", [lambda: Inputs("debug"), lambda: Inputs(3), lambda: CompoundCachePolicy(["INPUTS"])])
def test_what_is_no_policy_is_refused_where_it_is_made(make):
    with pytest.raises(TypeError):
        make()

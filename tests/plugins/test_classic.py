"""The rule behind Prefect 1's triggers and state handlers alone: pure, and the same when a history is judged again."""

from __future__ import annotations

import pytest

from pluperfect.hooks import CacheKey, Definition
from pluperfect.rules import Proposal, Verdict
from pluperfect.states import Cached, Completed, Failed, Looped, Pending, Retrying, Running, Spec, TimedOut
from pluperfect.transitions import Facts, Run
from pluperfect_plugins.classic import GO, cache_key, options, review

SPEC = Spec("task", "t", "t", "t-0", bytes(16))
BORN = Pending(spec=SPEC)


def judged(was, to, answers=None, *, definition=True, **given):
    known = Definition("task", "t", fn=print, options=given) if definition else None
    return review(Run(bytes(16), 5, was, SPEC), Proposal(to, 100.0, Facts(answers=answers)), known)


def test_without_trigger_and_handlers_it_has_no_opinion():
    assert judged(BORN, Running()) is None
    assert judged(Running(), Completed()) is None


def test_the_trigger_is_asked_first_and_once():
    assert judged(BORN, Running(), trigger=print, state_handlers=print) == Verdict(ask="trigger")
    assert judged(BORN, Running(), {"trigger": True}, trigger=print) is None
    assert judged(Retrying(), Running(), trigger=print) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [(False, "the trigger says no"), ({"raised": "KeyError: 'x'"}, "the trigger raised KeyError: 'x'")],
)
def test_whatever_is_no_yes_fails_the_trigger(answer, why):
    verdict = judged(BORN, Running(), {"trigger": answer}, trigger=print)
    assert verdict.to == Failed(why, "trigger")
    assert verdict.why == "the trigger says so"


def test_a_state_that_the_trigger_gives_is_recorded():
    ended = Failed("not today", "trigger")
    assert judged(BORN, Running(), {"trigger": ended}, trigger=print).to == ended


def test_handlers_are_asked_last_about_what_would_be_recorded():
    assert judged(BORN, Running(), state_handlers=print) == Verdict(ask="state_handlers", last=True)
    ended = Failed("no", "trigger")
    asked = judged(BORN, Running(), {"trigger": ended}, trigger=print, state_handlers=print)
    assert asked == Verdict(ask="state_handlers", about=ended)


def test_handlers_have_the_last_word():
    answers = {"trigger": Failed("no", "trigger"), "state_handlers": Completed("saved")}
    assert judged(BORN, Running(), answers, trigger=print, state_handlers=print).to == Completed("saved")
    answers["state_handlers"] = GO
    assert judged(BORN, Running(), answers, trigger=print, state_handlers=print).to == Running()
    answers["state_handlers"] = None
    assert judged(BORN, Running(), answers, trigger=print, state_handlers=print).to == answers["trigger"]


@pytest.mark.parametrize("to", [Completed(), Failed(), TimedOut(), Looped(), Retrying(), Retrying(cause="paused")])
def test_every_end_of_an_attempt_is_shown(to):
    assert judged(Running(), to, state_handlers=print).ask == "state_handlers"


@pytest.mark.parametrize(
    "to", [Failed(cause="cancelled"), Failed(cause="refused"), Retrying(cause="interrupted")], ids=lambda to: to.cause
)
def test_what_the_engine_does_by_itself_is_not_shown(to):
    assert judged(Running(), to, state_handlers=print) is None


def test_a_cached_result_and_the_next_iteration_are_shown_and_a_birth_is_not():
    assert judged(BORN, Cached(), {"trigger": True}, state_handlers=print).ask == "state_handlers"
    assert judged(Looped(), Running(), state_handlers=print).ask == "state_handlers"
    assert judged(None, BORN, state_handlers=print) is None


def test_a_history_is_judged_again_without_its_code():
    answers = {"trigger": Failed("no", "trigger")}
    assert judged(BORN, Running(), answers, definition=False).to == answers["trigger"]
    assert judged(Running(), Completed(), {"state_handlers": Failed("small")}, definition=False).to == Failed("small")


def test_what_is_given_is_callable_and_flows_have_handlers_alone():
    declared = {option.name: option for option in options("task")}
    assert set(declared) == {"state_handlers", "trigger", "classic_cache"}
    assert [option.name for option in options("flow")] == ["state_handlers"]
    for option in declared.values():
        assert option.check(print) is print
        assert option.check(None) is None
        with pytest.raises(TypeError, match=f"{option.name} is called with"):
            option.check(5)


def test_the_keeper_of_a_task_gives_the_key():
    run = Run(bytes(16), 1, BORN, SPEC)
    definition = Definition("task", "t", fn=print, options={"classic_cache": lambda run, x, y: CacheKey(f"{x}{y}")})
    assert cache_key(run, definition, {"a": 1}, {}).key == "{'a': 1}{}"
    assert cache_key(run, Definition("task", "t", fn=print, options={}), {}, {}) is None

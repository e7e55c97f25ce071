"""Each row of the table of differences in docs/coming-from-prefect.md holds: the test has its name."""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import pluperfect
from pluperfect import Verdict, allow_failure, flow, hookimpl, task
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import FailedRun, Refused, UpstreamFailed
from pluperfect.runtime import flow_run, task_run
from pluperfect.states import Cancelled, Crashed, Failed, Running
from pluperfect.task_runners import ThreadPoolTaskRunner
from pluperfect.testing import FakeClock, kinds
from pluperfect.transitions import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-prefect.md"


def rows():
    table = PAGE.read_text().partition("## Different on purpose")[2].partition("\n## ")[0]
    found = re.findall(r"^\| ([^|]*[^|\s-][^|]*) \|", table, re.MULTILINE)
    return ["_".join(re.findall(r"\w+", row.lower())) for row in found]


def test_every_row_has_its_test_and_every_test_its_row():
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}

    assert len(rows()) > 30
    assert here - set(rows()) == {
        "every_row_has_its_test_and_every_test_its_row",
        "names_are_at_prefects_places",
        "what_is_absent_is_absent",
    }
    assert set(rows()) <= here


def test_names_are_at_prefects_places():
    found = re.findall(r"^\| `(pluperfect|\.[\w.]+)` \| (`.*`) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(found) > 15
    for place, names in found:
        module = importlib.import_module(place if place == "pluperfect" else f"pluperfect{place}")
        for name in re.findall(r"\w+", names):
            assert hasattr(module, name), (place, name)


@pytest.fixture
def log():
    with pluperfect.open("memory:") as opened:
        yield opened


@task
def divide(a, b):
    return a / b


@task
def same(x):
    return x


def failing_once(*, name="fragile", **options):
    @task(name=name, **options)
    def fragile():
        if task_run.run_count == 1:
            raise OSError("once")
        return "ok"

    return fragile


def test_what_is_absent_is_absent():
    for name in ("serve", "deploy", "get_client", "pause_flow_run", "suspend_flow_run", "resume_flow_run"):
        assert not hasattr(pluperfect, name)
    for name in ("transactions", "artifacts", "variables", "blocks", "automations", "events", "concurrency"):
        with pytest.raises(ImportError):
            __import__(f"pluperfect.{name}")
    for name in ("delay", "apply_async", "serve"):
        with pytest.raises(AttributeError):
            getattr(same, name)
    for name in ("serve", "deploy", "from_source", "visualize"):
        with pytest.raises(AttributeError):
            getattr(flow(lambda: 1), name)
    for name in ("on_commit", "on_rollback"):
        with pytest.raises((TypeError, AttributeError)):
            getattr(same, name)


def test_an_option_that_nobody_knows():
    with pytest.raises(TypeError, match="Did you mean 'timeout_seconds'"):
        flow(timeout_second=3)(print)


def test_a_falsy_option_in_with_options():
    assert task(retries=3)(print).with_options(retries=0).retries == 0


def test_delays_of_a_flow():
    clock = FakeClock()
    with pluperfect.open("memory:", clock=clock):

        @flow(retries=2, retry_delay_seconds=[5, 7], retry_condition_fn=lambda *_: True)
        def whole():
            if flow_run.run_count < 3:
                raise OSError

        whole()
    assert clock.slept == [5, 7]


def test_the_key_of_a_task():
    def before():
        return 1

    def after():
        return 2

    after.__qualname__, after.__name__ = before.__qualname__, before.__name__

    assert task(before).task_key == task(after).task_key
    assert task(before).task_key != task(tags=["a"])(before).task_key


def test_the_name_of_a_task_run(log):
    flow(lambda: (same(1), same(2)), name="whole")()
    assert [run.name for run in log.runs(name="whole")[0].children] == ["same-0", "same-1"]


def test_a_returned_failed(log):
    @task
    def judged():
        return Failed(message="no rows")

    with pytest.raises(FailedRun, match="no rows"):
        judged()
    assert judged(return_state=True).message == "no rows"


def test_a_returned_running(log):
    assert task(lambda: Running(), name="again")(return_state=True).is_failed()


def test_states_and_moves(log):
    assert len([kind for kind in TABLE if kind]) == 8
    assert sum(len(targets) for targets in TABLE.values()) == 13
    assert not any(targets for kind, targets in TABLE.items() if kind and kind.final)


@pytest.mark.parametrize(("state", "asks"), [(Cancelled, "is_cancelled"), (Crashed, "is_crashed")])
def test_cancelled_and_crashed(log, state, asks):
    ended = task(lambda: state(message="so"), name="ends")(return_state=True)
    assert ended.kind == "Failed"
    assert getattr(ended, asks)()
    assert ended.is_failed()


def test_retrying(log):
    failing_once(retries=1)()
    run = log.runs()[0]
    assert kinds(run) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    assert run.transitions[3].to.attempt == 2


def test_results(log):
    same(None), task(persist_result=False)(same.fn)(1)
    hidden, shown = log.runs()
    assert shown.result() is None
    with pytest.raises(pluperfect.errors.MissingResult, match="persist_result=False"):
        hidden.result()


def test_attempts(log):
    failing_once(retries=1)()
    (retried,) = (entry for entry in log.runs()[0].history if entry.by == "retries")
    assert (retried.to.error.type, retried.to.error.message, retried.asked.kind) == ("OSError", "once", "Failed")


def test_jitter():
    clock = FakeClock()
    with pluperfect.open("memory:", clock=clock) as log:
        failing_once(retries=1, retry_delay_seconds=10, retry_jitter_factor=0.5)()
        waiting = log.runs()[0].transitions[2].to
    assert clock.slept != [10]
    assert 6 < clock.slept[0] <= 15
    assert (waiting.delay, round(waiting.due - log.clock.now(), 3) <= 0, waiting.draw is not None) == (10, True, True)


def test_a_retry_condition_that_is_no_plain_function(log):
    def judge(word, task, run, state):
        return word == "yes"

    assert failing_once(retries=1, retry_condition_fn=partial(judge, "yes"))() == "ok"


def test_a_cache_hit(log):
    kept = task(cache_policy=INPUTS)(same.fn)
    kept(1), kept(1)
    hit, computed = log.runs()
    assert kinds(hit) == ["Pending", "Cached"]
    assert log.run(hit.state.source[0].hex()) == computed


def test_equal_calls_under_no_policy(log):
    flow(lambda: (same(1), same(1)), name="whole")()
    assert [kinds(run)[-1] for run in log.runs(name="same")] == ["Completed", "Completed"]


def test_a_flow_that_is_retried(log):
    @flow(retries=1)
    def whole():
        same(1)
        if flow_run.run_count == 1:
            raise OSError

    whole()
    assert [child.state.kind for child in log.runs(name="whole")[0].children] == ["Completed", "Cached"]


def test_a_timeouterror_of_the_body(log):
    def raises():
        raise TimeoutError("mine")

    assert task(timeout_seconds=9)(raises)(return_state=True).kind == "Failed"


def test_a_blocked_thread_past_its_limit(log):
    released = threading.Event()

    @task(timeout_seconds=0.1)
    def blocked():
        released.wait(30)

    @flow
    def whole():
        began = time.monotonic()
        state = blocked.submit(return_state=True)
        took = time.monotonic() - began
        released.set()
        return state.kind, took < 20

    assert whole() == ("TimedOut", True)


def test_a_failed_upstream(log):
    @flow
    def whole():
        bad = divide.submit(1, 0)
        with pytest.raises(UpstreamFailed):
            same(bad)
        state = same(bad, return_state=True)
        with pytest.raises(UpstreamFailed):
            same.submit(bad).result()
        return state.kind, state.cause, state.name

    assert whole() == ("Failed", "upstream", "NotReady")


def test_allow_failure_of_a_call_that_was_not_made(log):
    @flow
    def whole():
        return type(same(allow_failure(same.submit(divide.submit(1, 0)))))

    assert whole() is UpstreamFailed


def test_waiting_for_a_task_of_one_s_own_pool(log):
    @task
    def outer():
        return same.submit(1).result()

    assert flow(task_runner=ThreadPoolTaskRunner(max_workers=1), name="whole")(lambda: outer.submit().result())() == 1


def test_children_when_a_flow_ends(log):
    @task
    def late():
        time.sleep(0.1)

    flow(lambda: [late.submit(), None] and 1, name="whole")()
    whole, child = log.runs(name="whole")[0], log.runs(name="late")[0]
    assert child.state.is_final()
    assert child.history[-1].at <= whole.history[-1].at


def test_a_flow_that_returns_none_over_a_failure(log):
    @flow
    def whole():
        divide.submit(1, 0)

    @flow
    def looks():
        divide.submit(1, 0).result(raise_on_failure=False)

    assert whole(return_state=True).message == "1/1 states failed."
    assert looks(return_state=True).is_completed()


def test_a_flow_that_returns_data_over_a_failure(log):
    @flow
    def whole():
        divide.submit(1, 0)
        return "data"

    @flow
    def looks():
        divide.submit(1, 0).wait()
        return divide(1, 0, return_state=True).message

    assert whole(return_state=True).is_failed()
    assert looks(return_state=True).is_failed()  # one of the two was looked at
    assert flow(lambda: divide(1, 0, return_state=True).message, name="other")(return_state=True).is_completed()


def test_failed_futures_among_returned_values(log):
    assert flow(lambda: {"n": 1, "f": divide.submit(1, 0)}, name="whole")(return_state=True).is_failed()


def test_a_task_that_returns_a_generator(log):
    assert task(lambda: (n for n in range(3)), name="numbers")() == [0, 1, 2]


class Shop:
    def __init__(self, name):
        self.name = name

    @task
    def named(self):
        return self.name

    @classmethod
    @task
    def one(cls):
        return cls.__name__

    @task
    @classmethod
    def other(cls):
        return cls.__name__

    @classmethod
    @flow
    def third(cls):
        return cls.__name__

    @flow
    @classmethod
    def fourth(cls):
        return cls.__name__


def test_bound_methods(log):
    first, second = Shop("a").named, Shop("b").named
    assert (first(), second(), Shop.named(Shop("c"))) == ("a", "b", "c")


def test_decorators_of_class_methods(log):
    assert {Shop.one(), Shop.other(), Shop.third(), Shop.fourth()} == {"Shop"}


def test_subflows(log):
    @flow
    def inner():
        return 1

    @flow
    def outer():
        return inner()

    outer()
    assert [(run.kind, run.folded.birth.name) for run in log.runs(name="outer")[0].children] == [("flow", "inner")]


def test_parameters_in_the_runtime(log):
    @task
    def told(a, b=2):
        return task_run.parameters

    assert told(1) == {"a": 1, "b": 2}


def test_logging():
    code = (
        "import logging, pluperfect; pluperfect.flow, pluperfect.task;"
        "assert all(type(h) is logging.NullHandler for h in logging.getLogger('pluperfect').handlers);"
        "logging.basicConfig(format='host %(message)s', level='INFO');"
        "pluperfect.open('memory:').__enter__();"
        "pluperfect.task(lambda: 1, name='one')()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "host Finished in state Completed()" in done.stderr
    assert all(line.startswith("host ") for line in done.stderr.splitlines())


def test_lines_in_the_log(log, caplog):
    caplog.set_level(logging.INFO, "pluperfect")
    flow(lambda: same(1), name="whole", flow_run_name="w")()
    assert "Created flow run 'w' for flow 'whole'" in caplog.messages
    assert "Created task run 'same-0' for task 'same'" in caplog.messages


def test_settings_in_the_environment(monkeypatch):
    from pluperfect.settings import get_current_settings, temporary_settings

    monkeypatch.setenv("PREFECT_TASKS_DEFAULT_RETRIES", "7")
    assert get_current_settings().tasks_default_retries == 0
    monkeypatch.setenv("PLUPERFECT_TASKS_DEFAULT_RETRIES", "3")
    assert get_current_settings().tasks_default_retries == 3
    with temporary_settings({"PREFECT_TASKS_DEFAULT_RETRIES": 4}):
        assert get_current_settings().tasks_default_retries == 4


def test_hooks_that_are_callable_objects(log):
    told = []

    class Hook:
        def __call__(self, task, run, state):
            told.append(state.kind)

    task(on_completion=[Hook(), partial(lambda word, *_: told.append(word), "partial")])(same.fn)(1)
    assert told == ["Completed", "partial"]


def test_the_run_that_a_hook_is_given(log):
    told = []

    def hook(task, run, state):
        told.append((run.state.kind, log.runs()[0].state.kind))

    task(on_completion=[hook])(same.fn)(1)
    assert told == [("Completed", "Completed")]


def test_orchestration_rules():
    class Closed:
        @hookimpl
        def review(self, run, proposal):
            return Verdict(refuse="closed") if proposal.to.is_running() else None

    with pluperfect.open("memory:", plugins=[Closed()]):
        for program in (same, flow(same.fn)):
            with pytest.raises(Refused, match="closed"):
                program(1)

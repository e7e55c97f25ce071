"""Section 11: tags, contexts, the runtime, loggers and their lines."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from datetime import datetime

import pytest

from pluperfect import LOOP, flow, get_run_logger, runtime, tags, task
from pluperfect.context import FlowRunContext, TagsContext, TaskRunContext, get_run_context
from pluperfect.errors import MissingContextError
from pluperfect.logging import LogEavesdropper, disable_run_logger, flow_run_logger, get_logger, task_run_logger
from pluperfect.runtime import deployment, flow_run, task_run


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "pluperfect")
    return lambda: [(r.levelname, getattr(r, "run_name", r.name), r.getMessage()) for r in caplog.records]


# --- tags -----------------------------------------------------------------------------------------------------


def test_tags_are_the_decorators_united_with_those_of_the_blocks_around_the_call(log):
    work = task(lambda: list(task_run.tags), name="work", tags=["own"])

    @flow(tags=["flow"])
    def outer():
        with tags("a") as first, tags("b", "a") as second:
            assert (first, second) == ({"a", "around"}, {"a", "around", "b"})
            inside = work()
        return inside, work(), list(flow_run.tags)

    with tags("around"):
        assert outer() == (["a", "around", "b", "own"], ["around", "own"], ["around", "flow"])
    assert TagsContext.get().current_tags == set()


def test_tags_reach_submitted_and_awaited_calls(log):
    @task
    async def work():
        return list(task_run.tags)

    @flow
    async def outer():
        with tags("a"):
            return await work(), await work.submit()

    assert asyncio.run(outer()) == (["a"], ["a"])


@pytest.mark.parametrize("bad", [1, None, ["a"]])
def test_a_tag_that_is_no_string_is_refused(bad):
    with pytest.raises(TypeError, match="tag"), tags(bad):
        pass
    with pytest.raises(TypeError, match="tag"):
        task(tags=[bad])(print)


# --- contexts -------------------------------------------------------------------------------------------------


def test_outside_of_runs_there_is_no_context():
    assert FlowRunContext.get() is None
    assert TaskRunContext.get() is None
    with pytest.raises(MissingContextError, match="No run context available"):
        get_run_context()


def test_inside_each_context_has_its_run_and_definition(log):
    @task
    def work(x):
        here, above = TaskRunContext.get(), FlowRunContext.get()
        assert get_run_context() == here
        return here.task_run.name, here.task.name, here.parameters, above.flow_run.name, above.flow.name

    @flow(flow_run_name="named")
    def outer():
        assert get_run_context() == FlowRunContext.get()
        assert TaskRunContext.get() is None
        return work(3)

    assert outer() == ("work-0", "work", {"x": 3}, "named", "outer")


# --- the runtime ----------------------------------------------------------------------------------------------


def test_outside_of_runs_the_runtime_is_empty():
    assert (flow_run.id, flow_run.name, flow_run.parameters, flow_run.run_count) == (None, None, {}, 0)
    assert (task_run.id, task_run.task_name, task_run.loop_result, task_run.tags) == (None, None, None, [])
    assert (deployment.id, deployment.name, deployment.parameters) == (None, None, {})
    assert flow_run.api_url is flow_run.ui_url is flow_run.parent_deployment_id is None


def test_inside_the_runtime_tells_of_the_run_its_defaults_and_its_ancestors(log):
    @task
    def work(x, y=2):
        return task_run.parameters, task_run.id, flow_run.id

    @flow(version="7")
    def inner():
        return (work(1), flow_run.parent_flow_run_id, flow_run.root_flow_run_id, flow_run.flow_version)

    @flow
    def outer(day="monday"):
        assert flow_run.parameters == {"day": "monday"}
        assert isinstance(flow_run.scheduled_start_time, datetime)
        return flow_run.id, inner()

    outer_id, ((parameters, task_id, flow_id), parent, root, version) = outer()
    assert parameters == {"x": 1, "y": 2}
    assert (parent, root, version) == (outer_id, outer_id, "7")
    assert (task_id, flow_id) == (log.run("work").id, log.run("inner").id)


def test_run_count_is_the_attempt_and_the_loop_is_counted_from_one(log):
    seen = []

    @task(retries=1)
    def work():
        seen.append((task_run.loop_count, task_run.loop_result, task_run.run_count))
        if len(seen) == 1:
            raise ValueError
        if len(seen) == 2:
            raise LOOP(result="payload")

    work()
    assert seen == [(1, None, 1), (1, None, 2), (2, "payload", 1)]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("FLOW_RUN__NAME", "fake", "fake"),
        ("FLOW_RUN__TAGS", "a, b", ["a", "b"]),
        ("FLOW_RUN__RUN_COUNT", "3", 3),
        ("TASK_RUN__PARAMETERS", '{"x": 1}', {"x": 1}),
        ("DEPLOYMENT__ID", "d", "d"),
    ],
)
def test_a_test_can_set_the_runtime_by_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(f"PLUPERFECT__RUNTIME__{name}", text)
    part, _, attribute = name.lower().partition("__")
    assert getattr(getattr(runtime, part), attribute) == value


def test_a_text_that_cannot_stand_for_an_attribute_is_named(monkeypatch):
    monkeypatch.setenv("PLUPERFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "many")
    with pytest.raises(ValueError, match="FLOW_RUN__RUN_COUNT='many'"):
        flow_run.run_count  # noqa: B018


def test_an_attribute_that_there_is_not_names_those_that_there_are():
    with pytest.raises(AttributeError, match="nonsense.*flow_name"):
        flow_run.nonsense  # noqa: B018
    assert "flow_name" in dir(flow_run)


# --- loggers --------------------------------------------------------------------------------------------------


def test_a_run_logger_says_which_run_speaks(log, lines):
    work = task(lambda: get_run_logger().warning("from %s", "task"), name="work")

    @flow(flow_run_name="named")
    def outer():
        get_run_logger(colour="blue").info("from flow")
        work()

    outer()
    assert ("INFO", "named", "from flow") in lines()
    assert ("WARNING", "work-0", "from task") in lines()


def test_a_run_logger_outside_of_runs_is_an_error_that_names_the_alternative():
    with pytest.raises(MissingContextError, match="get_logger"):
        get_run_logger()


def test_under_disable_run_logger_a_plain_function_can_be_tested(log, lines):
    @task
    def work():
        get_run_logger().info("never heard")
        return 3

    with disable_run_logger():
        assert work.fn() == 3
    with pytest.raises(MissingContextError):
        work.fn()
    assert lines() == []


def test_loggers_have_their_names():
    assert get_logger().name == "pluperfect"
    assert get_logger("mine").name == "pluperfect.mine"
    assert get_logger("pluperfect.mine") is get_logger("mine")


def test_a_logger_for_a_run_that_one_has_at_hand(log, lines):
    work = task(lambda: None, name="work")
    work()
    flow_run_logger(log.run("work").folded).info("x")
    task_run_logger(log.run("work").folded, work).info("y")
    assert [line[1:] for line in lines()][-2:] == [("work", "x"), ("work", "y")]


def test_an_eavesdropper_keeps_the_lines_of_a_logger(log):
    with LogEavesdropper("pluperfect.task_runs", level=logging.ERROR) as heard:
        task(lambda: 1 / 0, name="work")(return_state=True)
    assert "[ERROR]: Finished in state Failed('ZeroDivisionError" in heard.text()


# --- log_prints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outer_says", "inner_says", "task_says", "heard"),
    [
        (None, None, None, False),
        (True, None, None, True),
        (True, False, None, False),
        (False, True, None, True),
        (True, None, False, False),
        (None, None, True, True),
    ],
)
def test_prints_are_logged_as_task_then_flow_then_parent_flow_say(
    log, lines, capsys, outer_says, inner_says, task_says, heard
):
    work = task(lambda: print("said"), name="work", log_prints=task_says)
    inner = flow(lambda: work(), name="inner", log_prints=inner_says)
    flow(lambda: inner(), name="outer", log_prints=outer_says)()
    assert (("INFO", "work-0", "said") in lines()) == heard
    assert capsys.readouterr().out == ("" if heard else "said\n")


def test_where_nobody_says_the_setting_says(log, lines, setting):
    setting(LOGGING_LOG_PRINTS=True)
    quiet = flow(lambda: print("quiet"), name="quiet", log_prints=False)
    flow(lambda: (print("loud"), quiet()), name="loud")()
    said = [message for _, _, message in lines()]
    assert "loud" in said
    assert "quiet" not in said


# --- lines ----------------------------------------------------------------------------------------------------


def test_births_calls_submissions_and_ends_have_their_lines(log, lines):
    work = task(lambda x: x, name="work")

    @flow(flow_run_name="named")
    def outer():
        work(1)
        work.submit(2).wait()

    outer()
    assert lines() == [
        ("INFO", "pluperfect.engine", "Created flow run 'named' for flow 'outer'"),
        ("INFO", "named", "Created task run 'work-0' for task 'work'"),
        ("INFO", "named", "Executing 'work-0' immediately..."),
        ("INFO", "work-0", "Finished in state Completed()"),
        ("INFO", "named", "Created task run 'work-1' for task 'work'"),
        ("INFO", "named", "Submitted task run 'work-1' for execution."),
        ("INFO", "work-1", "Finished in state Completed()"),
        ("INFO", "named", "Finished in state Completed('All states completed.')"),
    ]


def test_failed_attempts_iterations_and_ends_have_theirs(log, lines):
    left = iter([ValueError("once"), LOOP("did one", result=1), LookupError("gone")])

    @task(retries=1)
    def work():
        raise next(left)

    with pytest.raises(LookupError):
        work.with_options(retries=1, retry_condition_fn=lambda t, r, s: isinstance(s.result(False), ValueError))()
    by_level = [(level, message) for level, who, message in lines() if who == "work"]
    assert by_level[0][0] == "WARNING"
    assert re.match(r"ValueError: once\. Attempt 1 of 2 .* due at 20", by_level[0][1])
    assert by_level[1:] == [
        ("INFO", "Iteration 1 is done: did one"),
        ("ERROR", "Finished in state Failed('LookupError: gone')"),
    ]


PROGRAM = """
import logging, sys
from pluperfect import flow, task
{configure}
@task
def work(): pass
@flow(log_prints=True)
def outer():
    work()
    print("said")
import pluperfect
before = list(logging.getLogger().handlers), list(logging.getLogger("pluperfect").handlers)
with pluperfect.open("memory:"):
    outer()
assert logging.getLogger().handlers == before[0]
"""


def script(configure="", **environment):
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(configure=configure)], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout == ""
    return done.stderr


LINE = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} \| INFO    \| (pluperfect\.engine|(Flow|Task) run '[^']+') - .+$")


def test_a_bare_script_shows_the_lines_on_standard_error():
    shown = script().splitlines()
    assert len(shown) == 6
    assert all(LINE.match(line) for line in shown)


def test_a_host_that_has_configured_logging_gets_records_and_no_console():
    assert script("logging.basicConfig(level=logging.ERROR)") == ""
    shown = script("logging.basicConfig(level=logging.INFO, format='host: %(message)s')").splitlines()
    assert len(shown) == 6
    assert all(line.startswith("host: ") for line in shown)


def test_a_setting_silences_the_console_or_sets_its_level():
    assert script(PLUPERFECT_LOGGING_TO_CONSOLE="never") == ""
    assert script(PLUPERFECT_LOGGING_LEVEL="ERROR") == ""


def test_importing_and_defining_adds_no_handler_that_speaks():
    code = (
        "import logging, pluperfect.logging, pluperfect.consoles\n"
        "@pluperfect.task\ndef work(): pass\n"
        "assert not logging.getLogger().handlers\n"
        "assert all(isinstance(h, logging.NullHandler) for h in logging.getLogger('pluperfect').handlers)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

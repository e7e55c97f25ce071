"""Prefect 1's names at their dotted places: a program runs when ``prefect`` in its imports becomes ``pluperfect.classic``."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import pluperfect.classic as prefect
from pluperfect.testing import FakeClock

PLACES = {
    "": "Flow Task Parameter task tags context case mapped unmapped flatten apply_map resource_manager config",
    "engine.signals": "FAIL TRIGGERFAIL VALIDATIONFAIL SUCCESS SKIP RETRY PAUSE ENDRUN LOOP signal_from_state",
    "engine.state": """
        State Pending Scheduled Paused Resume Retrying Submitted Queued Running Cancelling Looped Finished Success Cached
        Mapped Skipped Failed TimedOut TriggerFailed ValidationFailed Cancelled
    """,
    "engine.cache_validators": """
        all_inputs all_parameters duration_only never_use partial_inputs_only partial_parameters_only
    """,
    "engine.results": "LocalResult PrefectResult",
    "triggers": """
        all_successful all_failed any_successful any_failed all_finished always_run not_all_skipped some_successful
        some_failed manual_only
    """,
    "core": "Flow Task Parameter Edge",
    "tasks.control_flow": "case switch ifelse merge FilterTask",
    "executors": "Executor LocalExecutor LocalDaskExecutor DaskExecutor",
    "utilities.tasks": "task tags apply_map pause_task defaults_from_attrs as_task",
    "utilities.edges": "mapped unmapped flatten",
    "utilities.context": "context Context",
}


@pytest.mark.parametrize("place", PLACES)
def test_each_name_is_at_its_place(place):
    module = importlib.import_module(f"pluperfect.classic.{place}".rstrip("."))
    assert [name for name in PLACES[place].split() if not hasattr(module, name)] == []
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_one_import_reaches_every_place():
    names = [f"prefect.{place}.{name}".replace("..", ".") for place, text in PLACES.items() for name in text.split()]
    program = "\n".join(["import pluperfect.classic as prefect", *names])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_library_does_not_load_the_classic_room():
    program = (
        "import sys, pluperfect; from pluperfect import flow, task; assert 'pluperfect.classic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


PROGRAM = """
from datetime import timedelta

import prefect
from prefect import Flow, Parameter, case, context, flatten, task, unmapped
from prefect.engine import signals
from prefect.engine.cache_validators import all_inputs
from prefect.engine.signals import LOOP
from prefect.engine.state import Failed, State, Success
from prefect.executors import LocalDaskExecutor
from prefect.tasks.control_flow import merge, switch
from prefect.triggers import all_finished
from prefect.utilities.tasks import defaults_from_attrs

told = []


def tell(obj, old_state, new_state):
    if new_state.is_failed():
        told.append(obj.name)
    return new_state


class Scale(prefect.Task):
    def __init__(self, factor=1, **kwargs):
        self.factor = factor
        super().__init__(**kwargs)

    @defaults_from_attrs("factor")
    def run(self, x, factor=None):
        return x * factor


@task(max_retries=2, retry_delay=timedelta(seconds=1), cache_for=timedelta(days=1), cache_validator=all_inputs)
def extract(start):
    logger = prefect.context.get("logger")
    logger.info("extracting from %s", start)
    total = context.get("task_loop_result", start)
    if context.get("task_loop_count", 1) < 3:
        raise LOOP(message=f"at {total}", result=total + 1)
    return [[total], [total + 1, total + 2]]


@task(state_handlers=[tell])
def load(x, offset):
    if x > 4:
        raise signals.SKIP("too large")
    if x > 3:
        raise signals.FAIL("too large")
    return x + offset


@task(trigger=all_finished, skip_on_upstream_skip=False)
def clean_up():
    return "clean"


with Flow("etl", executor=LocalDaskExecutor()) as flow:
    start = Parameter("start", default=1)
    rows = extract(start)
    loaded = load.map(flatten(rows), unmapped(100))
    with case(start, 1):
        one = Scale(2)(start)
    with case(start, 5):
        five = Scale(2)(start, factor=10)
    merged = merge(one, five)
    cleaned = clean_up(upstream_tasks=[loaded])
    flow.set_reference_tasks([cleaned, merged])

state = flow.run(start=1)
assert isinstance(state, State) and isinstance(state, Success), state
assert state.result[rows].result == [[3], [4, 5]]
children = state.result[loaded].map_states
assert [type(child).__name__ for child in children] == ["Success", "Failed", "Skipped"]
assert children[0].result == 103 and isinstance(state.result[loaded], Failed)
assert told == ["load"]
assert state.result[merged].result == 2
assert state.result[cleaned].result == "clean"
assert flow.run(parameters={"start": 5}).result[merged].result == 50
"""


def test_a_program_for_prefect_1_runs_when_its_imports_are_renamed():
    import pluperfect

    program = PROGRAM.replace("import prefect\n", "import pluperfect.classic as prefect\n")
    program = program.replace("from prefect", "from pluperfect.classic")
    with pluperfect.open("memory:", clock=FakeClock(), entry_points=False):
        exec(compile(program, "program", "exec"), {"__name__": "program"})


def test_defaults_from_attrs_fills_what_is_not_given():
    class Scaled(prefect.Task):
        factor, offset = 3, 1

        @prefect.utilities.tasks.defaults_from_attrs("factor", "offset")
        def run(self, x, factor=None, offset=None):
            return x, factor, offset

    made = Scaled()
    assert made.run(2) == (2, 3, 1)
    assert made.run(2, 5) == (2, 5, 1)
    assert made.run(2, offset=None) == (2, 3, None)
    assert list(made.inputs()) == ["x", "factor", "offset"]
    with pytest.raises(TypeError, match="'missing', which is no argument of"):
        prefect.utilities.tasks.defaults_from_attrs("missing")(lambda self: None)

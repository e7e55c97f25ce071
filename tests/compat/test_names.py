"""Names: what a Prefect user imports stands at the same dotted place, and takes the same keywords."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from alias import aliased

import pluperfect

PLACES = {
    "": "flow Flow task Task State tags unmapped allow_failure get_run_logger",
    "flows": "flow Flow",
    "tasks": "task Task MaterializingTask exponential_backoff task_input_hash",
    "states": """
        AwaitingConcurrencySlot AwaitingRetry Cancelled Cancelling Completed Crashed Failed InfrastructurePending Late
        Paused Pending Retrying Running Scheduled Submitting Suspended State StateGroup exception_to_crashed_state
        exception_to_failed_state get_state_exception is_state_iterable raise_state_exception return_value_to_state
        Looped Cached TimedOut
    """,
    "client.schemas": "FlowRun State StateDetails StateType TaskRun",
    "client.schemas.objects": "FlowRun State StateDetails StateType TaskRun",
    "futures": """
        PrefectFuture PrefectFutureList wait as_completed resolve_futures_to_states resolve_futures_to_results
    """,
    "task_runners": "TaskRunner ThreadPoolTaskRunner ConcurrentTaskRunner ProcessPoolTaskRunner",
    "cache_policies": """
        DEFAULT FLOW_PARAMETERS INPUTS NONE NO_CACHE RUN_ID TASK_SOURCE CachePolicy CacheKeyFnPolicy
        CompoundCachePolicy Inputs TaskSource RunId FlowParameters
    """,
    "context": "FlowRunContext TaskRunContext TagsContext get_run_context tags",
    "runtime": "flow_run task_run deployment",
    "runtime.flow_run": "id name tags parameters run_count flow_name scheduled_start_time parent_flow_run_id",
    "runtime.task_run": "id name tags parameters run_count task_name",
    "runtime.deployment": "id name version parameters",
    "logging": "get_logger get_run_logger disable_run_logger LogEavesdropper",
    "logging.loggers": """
        get_logger get_run_logger disable_run_logger LogEavesdropper flow_run_logger task_run_logger
    """,
    "settings": """
        temporary_settings get_current_settings Profile PREFECT_HOME PREFECT_LOGGING_LEVEL PREFECT_LOGGING_LOG_PRINTS
        PREFECT_LOGGING_EXTRA_LOGGERS PREFECT_LOGGING_COLORS PREFECT_RESULTS_PERSIST_BY_DEFAULT
        PREFECT_RESULTS_DEFAULT_SERIALIZER PREFECT_TASKS_REFRESH_CACHE PREFECT_TASK_DEFAULT_RETRIES
        PREFECT_TASK_DEFAULT_RETRY_DELAY_SECONDS PREFECT_FLOW_DEFAULT_RETRIES PREFECT_FLOW_DEFAULT_RETRY_DELAY_SECONDS
        PREFECT_TASKS_DEFAULT_PERSIST_RESULT PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS
    """,
    "assets": "Asset AssetProperties materialize add_asset_metadata",
    "exceptions": """
        FailedRun CrashedRun CancelledRun PausedRun UnfinishedRun MissingResult ParameterTypeError ParameterBindError
        ReservedArgumentError InvalidNameError UpstreamTaskError MissingContextError MappingLengthMismatch
        MappingMissingIterable SerializationError ConfigurationError TerminationSignal PrefectException
    """,
    "utilities.annotations": "unmapped allow_failure quote opaque freeze NotSet",
    "utilities.math": "clamped_poisson_interval",
    "utilities.hashing": "hash_objects stable_hash",
    "results": "ResultStore",
    "serializers": "PickleSerializer JSONSerializer CompressedSerializer",
    "testing.utilities": "prefect_test_harness exceptions_equal",
}

KEYWORDS = {
    "task": """
        name description tags version cache_policy cache_key_fn cache_expiration task_run_name retries
        retry_delay_seconds retry_jitter_factor retry_condition_fn persist_result result_storage result_serializer
        result_storage_key cache_result_in_memory timeout_seconds log_prints refresh_cache on_completion on_failure
        on_running viz_return_value asset_deps
    """,
    "flow": """
        name version flow_run_name retries retry_delay_seconds task_runner description timeout_seconds
        validate_parameters persist_result result_storage result_serializer cache_result_in_memory log_prints
        on_completion on_failure on_cancellation on_crashed on_running
    """,
}

EXPECTED = {
    "states.Completed": "message name data",
    "states.Failed": "message name data",
    "states.Crashed": "message name data",
    "states.Cancelled": "message name data",
    "states.Pending": "message name",
    "states.Running": "message name",
    "states.Scheduled": "scheduled_time message name",
    "states.AwaitingRetry": "scheduled_time message name",
    "states.Late": "scheduled_time message name",
    "states.State.result": "raise_on_failure",
    "futures.wait": "futures timeout",
    "futures.as_completed": "futures timeout",
    "futures.PrefectFuture.wait": "timeout",
    "futures.PrefectFuture.result": "timeout raise_on_failure",
    "futures.PrefectFutureList.wait": "timeout",
    "futures.PrefectFutureList.result": "timeout raise_on_failure",
    "task_runners.ThreadPoolTaskRunner": "max_workers",
    "task_runners.ProcessPoolTaskRunner": "max_workers",
    "cache_policies.Inputs": "exclude",
    "cache_policies.CacheKeyFnPolicy": "cache_key_fn",
    "cache_policies.CachePolicy.configure": "key_storage lock_manager isolation_level",
    "logging.get_logger": "name",
    "logging.get_run_logger": "context",
    "logging.LogEavesdropper": "eavesdrop_on level",
    "logging.loggers.flow_run_logger": "flow_run flow",
    "logging.loggers.task_run_logger": "task_run task flow_run flow",
    "settings.temporary_settings": "updates set_defaults restore_defaults",
    "assets.Asset": "key properties",
    "assets.AssetProperties": "name url description owners",
    "assets.materialize": "by",
    "utilities.math.clamped_poisson_interval": "average_interval clamping_factor",
    "serializers.PickleSerializer": "picklelib",
    "serializers.JSONSerializer": "jsonlib object_encoder object_decoder dumps_kwargs loads_kwargs",
    "serializers.CompressedSerializer": "serializer compressionlib",
    "testing.utilities.prefect_test_harness": "server_startup_timeout",
    "tasks.exponential_backoff": "backoff_factor",
    "tasks.task_input_hash": "context arguments",
}


@pytest.fixture(autouse=True)
def _as_prefect():
    with aliased():
        yield


def found(path):
    """What stands at a dotted path below ``prefect``: as much of it as is modules is imported, the rest are attributes."""
    at, here = importlib.import_module("prefect"), "prefect"
    for part in filter(None, path.split(".")):
        here = f"{here}.{part}"
        try:
            at = getattr(at, part)
        except AttributeError:
            at = importlib.import_module(here)
    return at


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in PLACES.items() for name in names.split()]
)
def test_a_name_is_imported_from_where_prefect_has_it(place, name):
    inside = {}
    exec(f"from {'prefect' + (place and '.' + place)} import {name}", inside)

    assert name in inside


@pytest.mark.parametrize(("path", "names"), EXPECTED.items())
def test_a_callable_takes_the_keywords_that_prefects_takes(path, names):
    parameters = inspect.signature(found(path)).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())

    assert open_ended or set(names.split()) <= set(parameters)


@pytest.mark.parametrize(("kind", "names"), KEYWORDS.items())
def test_a_decorator_takes_each_of_prefects_options_at_its_default(kind, names):
    decorate = found(kind)
    for name in names.split():
        default = True if name in {"validate_parameters", "cache_result_in_memory"} else None
        assert decorate(**{name: default})(lambda: None).name


def test_the_modules_are_pluperfects_own():
    import prefect
    import prefect.client.schemas.objects as objects
    from prefect.testing.utilities import prefect_test_harness

    assert prefect is pluperfect
    assert objects is importlib.import_module("pluperfect.client.schemas.objects")
    assert prefect_test_harness is importlib.import_module("pluperfect.testing.utilities").harness


def test_a_module_that_is_not_there_is_not_found_and_its_name_is_said():
    with pytest.raises(ModuleNotFoundError, match=r"prefect\.deployments"):
        importlib.import_module("prefect.deployments")


def test_a_script_that_says_prefect_runs(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from prefect import flow, task\n"
        "from prefect.futures import wait\n"
        "from prefect.states import Completed\n"
        "import prefect.runtime.flow_run\n"
        "@task(retries=1)\n"
        "def double(n): return 2 * n\n"
        "@flow(name='whole')\n"
        "def whole(n: int):\n"
        "    futures = double.map([n, n + 1])\n"
        "    wait(futures)\n"
        "    return [prefect.runtime.flow_run.flow_name, *futures.result()]\n"
        "state = whole('3', return_state=True)\n"
        "assert isinstance(state, Completed)\n"
        "print(state.result())\n"
    )
    code = f"import alias, runpy, sys; sys.meta_path.insert(0, alias.Alias()); runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), "PLUPERFECT_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "['whole', 6, 8]\n"

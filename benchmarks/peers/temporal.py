"""
A recorded run of the program is replayed by Temporal's replayer with changed code: what does it say?

The history is written as the server writes it, call after call, since the replayer needs no server and none is installed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.common import RetryPolicy
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

NAMES: dict[str, Any] = {}


@workflow.defn(name="program")
class Program:
    """The program as a workflow."""

    @workflow.run
    async def run(self, start: int) -> Any:
        """Lead it; each of its calls is an activity."""
        return await NAMES["program"](call, start)


async def call(function: Any, *args: Any) -> Any:
    """A call of the program."""
    given = NAMES["OPTIONS"].get(function.__name__, {"retries": 0, "timeout": 10})
    return await workflow.execute_activity(
        function.__name__,
        args=args,
        start_to_close_timeout=timedelta(seconds=given["timeout"]),
        retry_policy=RetryPolicy(maximum_attempts=given["retries"] + 1),
    )


def packed(*values: Any) -> dict[str, Any]:
    """Values as they stand in a history."""
    encoding = base64.b64encode(b"json/plain").decode()
    return {
        "payloads": [
            {"metadata": {"encoding": encoding}, "data": base64.b64encode(json.dumps(value).encode()).decode()}
            for value in values
        ]
    }


class History:
    """The events of one run."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.tasks = 0

    def add(self, kind: str, attributes: dict[str, Any]) -> int:
        """One more event; its number."""
        number = len(self.events) + 1
        field = "".join(word.capitalize() for word in kind.split("_"))
        self.events.append(
            {
                "eventId": str(number),
                "eventTime": f"2026-01-01T00:00:{number % 60:02}Z",
                "eventType": f"EVENT_TYPE_{kind}",
                f"{field[0].lower()}{field[1:]}EventAttributes": attributes,
            }
        )
        return number

    def task(self) -> int:
        """A workflow task: the code was led on from here."""
        queue = {"name": "q", "kind": "TASK_QUEUE_KIND_NORMAL"}
        scheduled = self.add(
            "WORKFLOW_TASK_SCHEDULED", {"taskQueue": queue, "startToCloseTimeout": "10s", "attempt": 1}
        )
        started = self.add(
            "WORKFLOW_TASK_STARTED", {"scheduledEventId": str(scheduled), "identity": "w", "requestId": "r"}
        )
        self.tasks += 1
        flags = {"sdkMetadata": {"coreUsedFlags": [1, 2, 3]}} if self.tasks == 1 else {}
        return self.add(
            "WORKFLOW_TASK_COMPLETED",
            {"scheduledEventId": str(scheduled), "startedEventId": str(started), "identity": "w", **flags},
        )


async def recorded(source: str) -> str:
    """The history of a run of the program, as JSON."""
    names: dict[str, Any] = {"__name__": "mutants"}
    exec(source, names)
    history = History()
    history.add(
        "WORKFLOW_EXECUTION_STARTED",
        {
            "workflowType": {"name": "program"},
            "taskQueue": {"name": "q", "kind": "TASK_QUEUE_KIND_NORMAL"},
            "input": packed(1),
            "workflowTaskTimeout": "10s",
            "originalExecutionRunId": "11111111-1111-1111-1111-111111111111",
            "firstExecutionRunId": "11111111-1111-1111-1111-111111111111",
            "attempt": 1,
        },
    )
    done = history.task()
    count = 0

    async def run(function: Any, *args: Any) -> Any:
        nonlocal done, count
        count += 1
        given = names["OPTIONS"].get(function.__name__, {"retries": 0, "timeout": 10})
        result = function(*args)
        scheduled = history.add(
            "ACTIVITY_TASK_SCHEDULED",
            {
                "activityId": str(count),
                "activityType": {"name": function.__name__},
                "taskQueue": {"name": "q", "kind": "TASK_QUEUE_KIND_NORMAL"},
                "input": packed(*args),
                "startToCloseTimeout": f"{given['timeout']}s",
                "retryPolicy": {"maximumAttempts": given["retries"] + 1},
                "workflowTaskCompletedEventId": str(done),
            },
        )
        started = history.add("ACTIVITY_TASK_STARTED", {"scheduledEventId": str(scheduled), "attempt": 1})
        history.add(
            "ACTIVITY_TASK_COMPLETED",
            {"result": packed(result), "scheduledEventId": str(scheduled), "startedEventId": str(started)},
        )
        done = history.task()
        return result

    result = await names["program"](run, 1)
    history.add("WORKFLOW_EXECUTION_COMPLETED", {"result": packed(result), "workflowTaskCompletedEventId": str(done)})
    return json.dumps({"events": history.events})


async def verdict(history: str, source: str) -> str:
    """What the replayer says; empty where it says nothing."""
    NAMES.clear()
    NAMES["__name__"] = "mutants"
    exec(source, NAMES)
    replayer = Replayer(workflows=[Program], workflow_runner=UnsandboxedWorkflowRunner())
    found = await replayer.replay_workflow(WorkflowHistory.from_json("one", history), raise_on_replay_failure=False)
    return "" if found.replay_failure is None else str(found.replay_failure)


async def main() -> None:
    """Judge what stands in the input."""
    given = json.load(sys.stdin)
    history = await recorded(given["program"])
    assert await verdict(history, given["program"]) == "", "the unchanged program does not replay"
    print(json.dumps([await verdict(history, source) for source in given["sources"]]))


asyncio.run(main())

"""A recorded run of the program is resumed by LangGraph with changed code: what does it say?"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

# This file has the name of what it measures.
sys.path = [path for path in sys.path if not path.endswith("peers")]

from langgraph.checkpoint.memory import InMemorySaver  # noqa: E402
from langgraph.func import entrypoint, task  # noqa: E402
from langgraph.types import Command, RetryPolicy, interrupt  # noqa: E402


def made(source: str, saver: InMemorySaver) -> Any:
    """The program as an entrypoint that stops at its end, so that it can be resumed."""
    names: dict[str, Any] = {"__name__": "mutants"}
    exec(source, names)
    tasks = {}
    for name, function in list(names.items()):
        if callable(function) and name not in ("program", "__builtins__"):
            given = names["OPTIONS"].get(name, {})
            options = {"retry_policy": RetryPolicy(max_attempts=given["retries"] + 1)} if given else {}
            tasks[function] = task(**options)(function)

    async def run(function: Any, *args: Any) -> Any:
        return await tasks[function](*args)

    @entrypoint(checkpointer=saver)
    async def program(start: int) -> Any:
        result = await names["program"](run, start)
        interrupt("the end")
        return result

    return program


async def verdict(program: str, source: str) -> str:
    """What LangGraph raises; empty where it raises nothing."""
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    await made(program, saver).ainvoke(1, config)
    try:
        await made(source, saver).ainvoke(Command(resume=True), config)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


given = json.load(sys.stdin)
print(json.dumps([asyncio.run(verdict(given["program"], source)) for source in given["sources"]]))

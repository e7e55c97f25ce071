"""A run of a classic flow: one flow of the engine, whose body is a walk through the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...authoring import engine
from ...authoring.births import Request
from ...authoring.flows import Flow as ModernFlow
from ...authoring.logs import nearest_log
from ...errors import PausedRun
from ..engine.state import State
from ..utilities.context import context
from .calls import calling
from .handling import Handlers
from .parameter import values_for
from .task import Task
from .walking import Walk

if TYPE_CHECKING:
    from ..executors import Executor
    from .flow import Flow
    from .options import Handler

__all__ = ["modern_flow", "run_flow"]


def run_flow(
    flow: Flow,
    parameters: dict[str, Any],
    keyword_parameters: dict[str, Any],
    *,
    task_states: dict[Task, State],
    given: dict[str, Any],
    executor: Executor | None,
    runner_handlers: list[Handler],
    idempotency_key: str | None,
    resume: str | None,
) -> State:
    """Run a flow and give its state; the arguments are those of `Flow.run`."""
    if context.get("flow") is not None:
        raise RuntimeError(
            f"Flow {flow.name!r} was run inside of `with Flow(...)`, where it is being built. Run it after the block."
        )
    found, walk = modern_flow(flow, task_states, given, executor, runner_handlers, idempotency_key)
    token = calling.set(None)
    try:
        if resume is not None:
            if parameters or keyword_parameters:
                raise ValueError("A resumed run has the parameters that it began with: give resume= alone.")
            recorded = nearest_log().run(resume)
            if recorded.folded.birth.name != found.name:
                raise ValueError(
                    f"{resume} is a run of {recorded.folded.birth.name!r}, not of {found.name!r}: resume it with its own flow."
                )
            walk.root = bytes.fromhex(recorded.id.replace("-", ""))
            request = Request(found, (), walk.parameters_of(recorded), root_id=walk.root, unpause=True)
        else:
            request = Request(found, (), values_for(flow, parameters, keyword_parameters))
        try:
            state = engine.call(request, return_state=True)
        except PausedRun as pause:
            return walk.paused(str(pause))
        return walk.state_of_flow(state)
    finally:
        calling.reset(token)


def modern_flow(
    flow: Flow,
    task_states: Mapping[Task, State] | None = None,
    given: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    runner_handlers: list[Handler] | None = None,
    idempotency_key: str | None = None,
) -> tuple[ModernFlow[..., Any], Walk]:
    """The engine's flow for a graph, and what its body does."""
    walk = Walk(flow, dict(task_states or {}), dict(given or {}), executor or flow.executor, runner_handlers or [])
    options: dict[str, Any] = {}
    if flow.state_handlers:
        options["state_handlers"] = Handlers(flow, flow.state_handlers, tell=walk.completed)
    if idempotency_key is not None:
        options["idempotency_key"] = idempotency_key
    made = ModernFlow(
        walk,
        name=engine_name(flow.name),
        description=f"The classic flow {flow.name}.",
        task_runner=walk.executor.runner() or "threads",
        validate_parameters=False,
        **options,
    )
    return made, walk


def engine_name(name: str) -> str:
    """A name without the characters that the engine's names cannot have."""
    return re.sub(r"[/%&><]", "_", name) or "_"

"""Flows: graphs of tasks that can be built in a block, and run."""

from __future__ import annotations

import copy as copying
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self

from ..utilities.context import context
from .edge import Edge
from .graph import Graph
from .options import Handler, handlers
from .parameter import Parameter
from .task import Task

if TYPE_CHECKING:
    from ..engine.results import Result
    from ..engine.state import State
    from ..executors import Executor

__all__ = ["Flow"]


class Flow(Graph):
    """
    A graph of tasks.

    Args:
        name: Of the flow and its runs.
        schedule: Refused: schedules are not there yet.
        executor: Where tasks are called; see `pluperfect.classic.executors`.
        environment: Refused.
        run_config: Refused: there is no server that would read it.
        storage: Refused, likewise.
        tasks: Tasks to add.
        edges: Edges to add.
        reference_tasks: Those that decide how a run ends; by default the last ones.
        state_handlers: Called ``(flow, old_state, new_state)`` before each change is recorded.
        on_failure: Called ``(flow, state)`` when a run fails.
        validate: Whether to look for cycles at each edge, and not only when it is run.
        result: Taken; results are kept in the log.
        terminal_state_handler: Called ``(flow, state, reference_states)`` once at the end; may give another state.
    """

    def __init__(
        self,
        name: str,
        schedule: Any = None,
        executor: Executor | None = None,
        environment: Any = None,
        run_config: Any = None,
        storage: Any = None,
        tasks: Iterable[Task] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Task] | None = None,
        state_handlers: Iterable[Handler] | None = None,
        on_failure: Callable[[Any, Any], Any] | None = None,
        validate: bool | None = None,
        result: Result | None = None,
        terminal_state_handler: Callable[..., Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"A flow needs a name: Flow('my flow'), not Flow({name!r}).")
        for what, given in {
            "schedule": schedule,
            "environment": environment,
            "run_config": run_config,
            "storage": storage,
        }.items():
            if given is not None:
                why = (
                    "flows are run by calling run()" if what == "schedule" else "there is no server or agent to read it"
                )
                raise TypeError(f"Flow({name!r}) was given {what}=, which does not exist here: {why}. Leave it out.")
        from ..executors import Executor, LocalExecutor

        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(
                f"executor is one of pluperfect.classic.executors, such as LocalExecutor(), not {executor!r}."
            )
        if terminal_state_handler is not None and not callable(terminal_state_handler):
            raise TypeError(
                f"terminal_state_handler is called with (flow, state, states), not {terminal_state_handler!r}."
            )
        super().__init__(name, validate=bool(validate))
        self.result: Result | None = result
        self.executor: Executor = executor or LocalExecutor()
        self.state_handlers: list[Handler] = handlers(state_handlers, on_failure)
        self.terminal_state_handler: Callable[..., Any] | None = terminal_state_handler
        self._module: str = sys._getframe(1).f_globals.get("__name__", "")
        self._open: list[AbstractContextManager[Self]] = []
        for task in tasks or ():
            self.add_task(task)
        for edge in edges or ():
            self.add_edge(edge.upstream_task, edge.downstream_task, edge.key, edge.mapped, edge.flattened)
        if reference_tasks is not None:
            self.set_reference_tasks(reference_tasks)

    # --- building

    @contextmanager
    def _building(self) -> Generator[Self]:
        unused: set[Task] = set()
        with context(flow=self, _unused=unused):
            yield self
        left = sorted(task.name for task in unused - self.tasks if not isinstance(task, Parameter))
        if left:
            warnings.warn(
                f"Tasks were made inside of `with Flow({self.name!r})` and never became part of it: {', '.join(left)}."
                " Call them, or add them by flow.add_task().",
                stacklevel=3,
            )

    def __enter__(self) -> Self:
        self._open.append(self._building())
        return self._open[-1].__enter__()

    def __exit__(self, *error: Any) -> None:
        self._open.pop().__exit__(*error)

    def copy(self) -> Flow:
        """A copy with the same tasks, to which others can be added."""
        made = copying.copy(self)
        for name in ("tasks", "edges", "slugs", "state_handlers", "_reference_tasks", "_order", "_arrows"):
            setattr(made, name, copying.copy(getattr(self, name)))
        made.constants = {task: dict(given) for task, given in self.constants.items()}
        made._open = []
        return made

    def __repr__(self) -> str:
        return f'<Flow: name="{self.name}">'

    # --- running

    def run(
        self,
        parameters: dict[str, Any] | None = None,
        run_on_schedule: bool | None = None,
        *,
        task_states: Mapping[Task, State] | None = None,
        context: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        task_runner_state_handlers: Iterable[Handler] | None = None,
        idempotency_key: str | None = None,
        resume: str | None = None,
        **kwargs: Any,
    ) -> State:
        """
        Run it, here and now, and record it.

        Args:
            parameters: By name. They may be given as keywords too.
            run_on_schedule: Taken; there are no schedules.
            task_states: States to begin with: a finished one stands for the task's run, a Looped one begins the loop there.
            context: What tasks find in the context besides.
            executor: Instead of the flow's.
            task_runner_state_handlers: Called ``(runner, old_state, new_state)`` for each task; ``runner.task`` is the task.
            idempotency_key: One run for ever under this key: calling again goes on with it, or gives what it gave.
            resume: The id of a paused or interrupted run to go on with, with the parameters recorded there.
            kwargs: Parameters.

        Returns:
            The state of the run; ``result`` has the state of each task by task, also where it failed or is paused.

        Raises:
            RuntimeError: It is called inside of ``with Flow(...)``.
            ValueError: A parameter is missing or unknown.
            TypeError: A keyword is neither a parameter nor an argument.
        """
        from .running import run_flow

        return run_flow(
            self,
            {**(parameters or {})},
            kwargs,
            task_states=dict(task_states or {}),
            given=dict(context or {}),
            executor=executor,
            runner_handlers=handlers(task_runner_state_handlers),
            idempotency_key=idempotency_key,
            resume=resume,
        )

    @property
    def __pluperfect_flow__(self) -> Any:
        """What the engine runs: how `pluperfect resume` finds it."""
        from .running import modern_flow

        return modern_flow(self)[0]

    @property
    def place(self) -> tuple[str, str]:
        """The module and the name under which others can import it, as far as it has one."""
        for name, value in list(vars(sys.modules.get(self._module, object)).items()):
            if value is self:
                return self._module, name
        return self._module, f"<locals>.{self.name}"

"""
The body of a classic flow's run: it walks the graph, and calls a task of the engine for each node.

What is retried, skipped, looped, paused or resumed is the course of those runs; here is only who is called when, with
what, and what became of it.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ... import states as modern
from ...authoring import engine
from ...authoring.annotations import allow_failure
from ...authoring.births import Request
from ...authoring.context import current_frame
from ...authoring.logs import nearest_log
from ...authoring.signals import LOOP
from ...consoles import run_logger
from ...errors import PausedRun
from ...histories import id_text
from ..engine import state as faces
from ..engine.conversion import completed, state_of
from ..engine.signals import SKIP
from ..engine.state import State
from ..utilities.context import context
from .calls import Calling, calling
from .mapping import children_of, flat, is_map, rows_of
from .nodes import Node
from .parameter import Parameter
from .task import Task

if TYPE_CHECKING:
    from ...authoring.frames import Frame
    from ..executors import Executor
    from .edge import Edge
    from .flow import Flow
    from .graph import Bound
    from .options import Handler

__all__ = ["Walk"]

_RESERVED: Final = frozenset({"return_state", "wait_for"})


class Walk:
    """The body of a flow run: the graph, walked in order, and the states that its tasks came to."""

    def __init__(
        self,
        flow: Flow,
        task_states: dict[Task, State],
        given: dict[str, Any],
        executor: Executor,
        runner_handlers: list[Handler],
    ) -> None:
        self.flow: Flow = flow
        self.task_states: dict[Task, State] = task_states
        self.given: dict[str, Any] = given
        self.executor: Executor = executor
        self.order: tuple[Task, ...] = flow.sorted_tasks()
        strange = [task for task in task_states if task not in flow.tasks]
        if strange:
            raise ValueError(f"task_states speaks of {strange[0]!r}, which is not in flow {flow.name!r}.")
        self.states: dict[Task, State] = {}
        self.end: State | None = None
        self.root: bytes | None = None
        self.parallel: bool = executor.parallel
        module, name = flow.place
        self.__module__: str = module
        self.__qualname__: str = name
        self.__name__: str = flow.name
        self.known: dict[str, Any] = {}
        self.nodes: dict[Task, Node] = {
            task: Node(flow, task, module, runner_handlers, executor) for task in self.order
        }
        names = sorted(parameter.name for parameter in flow.parameters())
        self.whole: bool = any(not n.isidentifier() or keyword.iskeyword(n) or n in _RESERVED for n in names)
        kind = inspect.Parameter
        made = (
            [kind("parameters", kind.VAR_KEYWORD)] if self.whole else [kind(name, kind.KEYWORD_ONLY) for name in names]
        )
        self.__signature__: inspect.Signature = inspect.Signature(made)

    def parameters_of(self, recorded: Any) -> dict[str, Any]:
        """The parameters that a recorded run began with."""
        known = recorded.parameters
        return known.get("parameters", known) if self.whole else known

    # --- the body

    def __call__(self, /, **parameters: Any) -> modern.State:
        """Call the tasks in order, and say how the run ends."""
        here = current_frame.get()
        assert here is not None
        self.root = here.run.id
        self.known = self._known(here, parameters)
        self.states.clear()
        paused = self._side_by_side() if self.parallel else self._in_order()
        if paused:
            raise PausedRun(f"Flow run {here.run.name!r} is paused: {', '.join(paused)}.")
        with context(self.known):
            self.end = self._ending()
        if self.end.is_failed():
            first = next((s.error for s in self._referred() if s.is_failed()), None)
            self.end._failure = first
            return modern.Failed(
                self.end.message or "", "children", data=first or self.end.message or "the flow failed"
            )
        labels = {self.flow.slugs[task]: type(state).__name__ for task, state in self.states.items()}
        return completed(labels, self.end.message or "")

    def _known(self, here: Frame, parameters: dict[str, Any]) -> dict[str, Any]:
        now = datetime.fromtimestamp(here.log.clock.now(), UTC)
        days = {"yesterday": now - timedelta(days=1), "today": now, "tomorrow": now + timedelta(days=1)}
        dates = {name: day.strftime("%Y-%m-%d") for name, day in days.items()}
        return {
            "caches": {},
            "checkpointing": True,
            "date": now,
            **dates,
            **{f"{name}_nodash": text.replace("-", "") for name, text in dates.items()},
            "flow_id": here.definition.key,
            "flow_name": self.flow.name,
            "flow_run_id": id_text(here.run.id),
            "flow_run_name": here.run.name,
            "scheduled_start_time": now,
            **self.given,
            "parameters": dict(parameters),
            "logger": run_logger(here.run),
            "flow": None,
            "case": None,
            "_unused": None,
        }

    def _in_order(self) -> list[str]:
        paused: list[str] = []
        for task in self.order:
            call = self._prepared(task)
            if call is None:
                continue
            token = calling.set(call)
            try:
                self.states[task] = self._ended(call, engine.call(self._request(call), return_state=True))
            except PausedRun:
                self.states[task] = faces.Paused("Waiting to be resumed.")
                paused.append(task.name)
            finally:
                calling.reset(token)
        return paused

    def _side_by_side(self) -> list[str]:
        paused: list[str] = []
        waiting, running = list(self.order), dict[Any, Calling]()
        ended: SimpleQueue[Any] = SimpleQueue()
        while waiting or running:
            for task in [t for t in waiting if all(u in self.states for u in self.flow.upstream_tasks(t))]:
                waiting.remove(task)
                call = self._prepared(task)
                if call is None:
                    continue
                token = calling.set(call)
                try:
                    future = engine.submit(self._request(call))
                finally:
                    calling.reset(token)
                running[future] = call
                future.add_done_callback(ended.put)
            if not running:
                continue
            future = ended.get()
            call = running.pop(future)
            try:
                future.result(raise_on_failure=False)
                self.states[call.task] = self._ended(call, future.state)
            except PausedRun:
                self.states[call.task] = faces.Paused("Waiting to be resumed.")
                paused.append(call.task.name)
        return paused

    def _request(self, call: Calling) -> Request:
        node = self.nodes[call.task]
        upstream = [state.modern for state in call.upstream.values()]
        waits = [allow_failure(one) for one in upstream if _can_wait(one)]
        target = node.task_of_engine if call.rows is None else node.parent_of_map
        return Request(target, (), call.inputs, waits, here=call.rows is not None)

    # --- one task

    def _prepared(self, task: Task) -> Calling | None:
        """The call of a task; None where its state is known without one."""
        begin = self.task_states.get(task)
        edges = self.flow.arrows_to(task)
        if begin is not None and begin.is_finished():
            self.states[task] = begin
            return None
        if isinstance(task, Parameter):
            values = self.known["parameters"]
            self.states[task] = faces.Success(result=values.get(task.name, task.default))
            return None
        upstream = {edge: self.states[edge.upstream_task] for edge in edges}
        if not all(state.is_finished() for state in upstream.values()):
            self.states[task] = faces.Pending("What comes before it waits to be resumed.")
            return None
        call = Calling(task, upstream, {}, self._of_task(task))
        if isinstance(begin, faces.Looped):
            call.start = _loop(begin)
        if task.skip_on_upstream_skip and any(_skipped(edge, state) for edge, state in upstream.items()):
            call.skip = SKIP("Something that comes before it was skipped.", result=None)
        constants = self.flow.constants.get(task, {})
        if is_map(edges, constants):
            rows_of(call, constants)
        call.inputs = _inputs(upstream, constants)
        return call

    def _of_task(self, task: Task) -> dict[str, Any]:
        slug = self.flow.slugs[task]
        return {
            **self.known,
            "task_id": self.nodes[task].task_of_engine.key,
            "task_name": task.name,
            "task_full_name": task.name,
            "task_slug": slug,
            "task_tags": sorted(task.tags),
            "map_index": None,
        }

    def _ended(self, call: Calling, found: modern.State) -> State:
        state = state_of(found)
        if getattr(found, "name", "") == "Mapped":
            node = self.nodes[call.task]
            children = call.children if call.children is not None else children_of(found, node.key)
            state.map_states = children
            state.result = [child.result for child in children]
            if found.is_failed():
                state._failure = next((child.error for child in children if child.is_failed()), None)
        return state

    # --- the end

    def _referred(self) -> list[State]:
        return [self.states[task] for task in self.order if task in self.flow.reference_tasks()]

    def _ending(self) -> State:
        referred = self._referred()
        state: State
        if any(one.is_failed() for one in referred):
            state = faces.Failed("Some reference tasks failed.", self.states)
        elif all(one.is_successful() for one in referred):
            state = faces.Success("All reference tasks succeeded.", self.states)
        else:
            state = faces.Success("No reference tasks failed.", self.states)
        if self.flow.terminal_state_handler is not None:
            got = self.flow.terminal_state_handler(self.flow, state, set(referred))
            if got is not None and not (isinstance(got, State) and got.is_finished()):
                raise TypeError(f"terminal_state_handler gives a finished state or None, not {got!r}.")
            state = got or state
        return state

    def completed(self, state: State) -> State:
        """The state of the flow run as it is shown: with the states of its tasks."""
        if state.is_finished():
            state._failure = state._failure or (state.result if isinstance(state.result, BaseException) else None)
            state.result = dict(self.states)
        return state

    def state_of_flow(self, found: modern.State) -> State:
        """The state of a run that has ended, here or earlier."""
        state = state_of(found)
        log = nearest_log()
        if not self.states and found.of_run is not None:
            self._recall(log, found.of_run)
        if found.is_failed():
            error = found.result(raise_on_failure=False)
            state._failure = error if isinstance(error, BaseException) else None
        state.result = dict(self.states)
        state.run_id = None if found.of_run is None else id_text(found.of_run)
        return state

    def _recall(self, log: Any, root: bytes) -> None:
        """The states of the tasks of a run that ended before, from its log."""
        log.log.flush()
        values = self.parameters_of(log.run(root.hex()))
        known = {key: task for task, node in self.nodes.items() for key in (node.key, node.parent_of_map.key)}
        for task in self.order:
            if isinstance(task, Parameter):
                self.states[task] = faces.Success(result=values.get(task.name, task.default))
        for child in log.log.children(root):
            run = log.load(child)
            task = known.get(run.birth.key)
            if task is not None:
                self.states[task] = self._ended(Calling(task, {}, {}, {}), run.state)

    def paused(self, message: str) -> State:
        """The state of a run that waits to be resumed."""
        state = faces.Paused(message)
        state.result = dict(self.states)
        state.run_id = None if self.root is None else id_text(self.root)
        return state


def _can_wait(found: modern.State | None) -> bool:
    return found is not None and found.of_run is not None and not (found.is_crashed() or found.is_cancelled())


def _skipped(edge: Edge, state: State) -> bool:
    children = state.map_states
    if children is None or edge.mapped:  # a map's child looks at its own predecessor
        return state.is_skipped()
    return any(child.is_skipped() for child in children)


def _loop(begin: faces.Looped) -> LOOP:
    count = begin.loop_count or 1
    return LOOP(message=begin.message or f"Begun after iteration {count}.", result=begin.result, loop_count=count)


def _inputs(upstream: Mapping[Edge, State], constants: Mapping[str, Bound]) -> dict[str, Any]:
    found = {
        edge.key: flat(state.result) if edge.flattened else state.result for edge, state in upstream.items() if edge.key
    }
    found.update({key: flat(value) if flattened else value for key, (value, _, flattened) in constants.items()})
    return found

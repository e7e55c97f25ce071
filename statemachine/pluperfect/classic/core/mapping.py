"""Maps: which children a mapped task has, what each is given, and how they amount to the state of their parent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ... import states as modern
from ...authoring import engine
from ...authoring.annotations import allow_failure
from ...authoring.births import Request
from ...authoring.context import current_frame
from ...errors import PausedRun
from ..engine import state as faces
from ..engine.conversion import failed, state_of
from ..engine.signals import SKIP
from ..engine.state import State
from .calls import Calling, calling, log_here
from .edge import Edge
from .graph import Bound

if TYPE_CHECKING:
    from .nodes import Node

__all__ = ["MapBody", "children_of", "flat", "is_map", "rows_of"]

Constants = Mapping[str, Bound]


def is_map(edges: Iterable[Edge], constants: Constants) -> bool:
    """Whether something is mapped over."""
    return any(edge.mapped for edge in edges) or any(mapped for _, mapped, _ in constants.values())


def flat(value: Any) -> Any:
    """The lists in a list put end to end, one level; anything else as it is."""
    if not isinstance(value, list | tuple):
        return value
    made: list[Any] = []
    for item in value:  # type: ignore[reportUnknownVariableType]
        made.extend(item if isinstance(item, list | tuple) else [item])  # type: ignore[reportUnknownArgumentType]
    return made


def rows_of(call: Calling, constants: Constants) -> None:
    """Give the parent of a map its children's calls, or the reason why there can be none."""
    columns: dict[Edge | str, list[State]] = {}
    try:
        for edge, state in call.upstream.items():
            if edge.mapped and (state.is_successful() or state.is_mapped()):
                columns[edge] = _column(state, flattened=edge.flattened)
        for key, (value, mapped, flattened) in constants.items():
            if mapped:
                columns[key] = _items(flat(value) if flattened else value)
    except TypeError as error:
        call.refusal = failed(error, f"{call.task.name} cannot be mapped: {error}", "error", "Failed")
        return
    if not columns:
        text = f"{call.task.name} cannot be mapped: nothing of what it maps over succeeded."
        call.refusal = failed(TypeError(text), text, "error", "Failed")
        return
    count = min(map(len, columns.values()))
    call.rows = [_row(call, constants, columns, place) for place in range(count)]


def _column(state: State, *, flattened: bool) -> list[State]:
    """The states that the children of a map depend on, one each."""
    children = state.map_states
    if children is None:
        return _items(flat(state.result) if flattened else state.result)
    if not flattened:
        return children
    made: list[State] = []
    for child in children:
        parts: Any = child.result
        if child.is_successful() and isinstance(parts, list | tuple):
            made.extend(_item(part) for part in parts)  # type: ignore[reportUnknownArgumentType]
        else:
            made.append(child)
    return made


def _item(value: Any) -> State:
    return faces.Success(result=value)


def _items(value: Any) -> list[State]:
    if isinstance(value, dict | set | frozenset) or not hasattr(value, "__getitem__"):
        raise TypeError(f"a {type(value).__name__} has no items by place; give a list")  # type: ignore[reportUnknownArgumentType]
    found: list[State] = []
    while True:
        try:
            found.append(_item(value[len(found)]))
        except (IndexError, StopIteration):
            return found
        except KeyError as error:
            raise TypeError(f"a {type(value).__name__} has no items by place; give a list") from error


def _row(call: Calling, constants: Constants, columns: Mapping[Edge | str, list[State]], place: int) -> Calling:
    upstream = {edge: columns[edge][place] if edge in columns else state for edge, state in call.upstream.items()}
    inputs = {edge.key: state.result for edge, state in upstream.items() if edge.key is not None}
    for key, (value, _, flattened) in constants.items():
        inputs[key] = columns[key][place].result if key in columns else flat(value) if flattened else value
    full = f"{call.task.name}[{place}]"
    row = Calling(call.task, upstream, inputs, {**call.known, "map_index": place, "task_full_name": full})
    row.start = call.start
    if call.task.skip_on_upstream_skip and any(state.is_skipped() for state in upstream.values()):
        row.skip = SKIP("Something that comes before it was skipped.", result=None)
    return row


class MapBody:
    """What the engine calls for the parent of a map: it calls the children."""

    def __init__(self, node: Node, *, parallel: bool) -> None:
        body = node.body
        self.node: Node = node
        self.parallel: bool = parallel
        self.__name__: str = body.__name__
        self.__module__: str = body.__module__
        self.__doc__: str = body.__doc__
        self.__qualname__: str = f"{body.__qualname__}/map"
        self.__signature__: inspect.Signature = body.__signature__

    @property
    def __code__(self) -> Any:
        return self.node.body.__code__

    def __call__(self, /, **_: Any) -> modern.State:
        """Call each child, and list what they gave, exceptions in place."""
        call = calling.get()
        here = current_frame.get()
        assert call is not None
        assert here is not None
        call.begun_elsewhere(here.run)
        if call.instead is not None:
            raise call.instead
        rows = call.rows or []
        target = self.node.task_of_engine
        index, number = here.children.place(target.key, target.name, len(rows))
        requests = [self._request(row, (index, number + place), place) for place, row in enumerate(rows)]
        children = _submitted(rows, requests) if self.parallel else _one_by_one(rows, requests)
        call.children = children
        lost = [child for child in children if child.is_failed()]
        if lost:
            text = f"{len(lost)} of {len(children)} children failed."
            return modern.Failed(text, "children", data=_exception(lost[0]), name="Mapped")
        return modern.Completed("", [child.result for child in children], name="Mapped")

    def _request(self, row: Calling, at: tuple[int, int], place: int) -> Request:
        found = [state.modern for state in row.upstream.values()]
        waits = [
            allow_failure(one)
            for one in found
            if one is not None and one.of_run is not None and not (one.is_crashed() or one.is_cancelled())
        ]
        return Request(self.node.task_of_engine, (), row.inputs, waits, at, map_index=place)


def _exception(state: State) -> Any:
    return state.error or state.message or "the child failed"


def _one_by_one(rows: list[Calling], requests: list[Request]) -> list[State]:
    return _led(rows, [lambda request=request: engine.call(request, return_state=True) for request in requests])


def _submitted(rows: list[Calling], requests: list[Request]) -> list[State]:
    futures: list[Any] = []
    for row, request in zip(rows, requests, strict=True):
        token = calling.set(row)
        try:
            futures.append(engine.submit(request))
        finally:
            calling.reset(token)

    for future in futures:
        future.run()  # the parent has a place in the pool: it makes what nobody has begun, instead of waiting in it

    def ended(future: Any) -> modern.State:
        future.result(raise_on_failure=False)
        return future.state

    return _led(rows, [lambda future=future: ended(future) for future in futures])


def _led(rows: list[Calling], calls: list[Callable[[], modern.State]]) -> list[State]:
    """Make the calls in order; where one is paused the others still go on, and then the map is paused."""
    found: list[State] = []
    paused: PausedRun | None = None
    for row, call in zip(rows, calls, strict=True):
        token = calling.set(row)
        try:
            found.append(state_of(call()))
        except PausedRun as pause:
            paused = pause
        finally:
            calling.reset(token)
    if paused is not None:
        raise paused
    return found


def children_of(found: modern.State, key: str) -> list[State]:
    """The states of a map's children, from the log."""
    log = log_here()
    assert found.of_run is not None
    log.log.flush()
    newest: dict[int, State] = {}
    for child in log.log.children(found.of_run):
        run = log.load(child)
        place = run.birth.map_index
        if run.birth.key == key and place is not None:
            newest[place] = state_of(run.state)
    return [newest[place] for place in sorted(newest)]

"""
Runs among the arguments of a call: futures and states, wherever they stand.

They are looked for in lists, tuples, sets, dicts (keys too), dataclasses, Structs, named tuples and pydantic
models, and under the marks of ``annotations.py``; not in generators, nor in other objects.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from ..states import State
from .annotations import Annotation, allow_failure, opaque, quote
from .futures import Future

__all__ = ["Found", "each_run", "holds_runs", "resolved"]

_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
_ROWS: Final = (list, tuple, set, frozenset)


class Found(NamedTuple):
    """A future or state among arguments, and whether its failure is allowed."""

    run: Future[Any] | State
    lenient: bool = False

    @property
    def state(self) -> State:
        """The state of the run as it is now."""
        return self.run.state if isinstance(self.run, Future) else self.run

    def tolerated(self) -> bool:
        """Whether the call may be made: the run completed, or may fail and did so in its own right."""
        state = self.state
        return state.is_completed() or (
            self.lenient and state.is_failed() and not (state.is_crashed() or state.is_cancelled())
        )


def holds_runs(value: Any) -> bool:
    """Whether a future, a run's state, or a mark stands anywhere in this value."""
    kind = type(value)  # type: ignore[reportUnknownVariableType]
    if kind in _PLAIN:
        return False
    if kind is tuple or kind is list or kind is set or kind is frozenset:
        return not _PLAIN.issuperset(map(type, value)) and any(map(holds_runs, value))
    if kind is dict:
        return any(map(holds_runs, value)) or any(map(holds_runs, value.values()))
    if isinstance(value, Future | State | Annotation):
        return True
    parts = _parts(value)
    return parts is not None and any(map(holds_runs, parts))


def each_run(value: Any, *, lenient: bool = False) -> Iterator[Found]:
    """The futures and states in this value, in the order in which they stand."""
    kind = cast("type[Any]", type(value))
    if kind in _PLAIN:
        return
    if isinstance(value, Future | State):
        yield Found(cast("Future[Any] | State", value), lenient)
    elif isinstance(value, quote):
        return
    elif isinstance(value, opaque):
        inner = _bare(cast("opaque[Any]", value))
        if isinstance(inner, Future | State):
            yield Found(cast("Future[Any] | State", inner), lenient or _allows(cast("opaque[Any]", value)))
    elif isinstance(value, Annotation):
        yield from each_run(cast("Annotation[Any]", value).value, lenient=lenient or isinstance(value, allow_failure))
    else:
        for part in _parts(value) or ():
            yield from each_run(part, lenient=lenient)


def resolved(value: Any, answer: Callable[[Found], Any], *, lenient: bool = False) -> Any:
    """The value without marks, each future and state replaced by what ``answer`` gives for it; the same object where none is in it."""
    if not holds_runs(value):
        return value
    kind = cast("type[Any]", type(value))
    if isinstance(value, Future | State):
        return answer(Found(cast("Future[Any] | State", value), lenient))
    if isinstance(value, Annotation):
        inner = _bare(cast("Annotation[Any]", value))
        if _quoted(cast("Annotation[Any]", value)):
            return inner
        mild = lenient or _allows(cast("Annotation[Any]", value))
        if _is_opaque(cast("Annotation[Any]", value)) and not isinstance(inner, Future | State):
            return inner
        return resolved(inner, answer, lenient=mild)

    def go(part: Any) -> Any:
        return resolved(part, answer, lenient=lenient)

    if isinstance(value, Mapping):
        made: dict[Any, Any] = {go(k): go(v) for k, v in cast("Mapping[Any, Any]", value).items()}
        if kind is dict:
            return made
        same: Any = copy.copy(value)  # type: ignore[reportUnknownArgumentType] - a defaultdict keeps its factory
        same.clear()
        same.update(made)
        return same
    if isinstance(value, tuple) and hasattr(cast("Any", value), "_fields"):
        return cast("Any", type(value))(*map(go, value))  # type: ignore[reportUnknownArgumentType]
    if isinstance(value, _ROWS):
        items = [go(item) for item in cast("Iterable[Any]", value)]
        return items if isinstance(value, list) else cast("Any", type(value))(items)  # type: ignore[reportUnknownArgumentType]
    return _with_fields(value, {name: go(getattr(value, name)) for name in _field_names(value) or ()})


def _chain(mark: Annotation[Any]) -> Iterator[Annotation[Any]]:
    """A mark and the marks inside of it, outermost first."""
    value: Any = mark
    while isinstance(value, Annotation):
        yield cast("Annotation[Any]", value)
        value = cast("Annotation[Any]", value).value


def _bare(mark: Annotation[Any]) -> Any:
    """What stands under all the marks."""
    value: Any = mark
    while isinstance(value, Annotation):
        value = cast("Annotation[Any]", value).value
    return value


def _allows(mark: Annotation[Any]) -> bool:
    return any(isinstance(one, allow_failure) for one in _chain(mark))


def _quoted(mark: Annotation[Any]) -> bool:
    return any(isinstance(one, quote) for one in _chain(mark))


def _is_opaque(mark: Annotation[Any]) -> bool:
    return any(isinstance(one, opaque) for one in _chain(mark))


def _parts(value: Any) -> Iterable[Any] | None:
    """What stands in a container; None where it is none."""
    if isinstance(value, Mapping):
        given = cast("Mapping[Any, Any]", value)
        return [*given.keys(), *given.values()]
    if isinstance(value, _ROWS):
        return cast("Iterable[Any]", value)
    names = _field_names(value)
    return None if names is None else [getattr(value, name) for name in names if hasattr(value, name)]


def _field_names(value: Any) -> Iterable[str] | None:
    kind = cast("type[Any]", type(value))
    fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__struct_fields__", None)
    if fields is None and isinstance(getattr(kind, "__pydantic_fields__", None), dict):
        fields = kind.__pydantic_fields__
    return fields if isinstance(fields, dict | tuple) else None  # type: ignore[reportUnknownVariableType]


def _with_fields(value: Any, fields: dict[str, Any]) -> Any:
    """A copy with these fields, made without calling ``__init__`` again."""
    made = copy.copy(value)
    if isinstance(value, msgspec.Struct):
        for name, part in fields.items():
            msgspec.structs.force_setattr(made, name, part)
    elif dataclasses.is_dataclass(value):
        for name, part in fields.items():
            object.__setattr__(made, name, part)
    else:
        made = value.model_copy(update=fields)
    return made

"""Tasks that apply an operator, or put results into a list, when the flow runs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from .task import FunctionTask, Task

__all__ = ["as_task_value", "operator_task"]


def _and(left: Any, right: Any) -> Any:
    return left and right


def _or(left: Any, right: Any) -> Any:
    return left or right


def _divided(left: Any, right: Any) -> Any:
    return left / right


def _floored(left: Any, right: Any) -> Any:
    return left // right


def _powered(left: Any, right: Any) -> Any:
    return left**right


_BINARY: Final[dict[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "+": ("Add", operator.add),
    "-": ("Sub", operator.sub),
    "*": ("Mul", operator.mul),
    "/": ("Div", _divided),
    "//": ("FloorDiv", _floored),
    "%": ("Mod", operator.mod),
    "**": ("Pow", _powered),
    "and": ("And", _and),
    "or": ("Or", _or),
    "==": ("Equal", operator.eq),
    "!=": ("NotEqual", operator.ne),
    ">": ("GreaterThan", operator.gt),
    ">=": ("GreaterThanOrEqual", operator.ge),
    "<": ("LessThan", operator.lt),
    "<=": ("LessThanOrEqual", operator.le),
}


class _Binary:
    """Applies an operator to two arguments; made so that it can be sent to a worker."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.__name__ = _BINARY[symbol][0]

    def __call__(self, x: Any, y: Any) -> Any:
        return _BINARY[self.symbol][1](x, y)


def _get_item(task_result: Any, key: Any) -> Any:
    return task_result[key]


def _not(x: Any) -> bool:
    return not x


def operator_task(symbol: str, arguments: tuple[Any, ...] = ()) -> Task:
    """A task that applies this operator; it is named after it, and one that takes an item after what it takes."""
    if symbol == "[]":
        task, key = arguments
        made = FunctionTask(_get_item, name="GetItem" if isinstance(key, Task) else f"{task.name}[{key!r}]")
    elif symbol == "not":
        made = FunctionTask(_not, name="Not")
    else:
        made = FunctionTask(_Binary(symbol), name=_BINARY[symbol][0])
    made.auto_generated = True
    return made


# --- containers with tasks in them --------------------------------------------------------------------------


def _list(**items: Any) -> list[Any]:
    return [items[key] for key in sorted(items, key=_place)]


def _tuple(**items: Any) -> tuple[Any, ...]:
    return tuple(_list(**items))


def _set(**items: Any) -> set[Any]:
    return set(items.values())


def _dict(keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    return dict(zip(keys, values, strict=True))


def _place(key: str) -> int:
    return int(key.rpartition("_")[2])


_GATHER: Final[dict[type[Any], tuple[str, Callable[..., Any]]]] = {
    list: ("List", _list),
    tuple: ("Tuple", _tuple),
    set: ("Set", _set),
}


def holds_tasks(value: Any) -> bool:
    """Whether a task stands in this container."""
    if isinstance(value, Task):
        return True
    if type(value) in _GATHER:
        return any(map(holds_tasks, value))
    return type(value) is dict and any(holds_tasks(item) for pair in value.items() for item in pair)  # type: ignore[reportUnknownVariableType]


def as_task_value(value: Any, flow: Any) -> Any:
    """A container with tasks in it as a task that gathers their results; everything else as it is."""
    if isinstance(value, Task) or not holds_tasks(value):
        return value
    if type(value) is dict:
        made = FunctionTask(_dict, name="Dict")
        made.auto_generated = True
        return made.bind(keys=list(value), values=list(value.values()), flow=flow)  # type: ignore[reportUnknownArgumentType]
    name, gather = _GATHER[type(value)]
    made = FunctionTask(gather, name=name)
    made.auto_generated = True
    return made.bind(flow=flow, **{f"item_{place}": item for place, item in enumerate(value)})

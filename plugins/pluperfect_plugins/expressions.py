"""
Expressions over events, for people who look for one: ``kind == "task" and state == "Failed"``.

They are written as in Python, and are not Python: there are the names of one event, words, numbers, comparisons, ``in``, ``and``,
``or``, ``not`` and lists of such. Nothing is called, no attribute is looked up, and nothing comes from a history but values to
compare; so whatever stands in one is data.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["BadExpression", "Expression"]

_COMPARING: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_LONGEST: Final = 1_000


class BadExpression(ValueError):
    """What was given is no expression over events; the message says what is wrong, and what there is."""


class Expression:
    """
    One expression, ready to be asked about any number of events.

    Args:
        text: The expression.
        names: The names that it may use.

    Raises:
        BadExpression: It is none, or uses what there is not.
    """

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text, self._names = text.strip(), names
        if not self.text:
            raise BadExpression(f"There is no expression. One is, for instance: state == 'Failed'. {self._known()}")
        if len(self.text) > _LONGEST:
            raise BadExpression(f"An expression has at most {_LONGEST} characters; this one has {len(self.text)}.")
        try:
            tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = getattr(error, "msg", str(error))
            if re.search(r"(?<![=!<>])=(?!=)", self.text):
                why += "; two things are compared with =="
            raise BadExpression(f"{self.text!r} is no expression: {why}. {self._known()}") from error
        self._ask = self._made(tree)

    def __call__(self, values: Mapping[str, Any]) -> bool:
        """
        Whether it holds for an event with these values.

        Raises:
            BadExpression: It compares what cannot be compared.
        """
        try:
            return bool(self._ask(values))
        except TypeError as error:
            raise BadExpression(f"{self.text!r} cannot be answered: {error}.") from error

    def _known(self) -> str:
        return f"The names are: {', '.join(self._names)}."

    def _made(self, node: ast.expr) -> Callable[[Mapping[str, Any]], Any]:
        match node:
            case ast.Constant(value=str() | int() | float() | bool() | None as value):
                return lambda _: value
            case ast.Name(id=name):
                if name in self._names:
                    return operator.itemgetter(name)
                near = difflib.get_close_matches(name, self._names, 1)
                hint = f" Did you mean {near[0]}?" if near else " A word that is no name stands in quotes."
                raise BadExpression(f"There is no {name!r} in an event.{hint} {self._known()}")
            case ast.BoolOp(op=op, values=parts):
                made = [self._made(part) for part in parts]
                every = all if isinstance(op, ast.And) else any
                return lambda values: every(part(values) for part in made)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                asked = self._made(inner)
                return lambda values: not asked(values)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda _: -number
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                listed = [self._made(item) for item in items]
                return lambda values: [item(values) for item in listed]
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compared(
                    [self._made(left), *map(self._made, others)], [_COMPARING[type(op)] for op in ops]
                )
            case _:
                part = ast.get_source_segment(self.text, node) or self.text
                raise BadExpression(
                    f"{part!r} cannot stand in an expression: there are names, words, numbers, lists, comparisons, in, and, or,"
                    f" not; nothing is called or looked into. {self._known()}"
                )

    @staticmethod
    def _compared(
        sides: list[Callable[[Mapping[str, Any]], Any]], ways: list[Callable[[Any, Any], Any]]
    ) -> Callable[[Mapping[str, Any]], Any]:
        def compare(values: Mapping[str, Any]) -> bool:
            known = [side(values) for side in sides]
            return all(way(one, other) for way, one, other in zip(ways, known, known[1:], strict=False))

        return compare

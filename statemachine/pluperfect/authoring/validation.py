"""
The values of a call against the annotations of its parameters.

What fits is passed on as the very object, and only what does not fit is converted: a call without a slip costs a look
at each value. Everything that can be neither is told in one error.
"""

from __future__ import annotations

import inspect
import reprlib
import sys
import typing
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import ParameterTypeError

if TYPE_CHECKING:
    from .coercion import Problem, Rule
    from .hints import Converters

__all__ = ["Validator"]

SHOWN: Final = 5
"""Problems of one parameter that an error shows; a column of a million texts is wrong in a million places."""

WIDTH: Final = 80
"""Characters of a value that an error shows."""

_EMPTY: Final = inspect.Parameter.empty


class Validator:
    """
    Checks and converts the arguments of one function; made at decoration, its annotations compiled at the first call.

    Args:
        fn: The function; its module says what the names in annotations mean.
        signature: Its signature.
        name: What errors call it; else its qualified name.
        converters: Asked about each annotation first: what plugins make of it.
    """

    def __init__(
        self, fn: Any, signature: inspect.Signature, *, name: str = "", converters: Converters | None = None
    ) -> None:
        self._fn, self._signature, self._converters = fn, signature, converters
        self._name = name or getattr(fn, "__qualname__", repr(fn))
        self._plan: _Plan | None = None

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, strict: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        The arguments to call the function with: the same objects where all fits.

        Args:
            args: By position. They and the next have been bound: the signature takes them.
            kwargs: By name.
            strict: Accept what fits, but convert only what a strict msgspec or pydantic would.

        Raises:
            ParameterTypeError: Some do not fit and cannot be converted; all of them are named.
        """
        plan = self._plan
        if plan is None:
            plan = self._compile()
        if plan.idle:
            return args, kwargs
        slips: list[tuple[int | str, Rule]] = []
        count = len(args)
        for place, rule in plan.placed:
            if place >= count:
                break
            value = args[place]
            if type(value) not in rule.exact and not rule.fits(value):
                slips.append((place, rule))
        if plan.star is not None:
            star = plan.star
            slips += [(place, star) for place in range(plan.width, count) if not star.fits(args[place])]
        if kwargs:
            named, stars = plan.named, plan.stars
            for key, value in kwargs.items():
                rule = named.get(key, stars)
                if rule is not None and type(value) not in rule.exact and not rule.fits(value):
                    slips.append((key, rule))
        if plan.defaults:
            absent = {n: rule for place, n, rule in plan.defaults if place >= count and n not in kwargs}
            kwargs = {**kwargs, **{n: self._default(n, rule) for n, rule in absent.items()}}
        return self._settled(plan, slips, args, kwargs, strict) if slips else (args, kwargs)

    def _default(self, name: str, rule: Rule) -> Any:
        return rule.convert(self._signature.parameters[name].default, False)

    def _mends(self, parameter: inspect.Parameter, rule: Rule) -> bool:
        """Whether a default does not fit its annotation and can be made to; one that cannot is the author's affair."""
        from .coercion import Mismatch

        if parameter.default is _EMPTY or rule.fits(parameter.default):
            return False
        try:
            self._default(parameter.name, rule)
        except Mismatch:
            return False
        return True

    def schema(self) -> dict[str, dict[str, Any]]:
        """The JSON schema of each parameter, by name; empty where neither msgspec nor pydantic can tell."""
        from .hints import schema_of

        schemas: dict[str, dict[str, Any]] = {}
        for parameter, annotation in self._evaluated():
            if annotation is _EMPTY or annotation is Any:
                schemas[parameter.name] = {}
            elif parameter.kind is parameter.VAR_POSITIONAL:
                schemas[parameter.name] = schema_of(tuple[annotation, ...])
            elif parameter.kind is parameter.VAR_KEYWORD and typing.get_origin(annotation) is not typing.Unpack:
                schemas[parameter.name] = schema_of(dict[str, annotation])
            else:
                schemas[parameter.name] = schema_of(annotation)
        return schemas

    def _evaluated(self) -> Iterator[tuple[inspect.Parameter, Any]]:
        from .hints import evaluated, names_of

        names = names_of(self._fn)
        for parameter in self._signature.parameters.values():
            annotation = parameter.annotation
            yield parameter, evaluated(annotation, names) if isinstance(annotation, str) else annotation

    def _compile(self) -> _Plan:
        from .hints import Compiler, names_of

        compiler = Compiler(names_of(self._fn), self._converters)
        plan = _Plan()
        unheeded: list[str] = []
        for parameter, annotation in self._evaluated():
            compiler.unheeded = False
            if parameter.kind is parameter.VAR_KEYWORD and typing.get_origin(annotation) is typing.Unpack:
                (shape,) = typing.get_args(annotation)
                plan.named.update((key, compiler.rule(kind)) for key, kind in compiler.fields(shape).items())
                continue
            rule = None if annotation is _EMPTY else compiler.rule(annotation)
            if compiler.unheeded:
                unheeded.append(parameter.name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                plan.star = rule
            elif parameter.kind is parameter.VAR_KEYWORD:
                plan.stars = rule
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    if rule is not None:
                        plan.placed.append((plan.width, rule))
                    plan.width += 1
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    plan.named[parameter.name] = rule
                    if rule is not None and self._mends(parameter, rule):
                        place = sys.maxsize if parameter.kind is parameter.KEYWORD_ONLY else plan.width - 1
                        plan.defaults.append((place, parameter.name, rule))
        plan.idle = not any((*plan.placed, plan.star, plan.stars, *plan.named.values()))
        self._plan = plan
        if unheeded:
            warnings.warn(
                f"{self._name}(): constraints of annotated_types ({', '.join(unheeded)}) are not checked, since pydantic"
                " is not loaded. Import pydantic before the first call, or write msgspec.Meta instead.",
                UserWarning,
                stacklevel=3,
            )
        return plan

    def _settled(
        self,
        plan: _Plan,
        slips: list[tuple[int | str, Rule]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        strict: bool,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        from .coercion import Mismatch

        made_args, made_kwargs = list(args), dict(kwargs)
        wrong: list[str] = []
        changed = False
        for where, rule in slips:
            value = args[where] if isinstance(where, int) else kwargs[where]
            try:
                made = rule.convert(value, strict)
            except Mismatch as mismatch:
                wrong += self._told(where, mismatch.problems)
                continue
            changed = changed or made is not value
            if isinstance(where, int):
                made_args[where] = made
            else:
                made_kwargs[where] = made
        if wrong:
            raise ParameterTypeError(
                f"Flow run received invalid parameters: {self._name}() was given what does not fit:\n"
                + "\n".join(f"  {line}" for line in wrong)
                + "\nFix the value, loosen the annotation, or switch the check off with validate_parameters=False."
            )
        return (tuple(made_args), made_kwargs) if changed else (args, kwargs)

    def _told(self, where: int | str, problems: Sequence[Problem]) -> list[str]:
        """A line for each problem with one argument."""
        parameters = list(self._signature.parameters.values())
        if isinstance(where, int):
            before = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            if where < len(before):
                parameter, name = before[where], before[where].name
            else:
                parameter = next(p for p in parameters if p.kind is p.VAR_POSITIONAL)
                name = f"{parameter.name}[{where - len(before)}]"
        else:
            known = self._signature.parameters.get(where)
            if known is None or known.kind in (known.POSITIONAL_ONLY, known.VAR_POSITIONAL, known.VAR_KEYWORD):
                known = next(p for p in parameters if p.kind is p.VAR_KEYWORD)
            parameter, name = known, where
        given = parameter.annotation
        annotation = given if isinstance(given, str) else inspect.formatannotation(given)
        lines = [
            f"{name}{p.path}: {p.says}, given {type(p.value).__qualname__} {_shortened(p.value)} (annotation: {annotation})"
            for p in problems[:SHOWN]
        ]
        if len(problems) > SHOWN:
            lines.append(f"{name}: {len(problems) - SHOWN} more")
        return lines


class _Plan:
    """The rules of one signature, by the way in which an argument arrives."""

    __slots__ = ("defaults", "idle", "named", "placed", "star", "stars", "width")

    def __init__(self) -> None:
        self.placed: list[tuple[int, Rule]] = []
        self.width = 0
        self.defaults: list[tuple[int, str, Rule]] = []
        self.named: dict[str, Rule | None] = {}
        self.star: Rule | None = None
        self.stars: Rule | None = None
        self.idle = False


def _shortened(value: Any) -> str:
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = WIDTH
    return " ".join(shown.repr(value).split())

"""
From the arguments of a call to its parameters by name.

A binder is generated from the signature once for each function: it binds in a tenth of a microsecond where
``inspect.Signature.bind`` takes thirty times as long, and its errors are Python's own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

from ..errors import ParameterBindError, ReservedArgumentError

__all__ = ["Binder", "reserved", "signature_of"]

RESERVED: Final = ("return_state", "wait_for")


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """
    The signature of a function; where its annotations speak of names that are not there, or not yet, they stay as they are written.

    Raises:
        TypeError, ValueError: It is no function, or has no signature.
    """
    try:
        return inspect.signature(fn)
    except NameError:  # from Python 3.14 on annotations are evaluated only now
        if sys.version_info < (3, 14):
            raise
        from annotationlib import Format

        return inspect.signature(fn, annotation_format=Format.STRING)


class Binder:
    """Binds the arguments of one function; made at decoration, its code generated at the first call."""

    __slots__ = ("_bind", "_fn", "signature")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self._bind: Callable[..., dict[str, Any]] | None = None
        self.signature: inspect.Signature = signature_of(fn)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """
        The parameters by name, defaults included.

        Raises:
            ParameterBindError: The arguments do not fit; the message shows the signature.
        """
        bind = self._bind
        if bind is None:
            bind = self._bind = _generate(self._fn, self.signature)
        try:
            return bind(*args, **kwargs)
        except TypeError as error:
            name = getattr(self._fn, "__qualname__", repr(self._fn))
            raise ParameterBindError(f"{error}. The signature is {name}{self.signature}.") from None

    def arguments(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that these parameters, by name, were the binding of."""
        args: list[Any] = []
        kwargs = dict(parameters)
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(kwargs.pop(name, ()))
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(kwargs.pop(name, {}))
            elif parameter.kind is not parameter.KEYWORD_ONLY and name in kwargs:
                args.append(kwargs.pop(name))
        return tuple(args), kwargs


def _generate(fn: Callable[..., Any], signature: inspect.Signature) -> Callable[..., dict[str, Any]]:
    name = getattr(fn, "__name__", "call")
    name = name if name.isidentifier() else "call"
    scope: dict[str, Any] = {}
    parts: list[str] = []
    names = list(signature.parameters)
    positional_only = starred = False
    for place, parameter in enumerate(signature.parameters.values()):
        if positional_only and parameter.kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
            positional_only = False
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional_only = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        text = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            text, starred = f"*{text}", True
        elif parameter.kind is parameter.VAR_KEYWORD:
            text = f"**{text}"
        elif parameter.default is not parameter.empty:
            scope[f"_default_{place}"] = parameter.default
            text = f"{text}=_default_{place}"
        parts.append(text)
    if positional_only:
        parts.append("/")
    body = ", ".join(f"{n!r}: {n}" for n in names)
    check = ""
    if names[:1] == ["cls"] and _is_method(fn):
        scope["_check"] = _class_given
        check = "    _check(cls)\n"
    source = f"def {name}({', '.join(parts)}):\n{check}    return {{{body}}}\n"
    exec(source, scope)  # noqa: S102 - made of identifiers that Python has already accepted as parameters
    return scope[name]


def _is_method(fn: Callable[..., Any]) -> bool:
    where = getattr(fn, "__qualname__", "").rpartition(".")[0]
    return isinstance(fn, FunctionType) and bool(where) and not where.endswith("<locals>")


def _class_given(cls: Any) -> None:
    if not isinstance(cls, type):
        raise TypeError(
            f"the class is missing: {cls!r} came in its place. Since Python 3.13, @classmethod above the decorator keeps the class"
            " to itself for submit, map and with_options: write the decorator above @classmethod"
        )


def reserved(fn: Callable[..., Any], binder: Binder) -> None:
    """
    Refuse a function that uses, as a parameter, a name that the call itself needs.

    Raises:
        ReservedArgumentError: It does.
    """
    for name in RESERVED:
        if name in binder.signature.parameters:
            raise ReservedArgumentError(
                f"{name!r} is a reserved argument name: the call itself uses it. Rename the parameter of"
                f" {getattr(fn, '__qualname__', fn)}."
            )

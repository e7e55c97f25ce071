"""
Pickles that bring exceptions back as what they were.

An exception is pickled by Python as a call of its class with its ``args``. A class whose constructor takes other
arguments than it hands on to ``Exception`` cannot be called with these, so that the pickle is written and never read.
Here such an exception is made anew without its constructor, and gets its attributes back.
"""

from __future__ import annotations

import io
import pickle
from copyreg import __newobj__  # type: ignore[reportAttributeAccessIssue]
from types import FunctionType
from typing import Any, Final, cast

__all__ = ["dumps", "dumps_by_value"]

_OF_PYTHON: Final = frozenset({BaseException.__reduce__, OSError.__reduce__})
_OF_OSERROR: Final = ("errno", "strerror", "filename", "filename2")


def dumps(value: Any) -> bytes:
    """The value pickled, with what can be imported by reference."""
    file = io.BytesIO()
    _Pickler(file, 5).dump(value)
    return file.getvalue()


def dumps_by_value(value: Any) -> bytes:
    """The value pickled by cloudpickle, with functions and classes that cannot be imported in it."""
    import cloudpickle

    class CloudPickler(cloudpickle.Pickler):  # type: ignore[reportUntypedBaseClass, misc]
        def reducer_override(self, obj: Any) -> Any:
            made = _remade(obj)
            return super().reducer_override(obj) if made is NotImplemented else made  # type: ignore[reportUnknownMemberType]

    file = io.BytesIO()
    cast("Any", CloudPickler)(file).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        return _remade(obj)


def _remade(obj: Any) -> Any:
    kind = cast("type[Any]", type(obj))
    if not isinstance(obj, BaseException) or not isinstance(kind.__init__, FunctionType):
        return NotImplemented
    if kind.__reduce__ not in _OF_PYTHON or kind.__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented  # its class sees to it itself
    state = {**obj.__dict__, "args": obj.args}
    if isinstance(obj, OSError):
        state |= {name: given for name in _OF_OSERROR if (given := getattr(obj, name, None)) is not None}
    return __newobj__, (kind, *obj.args), state

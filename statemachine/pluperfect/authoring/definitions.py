"""What flows and tasks have in common: a function, a name, and options that are checked where they are given."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from types import CodeType
from typing import Any, ClassVar, Final, Self, TypeVar, cast
from weakref import WeakKeyDictionary

from ..digests import SCRIPT, place_of
from ..errors import InvalidNameError
from ..hooks import Definition, Option
from ..manager import builtin_options
from ..settings import SETTINGS, get_current_settings
from .annotations import unmapped
from .binding import Binder, reserved
from .names import call_key
from .options import ENGINE

__all__ = ["Authored", "Bound"]

T = TypeVar("T")

_FORBIDDEN: Final = frozenset("/%&><")
_OWN: Final = frozenset({"name", "description", "tags", "version"})
"""Options that are attributes of their own."""


class Known:
    """What each open log knows of one definition. Mostly that is one log, which is found without a look at the others."""

    __slots__ = ("_all", "_last")

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._last: tuple[weakref.ref[Any], Any] | None = None

    def get(self, log: Any) -> Any:
        """What this log knows; None where it has not looked yet."""
        last = self._last
        if last is not None and last[0]() is log:
            return last[1]
        found = self._all.get(log)
        if found is not None:
            self._last = (weakref.ref(log), found)
        return found

    def put(self, log: Any, known: Any) -> None:
        """Note what this log knows."""
        self._all[log] = known

    def clear(self) -> None:
        """The definition was changed: every log looks again."""
        self._all.clear()
        self._last = None


class Authored:
    """A user's function with a name and options: the base of Flow and Task."""

    kind: ClassVar[str] = ""

    def __init__(self, fn: Callable[..., Any], given: Mapping[str, Any]) -> None:
        self.binds = "object"
        if isinstance(fn, classmethod | staticmethod):
            self.binds: str = "class" if isinstance(fn, classmethod) else "nothing"
            fn = cast("Callable[..., Any]", fn.__func__)  # type: ignore[reportUnknownMemberType]
        if not callable(fn):
            raise TypeError(f"@{self.kind} decorates a function, not {fn!r}.")
        if isinstance(fn, type):
            raise TypeError(f"@{self.kind} decorates a function, not the class {fn.__qualname__}.")
        self.fn = fn
        self.given: dict[str, Any] = self._checked(given)
        self.binder: Binder = Binder(fn)
        reserved(fn, self.binder)
        self.is_async: bool = inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)
        self.generates: bool = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
        self.name: str = self.given.get("name") or self._default_name(fn)
        self.description: str | None = self.given.get("description") or inspect.getdoc(fn)
        self.tags: frozenset[str] = frozenset(self.given.get("tags", ()))
        if self.given.get("version") is not None:
            self.version: str | None = self.given["version"]
        module, qualname = getattr(fn, "__module__", ""), getattr(fn, "__qualname__", type(fn).__qualname__)
        self.key: str = call_key(self.name, f"{place_of(module)}.{qualname}", tuple(sorted(self.tags)))
        self._code: bytes | None = None
        # What each log makes of this; kept here and not there, so that it goes when either goes.
        self.known: Known = Known()
        for attribute in ("__module__", "__qualname__", "__name__", "__doc__"):
            if hasattr(fn, attribute):
                setattr(self, attribute, getattr(fn, attribute))
        self.__wrapped__ = fn
        mark: Any = getattr(inspect, "markcoroutinefunction", None)  # since Python 3.12
        if self.is_async and not self.generates and mark is not None:
            mark(self)

    @staticmethod
    def _default_name(fn: Callable[..., Any]) -> str:
        return getattr(fn, "__name__", type(fn).__name__)

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given options, each through its check; those that no built-in knows are kept for the log's plugins."""
        known = {**ENGINE[self.kind], **builtin_options(self.kind)}
        checked: dict[str, Any] = {}
        for name, value in given.items():
            option = known.get(name)
            if option is None:
                import difflib

                near = difflib.get_close_matches(name, known, 1, 0.75) or [k for k in known if k.startswith(name)]
                other = "task" if self.kind == "flow" else "flow"
                if name in ENGINE[other] or name in builtin_options(other):
                    twin = name.replace(other, self.kind)  # flow_run_name, task_run_name
                    near = [twin] if twin in known else near or difflib.get_close_matches(name, known, 1, 0.0)
                    raise TypeError(
                        f"@{self.kind} has no option {name!r}, which belongs to @{other}. Did you mean {near[0]!r}?"
                    )
                if near:
                    raise TypeError(f"@{self.kind} has no option {name!r}. Did you mean {near[0]!r}?")
                checked[name] = value
            elif name == "tags":
                checked[name] = self._tags(value)
            else:
                checked[name] = value if option.check is None else option.check(value)
        name = checked.get("name")
        if name is not None and (not name or _FORBIDDEN.intersection(name)):
            wrong = "contains an invalid character. Must not contain any of: / % & > <" if name else "is empty"
            raise InvalidNameError(f"Name {name!r} {wrong}. Choose another name.")
        for name, option in known.items():
            if option.setting and name not in checked:
                value = getattr(get_current_settings(), option.setting)
                if value not in (None, option.default, SETTINGS[option.setting].default()):
                    checked[name] = value if option.check is None else option.check(value)
        for name, option in known.items():
            if option.complete is not None:
                value = option.complete(checked.get(name, option.default), checked)
                if name in checked or value != option.default:
                    checked[name] = value
        if checked.get("on_interrupt") == "fail" and checked.get("durability") in ("result", "lazy"):
            raise ValueError(
                "on_interrupt='fail' (at most once) needs durability='effect': at the other levels a call may run again unmarked."
            )
        return checked

    def _tags(self, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise TypeError(f"tags is a list of strings, not {value!r}.")
        tags: list[Any] = list(value)  # type: ignore[reportUnknownArgumentType]
        for tag in tags:
            if not isinstance(tag, str):
                raise TypeError(f"A tag is a string, not {tag!r}.")
        return tuple(sorted(set(tags)))

    def define(self, plugin_options: Mapping[str, Option], *, lenient: bool = False) -> Definition:
        """
        The definition under the plugins of one log.

        Args:
            plugin_options: What the plugins declare.
            lenient: Leave out the options that nobody declares.

        Raises:
            TypeError: An option was given that nobody declares.
        """
        known = {**ENGINE[self.kind], **plugin_options}
        builtin = builtin_options(self.kind)
        options = {name: option.default for name, option in known.items()}
        for name, value in self.given.items():
            option = known.get(name)
            if option is None and (lenient or name in builtin):
                continue  # its plugin is switched off: the option is without effect
            if option is None:
                raise TypeError(
                    f"{self.kind.capitalize()} {self.name!r} was given the option {name!r}, which neither the engine nor a plugin"
                    f" of this log declares. Known: {', '.join(sorted(known))}."
                )
            checked = name in ENGINE[self.kind] or name in builtin
            options[name] = value if checked or option.check is None else option.check(value)
        for name, option in plugin_options.items():
            if option.complete is not None and name not in builtin:
                options[name] = option.complete(options[name], options)
        return Definition(
            self.kind,
            self.name,
            fn=self.fn,
            key=self.key,
            options=options,
            tags=tuple(sorted({*self.tags})),
            version=self.version,
            owner=self,
        )

    @property
    def code(self) -> bytes:
        """A digest of the function's code: 16 bytes, the same for the same code under one version of Python."""
        if self._code is None:
            found = getattr(self.fn, "__code__", None)
            self._code = _code_digest(found) if isinstance(found, CodeType) else b""
        return self._code

    @property
    def entry(self) -> str:
        """Where a resuming process finds the function: ``module:qualname``, or ``file.py:qualname`` for a script."""
        module, qualname = str(getattr(self.fn, "__module__", "")), getattr(self.fn, "__qualname__", "")
        if module == "__main__" or module.startswith(SCRIPT):
            file = getattr(sys.modules.get(module), "__file__", None)
            if file:
                import os

                return f"{os.path.abspath(file)}:{qualname}"  # noqa: PTH100 - pathlib is not loaded for this
        return f"{module}:{qualname}"

    def __getattr__(self, name: str) -> Any:
        """An option, given or by default: ``my_task.retries``, ``my_flow.timeout_seconds``."""
        given: dict[str, Any] = self.__dict__.get("given", {})
        if name == "version":  # none was given; a flow reads its file for it, not before somebody asks
            return self._default_version()
        if name in given:
            return given[name]
        if not name.startswith("_"):
            for known in (ENGINE[self.kind], builtin_options(self.kind)):
                if name in known:
                    return known[name].default
        raise AttributeError(f"{self.kind.capitalize()} {self.__dict__.get('name', '')!r} has no attribute {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        """Setting an option counts from the next call on: ``my_flow.timeout_seconds = 5``."""
        given: dict[str, Any] | None = self.__dict__.get("given")
        option = None if given is None else {**ENGINE[self.kind], **builtin_options(self.kind)}.get(name)
        if given is None or option is None or name in _OWN:
            object.__setattr__(self, name, value)
        else:
            given[name] = value if option.check is None else option.check(value)
        if "known" in self.__dict__:
            self.known.clear()

    # --- callbacks, added after the fact

    def _add_callback(self, option: str, fn: Any) -> Any:
        if not callable(fn):
            raise TypeError(f"{option} is called with ({self.kind}, run, state); {fn!r} is not callable.")
        self.given[option] = (*(self.given.get(option) or ()), fn)
        self.known.clear()
        return fn

    def on_running(self, fn: T) -> T:
        """Have this called, with (flow or task, run, state), each time the body is begun. A decorator."""
        return self._add_callback("on_running", fn)

    def on_completion(self, fn: T) -> T:
        """Have this called, with (flow or task, run, state), when a run completes. A decorator."""
        return self._add_callback("on_completion", fn)

    def on_failure(self, fn: T) -> T:
        """Have this called, with (flow or task, run, state), when a run fails for good. A decorator."""
        return self._add_callback("on_failure", fn)

    def _callbacks(self, option: str) -> list[Callable[..., Any]]:
        return list(self.given.get(option) or ())

    @property
    def on_running_hooks(self) -> list[Callable[..., Any]]:
        """The callbacks of ``on_running``."""
        return self._callbacks("on_running")

    @property
    def on_completion_hooks(self) -> list[Callable[..., Any]]:
        """The callbacks of ``on_completion``."""
        return self._callbacks("on_completion")

    @property
    def on_failure_hooks(self) -> list[Callable[..., Any]]:
        """The callbacks of ``on_failure``."""
        return self._callbacks("on_failure")

    @property
    def isasync(self) -> bool:
        """Whether the function is async, a generator or not."""
        return self.is_async

    @property
    def isgenerator(self) -> bool:
        """Whether the function yields."""
        return self.generates

    def _default_version(self) -> str | None:
        """What stands for a version where none is given."""
        return None

    def __reduce__(self) -> Any:
        """By reference where others can import it, so that a worker finds its own; else rebuilt from its function."""
        module, qualname = getattr(self, "__module__", ""), getattr(self, "__qualname__", "")
        if module and module != "__main__" and "<" not in qualname:
            found: Any = sys.modules.get(module)
            for part in qualname.split("."):
                found = getattr(found, part, None)
            if found is self or getattr(found, "__wrapped__", None) is self:
                return qualname
        return _rebuilt, (type(self), self.fn, self.binds, self.given)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def bound_to(self, obj: Any, owner: type | None) -> Any:
        """As a method: a bound one, unless it is static or taken from its class."""
        if self.binds == "nothing" or (obj is None and self.binds == "object"):
            return self
        return Bound(self, (owner or type(obj)) if self.binds == "class" else obj)

    def _with(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a copy: whatever is passed counts, also 0, None and the empty string."""
        return {**self.given, **options}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _rebuilt(kind: type[Any], fn: Any, binds: str, given: dict[str, Any]) -> Any:
    wrap: Any = {"class": classmethod, "nothing": staticmethod}.get(binds, lambda same: same)  # type: ignore[reportUnknownLambdaType]
    return kind(wrap(fn), **given)


class Bound:
    """A flow or task taken from an object: its calls have that object as their first argument."""

    __slots__ = ("__self__", "authored")

    def __init__(self, authored: Any, obj: Any) -> None:
        self.authored: Any = authored
        self.__self__: Any = obj

    # A Flow or Task to whoever asks by `isinstance`: programs tell plain functions from flows by it.
    __class__: Any = property(lambda self: type(cast("Bound", self).authored))  # type: ignore[reportIncompatibleMethodOverride]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.authored(self.__self__, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """As the task's own."""
        return self.authored.submit(self.__self__, *args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """As the task's own; the object is the same for every call."""
        return self.authored.map(unmapped(self.__self__), *args, **kwargs)

    def with_options(self, **options: Any) -> Bound:
        """A copy with other options, of the same object."""
        return Bound(self.authored.with_options(**options), self.__self__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.authored, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and other.authored is self.authored and other.__self__ is self.__self__

    def __hash__(self) -> int:
        return hash((id(self.authored), id(self.__self__)))

    def __reduce__(self) -> Any:
        return Bound, (self.authored, self.__self__)

    def __repr__(self) -> str:
        return f"<bound {self.authored!r} of {self.__self__!r}>"


def _code_digest(code: CodeType) -> bytes:
    state = sha256()

    def feed(part: CodeType) -> None:
        state.update(part.co_code)
        state.update(repr((part.co_names, part.co_varnames, part.co_freevars, part.co_argcount)).encode())
        for constant in part.co_consts:
            if isinstance(constant, CodeType):
                feed(constant)
            elif isinstance(constant, frozenset):
                state.update(repr(sorted(map(repr, constant))).encode())  # type: ignore[reportUnknownArgumentType]
            else:
                state.update(repr(constant).encode())

    feed(code)
    return state.digest()[:16]

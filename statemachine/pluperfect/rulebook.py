"""
Rules to be looked at, rather than obeyed: found by name, and asked outside of any run.

What a log is opened with has its rules in it. Here a rule comes alone, so that it can be tried before anybody obeys it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from .errors import UnknownRule
from .hooks import Definition, Option
from .manager import Attending, Hooks
from .marks import BUILTIN, hookimpl
from .sites import innermost

__all__ = ["Rules", "alone", "code_of", "find_rule", "name_of", "plugin_of"]


def plugin_of(rule: Any) -> Any:
    """
    The plugin that a rule is: an object or module with ``review``; a function with the arguments of ``review`` is made one.

    Raises:
        UnknownRule: It is no rule.
    """
    if isinstance(rule, FunctionType):
        # A copy, since the mark is put on the function itself; no wrapper, since it is asked very often.
        review = FunctionType(rule.__code__, rule.__globals__, rule.__name__, rule.__defaults__, rule.__closure__)
        review.__kwdefaults__ = rule.__kwdefaults__
        return SimpleNamespace(name=_words(rule.__name__), review=hookimpl(specname="review")(review))
    if isinstance(rule, MethodType):

        @wraps(rule)
        def asked(*given: Any, **named: Any) -> Any:
            return rule(*given, **named)

        return SimpleNamespace(name=_words(rule.__name__), review=hookimpl(specname="review")(asked))
    if isinstance(rule, type):
        try:
            rule = rule()
        except TypeError as error:
            raise UnknownRule(
                f"{rule.__qualname__} cannot be made without arguments ({error}). Give an instance of it."
            ) from error
    if not _judges(rule):
        raise UnknownRule(f"{rule!r} is no rule: it has no function `review` that is marked with @pluperfect.hookimpl.")
    return rule


def _words(name: str) -> str:
    return name.strip("<>_").replace("_", "-")


def _judges(plugin: Any) -> bool:
    return any(
        getattr(getattr(plugin, name, None), "pluperfect_impl", None) is not None
        for name in dir(plugin)
        if name == "review" or not name.startswith("_")
    )


def alone(*rules: Any) -> Hooks:
    """
    These rules and no others, the first asked first.

    Raises:
        PluginError: One does not fit the contract of a hook.
        UnknownRule: One is no rule.
    """
    hooks = Hooks([plugin_of(rule) for rule in reversed(rules)], disabled=BUILTIN, entry_points=False)
    for rule, info in zip(reversed(rules), hooks.plugins, strict=True):
        if "review" not in info.hooks:
            raise UnknownRule(f"{rule!r} is no rule: it implements {', '.join(info.hooks)}, and no `review`.")
    return hooks


def name_of(hooks: Hooks) -> str:
    """The name under which the one rule of `alone` stands in records."""
    return hooks.plugins[0].name


class Rules:
    """
    Rules in the order in which they are asked: those of a log, and one before them, in the place of its namesake.

    Args:
        first: The plugin of one rule, as `alone` gives it.
        others: The plugins of a log, or of none.
    """

    def __init__(self, first: Hooks | None, others: Hooks | None) -> None:
        self._first, self._others = first, others
        self._own: frozenset[str] = frozenset() if first is None else frozenset(info.name for info in first.plugins)
        self._known: dict[int, tuple[Definition | None, Attending]] = {}
        self.names: tuple[str, ...] = tuple(impl.plugin for impl in self.speaking(None).reviewers)

    def speaking(self, definition: Definition | None) -> Attending:
        """Who speaks to this definition; None: to a history without its code."""
        known = self._known.get(id(definition))
        if known is None or known[0] is not definition:
            mine = () if self._first is None else self._first.awake(definition).reviewers
            rest = () if self._others is None else self._others.awake(definition).reviewers
            asked = (*mine, *(impl for impl in rest if impl.plugin not in self._own))
            known = self._known[id(definition)] = (definition, Attending(asked, (), (), None))
        return known[1]

    def options(self, kind: str) -> dict[str, Option]:
        """The options that these plugins add to ``kind``."""
        found: dict[str, Option] = {}
        for hooks in (self._others, self._first):
            found.update({} if hooks is None else hooks.options(kind))
        return found


# --- by name --------------------------------------------------------------------------------------------


def find_rule(where: str) -> Any:
    """
    The rule that ``module:Name`` or ``file.py:Name`` names; without a name, the module itself, or the one rule in it.

    The current folder is looked into first, as ``python -m`` does.

    Raises:
        UnknownRule: There is no such module or file, it cannot be imported, or it has no such rule.
    """
    module_name, _, name = where.partition(":")
    module = _module(module_name)
    if not name:
        if _is_plugin_module(module):
            return module
        found = list(_rules_in(module))
        if len(found) == 1:
            return plugin_of(getattr(module, found[0]))
        what = f"has {len(found)} rules: say which, {module_name}:{found[0]}" if found else "has no rule"
        raise UnknownRule(f"{module_name} {what}.")
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
        if value is None:
            there = list(_rules_in(module))
            near = difflib.get_close_matches(name, there, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UnknownRule(f"{module_name} has no rule {name!r}.{hint} Rules in it: {', '.join(there) or 'none'}.")
    return plugin_of(value)


def _rules_in(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        judges = getattr(getattr(value, "review", None), "pluperfect_impl", None) is not None
        if judges and not name.startswith("_") and not isinstance(value, ModuleType):
            yield name


def _is_plugin_module(module: ModuleType) -> bool:
    return any(getattr(value, "pluperfect_impl", None) is not None for value in vars(module).values())


def _module(name: str) -> ModuleType:
    file = name if name.endswith(".py") or os.sep in name else ""
    try:
        with _here():
            if file:
                return _from_file(file)
            return importlib.import_module(name)
    except UnknownRule:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UnknownRule(
                f"There is no module {name!r}, neither in {os.getcwd()} nor among what is installed."  # noqa: PTH109
                " Name a rule as module:Name or file.py:Name."
            ) from error
        raise UnknownRule(f"{name} cannot be imported: it needs {error.name!r}, which is not installed.") from error
    except Exception as error:
        line = _line_of(error)
        raise UnknownRule(f"{name} cannot be imported: {type(error).__name__}: {error}{line}.") from error


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    last = innermost(error)
    return "" if last is None else f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})"


def _from_file(file: str) -> ModuleType:
    path = os.path.abspath(file)  # noqa: PTH100
    if not os.path.isfile(path):  # noqa: PTH113
        raise UnknownRule(f"There is no file {path}. Name a rule as module:Name or file.py:Name.")
    name = os.path.basename(path).removesuffix(".py")  # noqa: PTH119
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _here() -> Iterator[None]:
    here = os.getcwd()  # noqa: PTH109
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


# --- its code -------------------------------------------------------------------------------------------


def code_of(calls: Iterable[Callable[..., Any]]) -> Iterator[FunctionType]:
    """The functions behind these callables: methods and adapted functions unfolded."""
    for call in calls:
        unfolded: Any = call
        while True:
            if isinstance(unfolded, MethodType):
                unfolded = unfolded.__func__
            elif hasattr(unfolded, "__wrapped__"):
                unfolded = unfolded.__wrapped__
            else:
                break
        if isinstance(unfolded, FunctionType):
            yield unfolded

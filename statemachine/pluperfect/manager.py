"""
The plugins of one opened log: registering them, and asking those that have something to say.

It knows the hooks and nothing of the engine. A fresh one is made for each log; there is no global one.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib.machinery import PathFinder
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import pluggy
from msgspec import Struct
from msgspec.structs import replace

from .errors import PluginError, PluperfectError, RuleError, RunnerUnavailable, UnknownStore, UnpackableValue
from .hooks import HOOKS, Definition, Log, Option, Runner, Specs, Unpacked
from .marks import BUILTIN
from .rules import Proposal, Verdict
from .settings import current
from .sites import raise_site, shown_site
from .states import Packed, State
from .transitions import Run, Transition

__all__ = ["Attending", "Hooks", "PluginInfo", "builtin_options", "grumble"]

_log: Final = logging.getLogger("pluperfect.plugins")

_HOOKABLE: Final = (FunctionType, MethodType, staticmethod, classmethod)
_MARK: Final = "pluperfect_impl"
"""What `hookimpl` leaves on a function."""

_UNWRAPPED: Final = frozenset({"review", "during", "recorded", "options"})
"""The hooks whose answers need an author, so that no plugin may wrap them."""


@cache
def builtin_options(kind: str) -> Mapping[str, Option]:
    """The options that the built-in plugins add to ``kind``: known without opening a log, where a decorator checks them."""
    declared: dict[str, Option] = {}
    for module in BUILTIN.values():
        if module.startswith("pluperfect_plugins."):
            options = getattr(importlib.import_module(module), "options", None)
            declared.update((option.name, option) for option in (options(kind) if options else None) or ())
    return declared


class PluginInfo(Struct, frozen=True):
    """One plugin: its name, version, where it came from, and the hooks that it implements."""

    name: str
    version: str
    origin: str
    hooks: tuple[str, ...]


class _Impl(Struct, frozen=True):
    plugin: str
    call: Callable[..., Any]


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        # pluggy asks `inspect` about each name, and a module has dozens: most of the time that opening a log in memory takes.
        if isinstance(plugin, ModuleType):
            found = vars(plugin).get(name)
            if not isinstance(found, _HOOKABLE) or (isinstance(found, FunctionType) and _MARK not in vars(found)):
                return None
        return super().parse_hookimpl_opts(plugin, name)


class Hooks:
    """
    The plugins of one opened log, and who of them speaks to what.

    Args:
        plugins: Modules or objects, asked before the built-ins, the last first.
        disabled: Names of plugins to leave out, built-in or not.
        entry_points: Whether to load the plugins that installed distributions announce in the group
            ``pluperfect``. The setting ``DISABLE_PLUGINS`` turns this off (``PLUPERFECT_DISABLE_PLUGINS=1`` in the environment).

    Raises:
        PluginError: A plugin does not fit the contract: an unknown hook or argument, a name taken twice.
    """

    def __init__(self, plugins: Iterable[Any] = (), *, disabled: Iterable[str] = (), entry_points: bool = True) -> None:
        self._manager = _Manager("pluperfect")
        self._manager.add_hookspecs(Specs)
        self._infos: list[PluginInfo] = []
        unknown = set(disabled)
        off = frozenset(unknown)
        for name, module in BUILTIN.items():
            unknown.discard(name)
            if name not in off:
                self._register(importlib.import_module(module), name, _own_version(), "built in")
        if entry_points and not current().disable_plugins:
            for name, version, plugin in _announced(off):
                unknown.discard(name)
                if plugin is not None:
                    self._register(plugin, name, version, "entry point")
        for plugin in plugins:
            name = _name_of(plugin)
            unknown.discard(name)
            if name not in off:
                self._register(plugin, name, str(getattr(plugin, "__version__", "")), "given")
        if unknown:
            known = ", ".join([*BUILTIN, *(i.name for i in self._infos if i.name not in BUILTIN)])
            raise PluginError(
                f"No plugin is called {', '.join(sorted(unknown))}, so it cannot be switched off. Known: {known}."
            )
        impls = {hook: self._impls(hook) for hook in HOOKS}
        self._reviewers, self._during, self._recorders = impls["review"], impls["during"], impls["recorded"]
        self._options: dict[str, dict[str, Option]] = {}
        self._wakers: dict[str, dict[str, tuple[Option, ...]]] = {}
        for kind in ("flow", "task"):
            self._collect(kind, impls["options"])
        self._pack, self._unpack = self._first("pack"), self._first("unpack")
        self._coerce = self._first("coerce_parameter")

    # --- registering

    def _register(self, plugin: Any, name: str, version: str, origin: str) -> None:
        if isinstance(plugin, type):
            raise PluginError(f"Plugin {name!r} is a class; give an instance of it: plugins=[{plugin.__name__}()].")
        if any(info.name == name for info in self._infos):
            first = next(info.origin for info in self._infos if info.name == name)
            raise PluginError(
                f"Two plugins are called {name!r}: one is {first}, one is {origin}. Give one of them another `name`, or leave"
                " one out: entry_points=False, or no plugins=[...] of what is installed."
            )
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"Plugin {name!r} does not fit: {_explain(plugin, error)}") from error
        hooks = tuple(hook for hook in HOOKS if self._has(plugin, hook))
        for hook in _UNWRAPPED.intersection(hooks):
            for impl in getattr(self._manager.hook, hook).get_hookimpls():
                if impl.plugin is plugin and (impl.wrapper or impl.hookwrapper):
                    raise PluginError(
                        f"Plugin {name!r} wraps {hook!r}. That hook takes no wrappers: its answers need an author."
                    )
        if not hooks:
            raise PluginError(
                f"Plugin {name!r} implements no hook. Mark its functions with @pluperfect.hookimpl; there are: {', '.join(HOOKS)}."
            )
        self._infos.append(PluginInfo(name, version, origin, hooks))

    def _has(self, plugin: Any, hook: str) -> bool:
        return any(impl.plugin is plugin for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def _impls(self, hook: str) -> tuple[_Impl, ...]:
        """The implementations of a hook, first asked first, each taking all arguments of the hook."""
        caller = getattr(self._manager.hook, hook)
        arguments = tuple(caller.spec.argnames)
        return tuple(
            _Impl(impl.plugin_name, _adapted(impl.function, arguments, tuple(impl.argnames)))
            for impl in reversed(caller.get_hookimpls())
        )

    def _first(self, hook: str, speaks: Callable[[_Impl], bool] | None = None) -> Callable[..., Any] | None:
        """One callable that gives the first answer of a hook, or None where nobody implements it, of those that speak."""
        calls = [impl.call for impl in self._impls(hook) if speaks is None or speaks(impl)]
        if not calls:
            return None
        caller = getattr(self._manager.hook, hook)
        if any(impl.wrapper or impl.hookwrapper for impl in caller.get_hookimpls()):
            arguments = tuple(caller.spec.argnames)
            return lambda *given: caller(**dict(zip(arguments, given, strict=True)))
        if len(calls) == 1:
            return calls[0]

        def first(*given: Any) -> Any:
            for call in calls:
                answer = call(*given)
                if answer is not None:
                    return answer
            return None

        return first

    def _collect(self, kind: str, impls: Sequence[_Impl]) -> None:
        options: dict[str, Option] = {}
        owners: dict[str, str] = {}
        wakers: dict[str, tuple[Option, ...]] = {}
        for impl in reversed(impls):
            declared: Any = _blamed(impl.plugin, "options", impl.call, kind)
            if declared is None:
                continue
            if not isinstance(declared, Sequence) or not all(isinstance(o, Option) for o in declared):  # type: ignore[reportUnknownVariableType]
                raise PluginError(
                    f"Plugin {impl.plugin!r}: options({kind!r}) must return a list of Option, not {declared!r}."
                )
            given: Sequence[Option] = declared  # type: ignore[reportUnknownVariableType]
            for option in given:
                if option.name in owners:
                    raise PluginError(
                        f"Plugins {owners[option.name]!r} and {impl.plugin!r} both add the {kind} option {option.name!r}."
                        " Rename one, or switch one of the plugins off."
                    )
                owners[option.name] = impl.plugin
                options[option.name] = option
            waking = tuple(option for option in given if option.wakes)
            if waking:
                wakers[impl.plugin] = waking
        self._options[kind], self._wakers[kind] = options, wakers

    # --- asking

    @property
    def plugins(self) -> Sequence[PluginInfo]:
        """The registered plugins, the first asked last."""
        return tuple(self._infos)

    def options(self, kind: str) -> Mapping[str, Option]:
        """The options that plugins add to ``kind``, by name."""
        return self._options[kind]

    def awake(self, definition: Definition | None) -> Attending:
        """Who speaks to this definition (None: to a history without its code). Compute it once for each."""
        if definition is None:
            return Attending(self._reviewers, (), (), None)
        options, of_kind = definition.options, self._wakers[definition.kind]

        def speaking(hook: str) -> Callable[[_Impl], bool]:
            sleepers = {
                plugin
                for wakers in self._wakers.values()
                for plugin, waking in wakers.items()
                if any(_wakes(option, hook) for option in waking)
            }

            def speaks(impl: _Impl) -> bool:
                return impl.plugin not in sleepers or any(
                    _wakes(option, hook) and _is_set(options, option) for option in of_kind.get(impl.plugin, ())
                )

            return speaks

        return Attending(
            tuple(filter(speaking("review"), self._reviewers)),
            tuple(filter(speaking("during"), self._during)),
            tuple(filter(speaking("recorded"), self._recorders)),
            self._first("cache_key", speaking("cache_key")) if definition.kind == "task" else None,
        )

    def pack(self, value: Any) -> Packed:
        """
        Encode a value.

        Raises:
            UnpackableValue: No plugin can.
        """
        pack = self._pack
        packed = None if pack is None else pack(value)
        if packed is None:
            raise UnpackableValue(
                f"no plugin packs a {type(value).__qualname__} (is the plugin 'results' switched off?)"
            )
        if type(packed) is not Packed:
            raise PluginError(f"A plugin's pack() returned {packed!r}; it must return a Packed value or None.")
        return packed

    def unpack(self, packed: Packed) -> Any:
        """Decode a packed value. The errors of its codec pass through."""
        found = None if self._unpack is None else self._unpack(packed)
        if found is None:
            raise PluginError(
                f"No plugin unpacks codec {packed.code}: install or switch on the one that packed this value."
            )
        if not isinstance(found, Unpacked):
            raise PluginError(f"A plugin's unpack() returned {found!r}; it must return Unpacked(value) or None.")
        return found.value

    def converter(self, annotation: Any) -> Callable[[Any], Any] | None:
        """
        How values of parameters with this annotation are converted, where a plugin has a say in it.

        Raises:
            PluginError: The answer cannot be called.
        """
        found = None if self._coerce is None else self._coerce(annotation)
        if found is not None and not callable(found):
            raise PluginError(
                f"A plugin's coerce_parameter() returned {found!r}; it must return a callable that takes a value, or None."
            )
        return found

    def open_log(self, uri: str) -> Log:
        """
        Open a store.

        Raises:
            UnknownStore: No plugin knows the address.
        """
        opened = self._manager.hook.open_log(uri=uri)
        if opened is None:
            raise UnknownStore(
                f"No plugin opens {uri!r}. Addresses look like lmdb:PATH or memory: (see `pluperfect plugins`)."
            )
        return opened

    def make_runner(self, name: str) -> Runner:
        """Make a runner by name."""
        runner = self._manager.hook.make_runner(name=name)
        if runner is None:
            # Not a fault of a plugin: the program named it, and its flow fails.
            raise RunnerUnavailable(
                f"No plugin makes a task runner called {name!r}. Built in: 'threads', 'asyncio', 'processes', 'dask'."
            )
        return runner

    def commands(self, cli: Any) -> None:
        """Let every plugin add its commands."""
        for impl in reversed(self._impls("commands")):
            _blamed(impl.plugin, "commands", impl.call, cli)


def _at(error: Exception) -> str:
    """Where an exception was raised, in words."""
    site = raise_site(error)
    return f" ({shown_site(site)})" if site else ""


class Attending(Struct, frozen=True):
    """The implementations that speak to one definition."""

    reviewers: tuple[_Impl, ...]
    entering: tuple[_Impl, ...]
    recorders: tuple[_Impl, ...]
    cache_key: Callable[..., Any] | None

    def review(self, run: Run, proposal: Proposal, definition: Definition | None) -> tuple[Verdict | None, str]:
        """
        Ask the rules; the first verdict wins.

        Returns:
            The verdict and the name of the plugin that gave it, or None and an empty name.

        Raises:
            RuleError: A rule raised, or answered with something that is no Verdict.
        """
        for impl in self.reviewers:
            call = impl.call  # read first, and then called: as a method it would be looked for
            try:
                verdict = call(run, proposal, definition)
            except PluperfectError:
                raise
            except Exception as error:
                raise RuleError(
                    f"Rule {impl.plugin!r} raised {type(error).__name__}: {error}{_at(error)}, asked about {proposal.to.kind} for"
                    f" run {run.id.hex()}. Nothing was recorded. Mend the rule, or switch it off: disabled=[{impl.plugin!r}]."
                ) from error
            if verdict is None:
                continue
            if not isinstance(verdict, Verdict):
                raise RuleError(
                    f"Rule {impl.plugin!r} answered {verdict!r}, asked about {proposal.to.kind} for run {run.id.hex()};"
                    " a rule returns a Verdict or None. Nothing was recorded."
                )
            if verdict.last and verdict.ask is not None:
                rest = Attending(self.reviewers[self.reviewers.index(impl) + 1 :], (), (), None)
                later, by = rest.review(run, proposal, definition)
                if later is not None and later.to is None:
                    return later, by
                if later is not None and verdict.about is None:
                    verdict = replace(verdict, about=_told(proposal.to, later.to))
            return verdict, impl.plugin
        return None, ""

    def contexts(self, run: Run, definition: Definition) -> list[AbstractContextManager[Any]]:
        """The context managers to enter around the call, outermost first."""
        entered: list[AbstractContextManager[Any]] = []
        for impl in self.entering:
            try:
                manager: AbstractContextManager[Any] | None = impl.call(run, definition)
            except PluperfectError:
                raise
            except Exception as error:
                raise _blame(impl.plugin, "during", error) from error
            if manager is not None:
                entered.append(manager)
        return entered

    def notify(self, run: Run, transition: Transition, definition: Definition) -> list[Any]:
        """Tell the recorders. Returns the awaitables that they gave, each to be awaited under `grumble`."""
        waiting: list[Any] = []
        for impl in self.recorders:
            try:
                answer = impl.call(run, transition, definition)
            except Exception:
                grumble(impl.plugin, transition)
            else:
                if hasattr(answer, "__await__"):
                    waiting.append(answer)
        return waiting


def _told(asked: State, instead: State | None) -> State | None:
    """The state that takes the place of a proposed one, with the live exception of that one."""
    if instead is not None and instead.live is None and asked.live is not None:
        instead.carry(asked.live)
    return instead


def grumble(plugin: str, transition: Transition) -> None:
    """Log the exception at hand: what a recorder does never alters a run."""
    state = transition.to.kind
    _log.exception(
        "plugin %r raised in recorded(), told of %s (seq %d); the run goes on", plugin, state, transition.seq
    )


def _wakes(option: Option, hook: str) -> bool:
    """Whether a plugin sleeps at this hook until this option is set."""
    return option.wakes is True or (option.wakes is not False and hook in option.wakes)


def _is_set(options: Mapping[str, Any], option: Option) -> bool:
    value = options.get(option.name, option.default)
    return value is not option.default and value != option.default


def _adapted(function: Callable[..., Any], arguments: tuple[str, ...], wanted: tuple[str, ...]) -> Callable[..., Any]:
    """The function, called with all arguments of its hook by position, whichever of them it names."""
    if wanted == arguments:
        return function
    if wanted == arguments[:2] and len(arguments) == 3:  # as most rules are written, which are asked often

        def of_two(first: Any, second: Any, _: Any) -> Any:
            return function(first, second)

        return of_two
    picks = [arguments.index(name) for name in wanted]
    return lambda *given: function(*[given[pick] for pick in picks])


def _blamed(plugin: str, hook: str, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except PluperfectError:
        raise
    except Exception as error:
        raise _blame(plugin, hook, error) from error


def _blame(plugin: str, hook: str, error: Exception) -> PluginError:
    return PluginError(f"Plugin {plugin!r} raised {type(error).__name__} in {hook}(): {error}")


def _explain(plugin: Any, error: Exception) -> str:
    """pluggy's complaint, with the nearest hook where a name is unknown."""
    for name in dir(plugin):
        if name not in HOOKS and getattr(getattr(plugin, name, None), _MARK, None) is not None:
            import difflib

            near = difflib.get_close_matches(name, HOOKS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return f"there is no hook {name!r}.{hint} There are: {', '.join(HOOKS)}."
    return str(error).replace("\n", " ")


def _name_of(plugin: Any) -> str:
    """A module's last name, an object's ``name``, or its class in words: NoFridays -> no-fridays."""
    given = getattr(plugin, "name", None)
    if isinstance(given, str) and given:
        return given
    if hasattr(plugin, "__file__"):
        return str(plugin.__name__).rpartition(".")[2]
    kind = plugin.__name__ if isinstance(plugin, type) else type(plugin).__name__
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(kind))


def _own_version() -> str:
    from . import __version__

    return __version__


def _nobody_announces() -> bool:
    """
    Whether no distribution announces a plugin, as far as a look at their files can tell; False where it cannot.

    The look takes a tenth of the time that the import of ``importlib.metadata`` takes, which most programs do without.
    """
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return False
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - pathlib is not loaded for this
        except FileNotFoundError:
            continue
        except OSError:  # an archive, which is looked into otherwise
            return False
        for name in names:
            if name.endswith(".egg"):
                return False
            if name.endswith((".dist-info", ".egg-info")):
                try:
                    with open(f"{folder or '.'}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123
                        if b"[pluperfect]" in file.read():
                            return False
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError:
                    return False
    return True


def _announced(off: frozenset[str]) -> Iterator[tuple[str, str, Any]]:
    """The plugins of installed distributions. A broken one is named in the log and left out."""
    if _nobody_announces():
        return
    from importlib.metadata import entry_points

    for point in entry_points(group="pluperfect"):
        version = point.dist.version if point.dist is not None else ""
        if point.name in off:
            yield point.name, version, None
            continue
        try:
            plugin = point.load()
            if isinstance(plugin, type):
                plugin = plugin()
        except Exception:
            _log.exception("plugin %r (%s) cannot be loaded and is left out", point.name, point.value)
        else:
            yield point.name, version, plugin

"""
What a user sets once for all programs: settings, where they come from, and profiles.

A setting is looked for in this order, and the first that has it wins: `temporary_settings`, the environment
(``PLUPERFECT_X``), ``pluperfect.toml`` in the working directory or the nearest parent, ``[tool.pluperfect]`` in
the nearest ``pyproject.toml``, the active profile in ``profiles.toml``, the user's ``settings.toml``, the
default. The last two files are in the config folder: ``PLUPERFECT_HOME`` where that is set, else the user's.

Every setting is importable by name: ``from pluperfect.settings import PLUPERFECT_TASKS_DEFAULT_RETRIES``.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct

from .errors import ConfigurationError

__all__ = [
    "BUILTIN_PROFILE",
    "NOT_PROFILE",
    "SETTINGS",
    "Layer",
    "Place",
    "Profile",
    "Profiles",
    "Secret",
    "Setting",
    "Settings",
    "Statement",
    "config_folder",
    "current",
    "describe",
    "get_current_settings",
    "layers",
    "leaves",
    "lookup",
    "profile_layer",
    "profiles",
    "read_toml",
    "refresh",
    "settings",
    "sources",
    "statements",
    "temporary_settings",
    "unknown",
]

T = TypeVar("T")

_log: Final = logging.getLogger("pluperfect.settings")

BUILTIN_PROFILE: Final = "default"
"""The profile that is always there and sets nothing."""

_LOOK_EVERY: Final = 1.0
"""For how many seconds files are taken to be as they were."""


class Secret(Generic[T]):
    """A value that is shown as ``********``: the type of a setting ``Secret[str]``."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def get_secret_value(self) -> T:
        """The value itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value  # type: ignore[reportUnknownMemberType]

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('********')"

    def __str__(self) -> str:
        return "********"


# --- what may be set ------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What a setting allows, in words; how a text that stands for it is read; which words stand for None."""

    allowed: str
    read: Callable[[str], Any]
    none: tuple[str, ...] = ()


class About(NamedTuple):
    """What a setting is for, and its other names after the prefix."""

    text: str
    aliases: tuple[str, ...] = ()


_NONE: Final = ("", "none", "null")
_YES: Final = frozenset({"true", "1", "yes", "y", "on", "t"})
_NO: Final = frozenset({"false", "0", "no", "n", "off", "f"})


def _switch(text: str) -> Any:
    word = text.lower()
    return True if word in _YES else False if word in _NO else text


def _listed(text: str) -> Any:
    """A JSON list where it looks like one; a text that is none is left for the check to refuse."""
    if not text.startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _names(text: str) -> Any:
    found = _listed(text)
    return [name for part in text.split(",") if (name := part.strip())] if found is text else found


_Number: TypeAlias = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0)]
Count: TypeAlias = Annotated[int, Meta(ge=0), Kind("a whole number, 0 or more", str)]
Seconds: TypeAlias = Annotated[
    _Number | list[_Number], Kind("seconds, 0 or more, or a list of them: 2.5 or [1, 10, 100]", _listed)
]
Switch: TypeAlias = Annotated[bool, Kind("true or false", _switch)]
MaybeSwitch: TypeAlias = Annotated[bool | None, Kind("true, false or none", _switch, _NONE)]
Workers: TypeAlias = Annotated[
    Annotated[int, Meta(ge=1)] | None, Kind("a whole number, 1 or more, or none", str, _NONE)
]
Text: TypeAlias = Annotated[str | None, Kind("a text; an empty one is none", str, ("",))]
Names: TypeAlias = Annotated[
    list[str] | None, Kind('names with commas between them, or a list: ["a", "b"]', _names, _NONE)
]
Level: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    Kind("DEBUG, INFO, WARNING, ERROR or CRITICAL", str.upper),
]
Console: TypeAlias = Annotated[Literal["auto", "always", "never"], Kind("auto, always or never", str.lower)]


class Settings(Struct, frozen=True, kw_only=True):
    """All settings, read and checked: what `get_current_settings` returns."""

    tasks_default_retries: Annotated[
        Count, About("how often a task is tried again that does not say so itself", ("TASK_DEFAULT_RETRIES",))
    ] = 0
    tasks_default_retry_delay_seconds: Annotated[
        Seconds, About("seconds before a task is tried again", ("TASK_DEFAULT_RETRY_DELAY_SECONDS",))
    ] = 0
    flows_default_retries: Annotated[
        Count, About("how often a flow is tried again that does not say so itself", ("FLOW_DEFAULT_RETRIES",))
    ] = 0
    flows_default_retry_delay_seconds: Annotated[
        Seconds, About("seconds before a flow is tried again", ("FLOW_DEFAULT_RETRY_DELAY_SECONDS",))
    ] = 0
    tasks_refresh_cache: Annotated[Switch, About("make every call anew and store its result")] = False
    tasks_disable_caching: Annotated[Switch, About("neither look results up nor store them under keys")] = False
    tasks_default_no_cache: Annotated[Switch, About("tasks that name no cache policy have none")] = False
    results_persist_by_default: Annotated[Switch, About("record results")] = True
    tasks_default_persist_result: Annotated[
        MaybeSwitch, About("record results of tasks; none: as RESULTS_PERSIST_BY_DEFAULT says")
    ] = None
    results_default_serializer: Annotated[Text, About("how results are encoded; none: as the plugins decide")] = None
    tasks_runner_thread_pool_max_workers: Annotated[
        Workers,
        About(
            "how many threads a flow's task runner has; none: the runner decides",
            ("TASK_RUNNER_THREAD_POOL_MAX_WORKERS",),
        ),
    ] = None
    tasks_runner_process_pool_max_workers: Annotated[
        Workers, About("how many processes a flow's task runner has; none: the runner decides")
    ] = None
    logging_level: Annotated[Level, About("the level from which lines are logged")] = "INFO"
    logging_log_prints: Annotated[Switch, About("prints go to the log of the run")] = False
    logging_extra_loggers: Annotated[Names, About("other loggers whose lines go to the log of the run")] = None
    logging_colors: Annotated[Switch, About("colours on the terminal")] = True
    logging_to_console: Annotated[Console, About("whether a console handler of our own may appear")] = "auto"
    store: Annotated[Text, About("the address of the default log; none: runs in HOME")] = None
    home: Annotated[str, Meta(min_length=1), Kind("a folder", str), About("the folder of the default log")] = ""
    profile: Annotated[str, Kind("the name of a profile", str), About("the active profile")] = BUILTIN_PROFILE
    disable_plugins: Annotated[Switch, About("leave out the plugins of installed distributions")] = False


class Setting:
    """
    One setting. Its name and its field in `Settings` are spelled ``PLUPERFECT_TASKS_DEFAULT_RETRIES`` and
    ``tasks_default_retries``.

    Attributes:
        name: The name with the prefix ``PLUPERFECT_``.
        field: The attribute of `Settings`.
        aliases: Other names, without a prefix.
        about: What it is for.
        allowed: The values that it takes, in words.
        secret: Whether its value is shown as ``********``.
    """

    def __init__(self, field: str, type: Any, default: Any) -> None:
        parts: tuple[Any, ...] = get_args(type)[1:] if get_origin(type) is Annotated else ()
        told = next((part for part in parts if isinstance(part, About)), About(""))
        kind = next((part for part in parts if isinstance(part, Kind)), Kind("a text", str))
        inner = get_args(type)[0] if get_origin(type) is Annotated else type
        self.field, self.name = field, f"PLUPERFECT_{field.upper()}"
        self.about, self.aliases, self.allowed = told.text, told.aliases, kind.allowed
        self.secret = get_origin(inner) is Secret
        self._type, self._kind, self._default = get_args(inner)[0] if self.secret else type, kind, default

    def default(self) -> Any:
        """The value where nobody sets it."""
        if self.field == "home":
            from platformdirs import user_data_dir

            return user_data_dir("pluperfect", appauthor=False)
        return self._default

    def value(self) -> Any:
        """The value that holds here and now."""
        return getattr(get_current_settings(), self.field)

    def read(self, raw: Any, place: Any) -> Any:
        """
        Read and check a value, a text among others.

        Raises:
            ConfigurationError: It is not allowed; the message names the setting, ``place`` and what is.
        """
        given: Any = raw._value if isinstance(raw, Secret) else raw  # type: ignore[reportUnknownMemberType]
        if isinstance(given, os.PathLike):
            given = os.fspath(cast("os.PathLike[str]", given))
        meant: Any = given  # type: ignore[reportUnknownVariableType]
        if isinstance(meant, str):
            meant = meant.strip()
            meant = None if meant.lower() in self._kind.none else self._kind.read(meant)
        try:
            value = msgspec.convert(meant, self._type, strict=False)
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            # The cause may quote the value.
            raise self._refusal(given, place) from (None if self.secret else error)
        if any(isinstance(part, float) and not math.isfinite(part) for part in _parts(value)):
            raise self._refusal(given, place)
        return Secret(value) if self.secret else value

    def _refusal(self, given: Any, place: Any) -> ConfigurationError:
        told = "********" if self.secret else repr(given)
        told = told if len(told) <= 60 else f"{told[:57]}..."
        return ConfigurationError(f"{self.name} is {told} in {place}. It must be {self.allowed}.")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _parts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else (value,)  # type: ignore[reportUnknownVariableType]


def describe(struct: type[Struct]) -> dict[str, Setting]:
    """The fields of a struct as settings, by field."""
    hints = get_type_hints(struct, include_extras=True)
    return {
        field.name: Setting(field.name, hints[field.name], field.default) for field in msgspec.structs.fields(struct)
    }


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(describe(Settings))
"""Every setting by its field."""

_BY_NAME: Final = {name: setting for setting in SETTINGS.values() for name in (setting.field.upper(), *setting.aliases)}


def lookup(name: str | Setting) -> Setting | None:
    """The setting with this name in any spelling, or None: with ``PLUPERFECT_``, ``PREFECT_`` or no prefix, or an alias."""
    if isinstance(name, Setting):
        return name
    return _BY_NAME.get(_bare(name))


NOT_PROFILE: Final = "PROFILE is read from the environment alone. `pluperfect profile use NAME` makes a profile active."


def _bare(name: str) -> str:
    return name.upper().replace(".", "_").replace("-", "_").removeprefix("PLUPERFECT_").removeprefix("PREFECT_")


def unknown(name: str) -> str:
    """What to say of a name that no setting has."""
    near = difflib.get_close_matches(_bare(name), _BY_NAME, 1)
    hint = (
        f" Did you mean {_respelled(near[0], name)}?"
        if near
        else " `pluperfect config view --show-defaults` lists all."
    )
    return f"There is no setting {name}.{hint}"


def _respelled(name: str, like: str) -> str:
    """A name in the prefix and the letters of another."""
    prefix = next((prefix for prefix in ("PLUPERFECT_", "PREFECT_") if like.upper().startswith(prefix)), "")
    return (prefix + name).lower() if like == like.lower() else prefix + name


def _needed(name: str | Setting) -> Setting:
    """The setting with this name, which a program may set."""
    setting = lookup(name)
    if setting is None:
        raise ConfigurationError(unknown(str(name)))
    if setting.field == "profile":
        raise ConfigurationError(NOT_PROFILE)
    return setting


# --- files ----------------------------------------------------------------------------------------------


class Place(Struct, frozen=True):
    """
    Where a value stands. Written as a text it has the line, which is looked for only then.

    Attributes:
        path: The file; empty for a place that is none.
        keys: The keys that lead to the value, from the top of the file.
        text: What is said of a place that is no file.
    """

    path: str = ""
    keys: tuple[str, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        if not self.path:
            return self.text
        line = ""
        try:
            with open(self.path, encoding="utf-8") as file:
                found = [
                    s.start + 1 for s in statements(file.read()) if self.keys in s.leaves or self.keys in s.branches
                ]
            line = f":{found[0]}" if found else ""
        except (OSError, ValueError):
            pass  # the file went away meanwhile: its name has to do
        return f"{self.path}{line}{self.text}"


class Statement(NamedTuple):
    """
    One statement of a TOML file, or the blank and comment lines between two.

    Attributes:
        start: Its first line, from 0.
        end: The line after its last.
        table: The keys of the table that it stands in; of a header, of the table that it begins.
        header: Whether it begins a table.
        leaves: What it sets: keys from the top of the file, and values.
        branches: The tables that it names.
    """

    start: int
    end: int
    table: tuple[str, ...] = ()
    header: bool = False
    leaves: Mapping[tuple[str, ...], Any] = MappingProxyType({})
    branches: tuple[tuple[str, ...], ...] = ()

    @property
    def says(self) -> bool:
        """Whether it is more than blanks or a comment."""
        return bool(self.header or self.leaves or self.branches)


def statements(text: str) -> Iterator[Statement]:
    """The statements of a TOML text that is known to be one, in order. Line by line, each is read by `tomllib`."""
    import tomllib

    table: tuple[str, ...] = ()
    lines = text.split("\n")
    begin = 0
    while begin < len(lines):
        first = lines[begin].strip()
        if not first or first.startswith("#"):
            yield Statement(begin, begin + 1, table)
            begin += 1
            continue
        end = begin + 1
        while True:
            try:
                read = tomllib.loads("\n".join(lines[begin:end]))
                break
            except tomllib.TOMLDecodeError:
                if end == len(lines):
                    raise
                end += 1
        if first.startswith("["):
            table = _only_path(read)
            yield Statement(begin, end, table, header=True, branches=(table,))
        else:
            branches: list[tuple[str, ...]] = []
            found = dict(leaves(read, table, branches))
            yield Statement(begin, end, table, leaves=found, branches=tuple(branches))
        begin = end


def _only_path(read: Any) -> tuple[str, ...]:
    keys: list[str] = []
    while isinstance(read, dict) and read:
        (key, read), *_ = read.items()  # type: ignore[reportUnknownVariableType]
        keys.append(str(key))  # type: ignore[reportUnknownArgumentType]
    return tuple(keys)


def leaves(
    table: Mapping[str, Any], above: tuple[str, ...] = (), branches: list[tuple[str, ...]] | None = None
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What a table and those in it set: keys, behind those given, and values. ``branches`` takes the keys of tables."""
    for key, value in table.items():
        if isinstance(value, dict):
            if branches is not None:
                branches.append((*above, key))
            yield from leaves(value, (*above, key), branches)  # type: ignore[reportUnknownArgumentType]
        else:
            yield (*above, key), value


def read_toml(path: str, word: str = "") -> dict[str, Any] | None:
    """
    Read a file. None: there is none, or ``word`` does not occur in it.

    Raises:
        ConfigurationError: It is no TOML, with the line; or it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}. Mend the file or its rights.") from error
    if word not in text:
        return None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", said)
        line = found[1] if found else str(text.rstrip("\n").count("\n") + 1)
        said = said[: found.start()] if found else said.removesuffix(" (at end of document)")
        raise ConfigurationError(f"{path}:{line} is no TOML: {said}. Mend that line.") from error


def config_folder() -> str:
    """The folder of ``settings.toml`` and ``profiles.toml``."""
    home = os.environ.get("PLUPERFECT_HOME")
    if home:
        return os.path.expanduser(home)
    from platformdirs import user_config_dir

    return user_config_dir("pluperfect", appauthor=False)


def _upwards(folder: str, name: str) -> str | None:
    """The file with this name in a folder or the nearest parent."""
    while True:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was removed under the program


class _Files(NamedTuple):
    project: str | None
    pyproject: str | None
    profiles: str
    user: str


def _files() -> _Files:
    here, config = _working_directory(), config_folder()
    return _Files(
        _upwards(here, "pluperfect.toml") if here else None,
        _upwards(here, "pyproject.toml") if here else None,
        os.path.join(config, "profiles.toml"),
        os.path.join(config, "settings.toml"),
    )


def _stamped(files: _Files) -> tuple[Any, ...]:
    stamps: list[Any] = []
    for path in files:
        try:
            stat = os.stat(path) if path else None
        except OSError:
            stat = None
        stamps.append((path, stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino)))
    return tuple(stamps)


# --- profiles -------------------------------------------------------------------------------------------


class Profile(Struct, frozen=True):
    """
    A named set of settings.

    Attributes:
        name: Its name.
        settings: What it sets, by names in any spelling.
    """

    name: str
    settings: dict[str, Any] = {}


class Profiles(Struct, frozen=True):
    """
    What ``profiles.toml`` holds.

    Attributes:
        path: The file, whether it is there or not.
        active: The profile that the file makes active, if any.
        by_name: The profiles, without the built-in one.
        strays: Keys that mean nothing at the top of such a file.
    """

    path: str
    active: str | None = None
    by_name: dict[str, Profile] = {}
    strays: tuple[tuple[str, ...], ...] = ()

    def current(self) -> tuple[str, Place | None]:
        """The name of the active profile and where it was chosen; None: nobody has."""
        chosen = os.environ.get("PLUPERFECT_PROFILE")
        if chosen:
            return chosen, _variable("PLUPERFECT_PROFILE")
        if self.active:
            return self.active, Place(self.path, ("active",))
        return BUILTIN_PROFILE, None

    def unknown(self, name: str) -> str:
        """What to say of a name that no profile has."""
        near = difflib.get_close_matches(name, [*self.by_name, BUILTIN_PROFILE], 1)
        hint = f" Did you mean {near[0]!r}?" if near else f" `pluperfect profile create {name}` makes it."
        return f"There is no profile {name!r} in {self.path}.{hint}"


def profiles() -> Profiles:
    """
    The profiles, read anew.

    Raises:
        ConfigurationError: ``profiles.toml`` is no such file.
    """
    return _profiles(os.path.join(config_folder(), "profiles.toml"))


def _profiles(path: str) -> Profiles:
    read = read_toml(path) or {}
    active, tables = read.get("active"), read.get("profiles", {})
    if active is not None and not isinstance(active, str):
        raise ConfigurationError(
            f"active is {active!r} in {Place(path, ('active',))}. It must be the name of a profile."
        )
    if not isinstance(tables, dict):
        raise ConfigurationError(
            f"profiles is {tables!r} in {Place(path, ('profiles',))}. It must be a table of tables."
        )
    found: dict[str, Profile] = {}
    for name, table in tables.items():  # type: ignore[reportUnknownVariableType]
        if not isinstance(table, dict):
            raise ConfigurationError(
                f"profiles.{name} is {table!r} in {Place(path, ('profiles', str(name)))}. It must be a table: [profiles.{name}]."  # type: ignore[reportUnknownArgumentType]
            )
        found[str(name)] = Profile(str(name), table)  # type: ignore[reportUnknownArgumentType]
    strays = tuple((key,) for key in read if key not in {"active", "profiles"})
    return Profiles(path, active or None, found, strays)


# --- sources --------------------------------------------------------------------------------------------


class Layer(Struct):
    """
    What one source sets.

    Attributes:
        kind: ``environment``, ``project``, ``pyproject``, ``profile`` or ``user``.
        found: Values as they stand there, and where, by field.
        strays: What is said of keys that name no setting, and where they stand.
        doubles: What is said of settings that are there in two spellings.
    """

    kind: str
    found: dict[str, tuple[Any, Place]] = msgspec.field(default_factory=dict[str, tuple[Any, Place]])
    strays: list[tuple[str, Place]] = msgspec.field(default_factory=list[tuple[str, Place]])
    doubles: list[tuple[str, Place]] = msgspec.field(default_factory=list[tuple[str, Place]])

    def add(self, spelling: str, raw: Any, place: Place) -> None:
        """Take a value under a name in any spelling; of two spellings the name itself wins, not its alias."""
        setting = lookup(spelling)
        if setting is None:
            self.strays.append((unknown(spelling), place))
            return
        if setting.field == "profile" and place.path:
            self.strays.append((NOT_PROFILE, place))
            return
        if setting.field in self.found:
            self.doubles.append((f"{setting.name} is set twice, also in {self.found[setting.field][1]}.", place))
            if _bare(spelling) in setting.aliases:
                return
        self.found[setting.field] = (raw, place)


def _variable(name: str) -> Place:
    return Place(text=f"the environment variable {name}")


def _from_environment() -> Layer:
    layer = Layer("environment")
    for name, text in os.environ.items():
        if name.startswith("PLUPERFECT_") and not name.startswith("PLUPERFECT__") and text:
            layer.add(name, text, _variable(name))
    return layer


def _from_table(kind: str, table: Any, path: str, above: tuple[str, ...] = (), note: str = "") -> Layer:
    layer = Layer(kind)
    if not isinstance(table, dict):
        raise ConfigurationError(f"{'.'.join(above)} is {table!r} in {Place(path, above)}. It must be a table.")
    for keys, raw in leaves(table):  # type: ignore[reportUnknownArgumentType]
        layer.add("_".join(keys), raw, Place(path, (*above, *keys), note))
    return layer


def profile_layer(all: Profiles, name: str) -> Layer:
    """What one profile sets."""
    return _from_table("profile", all.by_name[name].settings, all.path, ("profiles", name), f" (profile {name})")


def layers(problems: list[ConfigurationError] | None = None, files: _Files | None = None) -> list[Layer]:
    """
    All sources that are there, read anew, the first that wins first.

    Args:
        problems: Takes what is wrong with a file, which is then left out.
        files: The files, where they are known already.

    Raises:
        ConfigurationError: A file is no TOML or cannot be read, or the active profile is not there.
    """
    files = files or _files()

    def from_project() -> Layer | None:
        read = files.project and read_toml(files.project)
        return _from_table("project", read, files.project) if files.project and read else None

    def from_pyproject() -> Layer | None:
        read = files.pyproject and read_toml(files.pyproject, "pluperfect")
        tool: Any = read.get("tool", {}) if read else {}
        if not files.pyproject or not isinstance(tool, dict) or "pluperfect" not in tool:
            return None
        return _from_table("pyproject", tool["pluperfect"], files.pyproject, ("tool", "pluperfect"))

    def from_profile() -> Layer | None:
        all = _profiles(files.profiles)
        name, place = all.current()
        if name not in all.by_name and name != BUILTIN_PROFILE:
            raise ConfigurationError(f"{place} names the profile {name!r}. {all.unknown(name)}")
        layer = profile_layer(all, name) if name in all.by_name else Layer("profile")
        for keys in all.strays:
            layer.strays.append((f"{keys[0]} means nothing at the top of this file.", Place(all.path, keys)))
        if place and place.path:
            layer.found["profile"] = (name, place)
        return layer

    def from_user() -> Layer | None:
        read = read_toml(files.user)
        return _from_table("user", read, files.user) if read else None

    found: list[Layer] = []
    for source in (_from_environment, from_project, from_pyproject, from_profile, from_user):
        try:
            layer = source()
        except ConfigurationError as error:
            if problems is None:
                raise
            problems.append(error)
            continue
        if layer is not None:
            found.append(layer)
    return found


# --- what holds here and now ----------------------------------------------------------------------------


class _Kept(NamedTuple):
    """What was read last, and by what one sees that it still holds."""

    due: float
    environment: list[Any]
    here: str
    stamps: tuple[Any, ...]
    places: dict[str, Place]
    settings: Settings


class _Overrides:
    """What `temporary_settings` sets, inherited from the blocks around."""

    __slots__ = ("defaults", "made", "values")

    def __init__(self, values: dict[str, Any], defaults: dict[str, Any]) -> None:
        self.values, self.defaults = values, defaults
        self.made: tuple[Settings, Settings] | None = None

    def over(self, kept: _Kept) -> Settings:
        """The settings with these above and below them."""
        made = self.made
        if made is None or made[0] is not kept.settings:
            below = {field: value for field, value in self.defaults.items() if field not in kept.places}
            made = self.made = (kept.settings, msgspec.structs.replace(kept.settings, **{**below, **self.values}))
        return made[1]


_kept: _Kept | None = None
_overrides: ContextVar[_Overrides | None] = ContextVar("pluperfect_settings", default=None)
_warned: set[str] = set()

# A look at each variable through os.environ encodes its name anew: thirty of them cost ten times what the dict
# beneath does. Where there is no such dict, the slow way is taken.
_WATCHED: Final = [
    *(f"PLUPERFECT_{name}" for name in _BY_NAME),
    *("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
]
_beneath: Final[Any] = getattr(os.environ, "_data", os.environ)
_KEYS: Final[list[Any]] = _WATCHED if _beneath is os.environ else [*map(os.environ.encodekey, _WATCHED)]


def get_current_settings() -> Settings:
    """
    The settings that hold here and now.

    Costs a few microseconds while nothing has changed. A changed environment, working directory or
    `temporary_settings` is seen at once, a changed file within a second.

    Raises:
        ConfigurationError: A source holds a value that is not allowed, or is no TOML.
    """
    kept = _kept
    if (
        kept is None
        or time.monotonic() >= kept.due
        or [*map(_beneath.get, _KEYS)] != kept.environment
        or _working_directory() != kept.here
    ):
        kept = _look()
    overrides = _overrides.get()
    return kept.settings if overrides is None else overrides.over(kept)


current = get_current_settings


def _look() -> _Kept:
    """Look at the sources, and read them if one has changed. Two threads may do so at once: both read the same."""
    global _kept
    kept, due = _kept, time.monotonic() + _LOOK_EVERY
    environment, here, files = [*map(_beneath.get, _KEYS)], _working_directory(), _files()
    stamps = _stamped(files)
    if kept is not None and (kept.environment, kept.stamps) == (environment, stamps):
        _kept = kept = kept._replace(due=due, here=here)
        return kept
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for layer in layers(None, files):
        for field, (raw, place) in layer.found.items():
            if field not in places:
                values[field], places[field] = SETTINGS[field].read(raw, place), place
        for told, place in layer.strays:
            line = f"{told} It is in {place} and changes nothing."
            if line not in _warned:
                _warned.add(line)
                _log.warning("%s", line)
    if "home" not in values:
        values["home"] = SETTINGS["home"].default()
    _kept = kept = _Kept(due, environment, here, stamps, places, Settings(**values))
    return kept


def refresh() -> None:
    """Forget what was read: the next look reads all sources anew."""
    global _kept
    _kept = None


def sources() -> Mapping[str, tuple[Any, str]]:
    """Every setting by its name: the value that holds, and where it comes from (a variable, a file and line, ``default``)."""
    held, overrides = get_current_settings(), _overrides.get()
    places = {} if _kept is None else _kept.places
    found: dict[str, tuple[Any, str]] = {}
    for field, setting in SETTINGS.items():
        if overrides is not None and field in overrides.values:
            where = "temporary_settings"
        elif field in places:
            where = str(places[field])
        elif overrides is not None and field in overrides.defaults:
            where = "temporary_settings (set_defaults)"
        else:
            where = "default"
        found[setting.name] = (getattr(held, field), where)
    return found


@contextmanager
def temporary_settings(
    updates: Mapping[Any, Any] | None = None,
    set_defaults: Mapping[Any, Any] | None = None,
    restore_defaults: Iterable[Any] | None = None,
) -> Iterator[Settings]:
    """
    Settings for the block: above every other source, and for threads that are started with a copy of this context.

    Keys are settings, or names in any spelling. Blocks inherit from those around them.

    Args:
        updates: Values to hold.
        set_defaults: Values for those settings that no source sets.
        restore_defaults: Settings to hold their default, whatever a source says.

    Raises:
        ConfigurationError: There is no such setting, or the value is not allowed.
    """
    place = Place(text="temporary_settings")
    around = _overrides.get()
    values = dict(around.values) if around else {}
    defaults = dict(around.defaults) if around else {}
    for name in restore_defaults or ():
        setting = _needed(name)
        values[setting.field] = setting.default()
        defaults.pop(setting.field, None)
    for name, raw in (set_defaults or {}).items():
        setting = _needed(name)
        defaults[setting.field] = setting.read(raw, place)
    for name, raw in (updates or {}).items():
        setting = _needed(name)
        values[setting.field] = setting.read(raw, place)
    token = _overrides.set(_Overrides(values, defaults))
    try:
        yield get_current_settings()
    finally:
        _overrides.reset(token)


@contextmanager
def settings(**updates: Any) -> Iterator[Settings]:
    """
    The same for settings by their fields: ``tasks_default_retries=2``.

    Raises:
        ConfigurationError: There is no such setting, or the value is not allowed.
    """
    with temporary_settings(updates) as held:
        yield held


def __getattr__(name: str) -> Setting:
    setting = lookup(name) if name.startswith(("PLUPERFECT_", "PREFECT_")) else None
    if setting is None:
        told = unknown(name) if name.startswith(("PLUPERFECT_", "PREFECT_")) else ""
        raise AttributeError(f"module 'pluperfect.settings' has no attribute {name!r}. {told}".rstrip())
    return setting


def __dir__() -> list[str]:
    return sorted({*globals(), *(setting.name for setting in SETTINGS.values())})

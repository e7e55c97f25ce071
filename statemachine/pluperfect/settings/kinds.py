"""What may be set: each setting with its type, what it allows, and how its name may be spelled."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
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
)

import msgspec
from msgspec import Meta, Struct

from ..errors import ConfigurationError
from .folders import user_folder

__all__ = [
    "BUILTIN_PROFILE",
    "BY_NAME",
    "NOT_PROFILE",
    "SETTINGS",
    "About",
    "Kind",
    "Secret",
    "Setting",
    "Settings",
    "bare",
    "describe",
    "lookup",
    "needed",
    "unknown",
]

T = TypeVar("T")

BUILTIN_PROFILE: Final = "default"
"""The profile that is always there and sets nothing."""


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
        import json

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
    lease_seconds: Annotated[
        float,
        Meta(ge=0.05),
        Kind("a number of seconds, 0.05 or more", str),
        About("for how long a process that is not heard of keeps the runs that it carries out"),
    ] = 15.0
    allow_network_file_system: Annotated[
        Switch, About("open stores on network file systems, where one machine alone may use them")
    ] = False
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
        self.field: str = field
        self.name: str = f"PLUPERFECT_{field.upper()}"
        self.about: str = told.text
        self.aliases: tuple[str, ...] = told.aliases
        self.allowed: str = kind.allowed
        self.secret: bool = get_origin(inner) is Secret
        self._type, self._kind, self._default = get_args(inner)[0] if self.secret else type, kind, default

    def default(self) -> Any:
        """The value where nobody sets it."""
        if self.field == "home":
            return user_folder("data")
        return self._default

    def value(self) -> Any:
        """The value that holds here and now."""
        from . import get_current_settings

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
    return {field.name: Setting(field.name, field.type, field.default) for field in msgspec.structs.fields(struct)}


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(describe(Settings))
"""Every setting by its field."""

BY_NAME: Final = {name: setting for setting in SETTINGS.values() for name in (setting.field.upper(), *setting.aliases)}


def lookup(name: str | Setting) -> Setting | None:
    """The setting with this name in any spelling, or None: with ``PLUPERFECT_``, ``PREFECT_`` or no prefix, or an alias."""
    if isinstance(name, Setting):
        return name
    return BY_NAME.get(bare(name))


NOT_PROFILE: Final = "PROFILE is read from the environment alone. `pluperfect profile use NAME` makes a profile active."


def bare(name: str) -> str:
    """A name in any spelling, as the field's in capitals: no prefix, underscores."""
    return name.upper().replace(".", "_").replace("-", "_").removeprefix("PLUPERFECT_").removeprefix("PREFECT_")


def unknown(name: str) -> str:
    """What to say of a name that no setting has."""
    import difflib

    near = difflib.get_close_matches(bare(name), BY_NAME, 1)
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


def needed(name: str | Setting) -> Setting:
    """The setting with this name, which a program may set."""
    setting = lookup(name)
    if setting is None:
        raise ConfigurationError(unknown(str(name)))
    if setting.field == "profile":
        raise ConfigurationError(NOT_PROFILE)
    return setting

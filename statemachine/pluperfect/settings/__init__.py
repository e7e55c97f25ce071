"""
What a user sets once for all programs: settings, where they come from, and profiles.

A setting is looked for in this order, and the first that has it wins: `temporary_settings`, the environment
(``PLUPERFECT_X``), ``pluperfect.toml`` in the working directory or the nearest parent, ``[tool.pluperfect]`` in
the nearest ``pyproject.toml``, the active profile in ``profiles.toml``, the user's ``settings.toml``, the
default. The last two files are in the config folder: ``PLUPERFECT_HOME`` where that is set, else the user's.

Every setting is importable by name: ``from pluperfect.settings import PLUPERFECT_TASKS_DEFAULT_RETRIES``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import msgspec

from .kinds import (
    BUILTIN_PROFILE,
    BY_NAME,
    NOT_PROFILE,
    SETTINGS,
    About,
    Kind,
    Secret,
    Setting,
    Settings,
    describe,
    lookup,
    needed,
    unknown,
)
from .origins import (
    Layer,
    Profile,
    Profiles,
    config_folder,
    layers,
    profile_layer,
    profiles,
    setting_files,
    stamped,
    working_directory,
)
from .toml import Place, Statement, leaves, read_toml, statements

__all__ = [
    "BUILTIN_PROFILE",
    "NOT_PROFILE",
    "SETTINGS",
    "About",
    "Kind",
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

_log: Final = logging.getLogger("pluperfect.settings")

_LOOK_EVERY: Final = 1.0
"""For how many seconds files are taken to be as they were."""


class Held(NamedTuple):
    """What was read last, and by what one sees that it still holds."""

    due: float
    environment: list[Any]
    working: str
    stamps: tuple[Any, ...]
    places: dict[str, Place]
    settings: Settings

    def here(self) -> Settings:
        """The settings as they were read, with what `temporary_settings` sets around this code."""
        overrides = _overrides.get()
        return self.settings if overrides is None else overrides.over(self)


class _Overrides:
    """What `temporary_settings` sets, inherited from the blocks around."""

    __slots__ = ("defaults", "made", "values")

    def __init__(self, values: dict[str, Any], defaults: dict[str, Any]) -> None:
        self.values, self.defaults = values, defaults
        self.made: tuple[Settings, Settings] | None = None

    def over(self, kept: Held) -> Settings:
        """The settings with these above and below them."""
        made = self.made
        if made is None or made[0] is not kept.settings:
            below = {field: value for field, value in self.defaults.items() if field not in kept.places}
            made = self.made = (kept.settings, msgspec.structs.replace(kept.settings, **{**below, **self.values}))
        return made[1]


_kept: Held | None = None
_overrides: ContextVar[_Overrides | None] = ContextVar("pluperfect_settings", default=None)
_warned: set[str] = set()

# A look at each variable through os.environ encodes its name anew: thirty of them cost ten times what the dict
# beneath does. Where there is no such dict, the slow way is taken.
_WATCHED: Final = [
    *(f"PLUPERFECT_{name}" for name in BY_NAME),
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
    return held().here()


def held() -> Held:
    """What holds now but for `temporary_settings`; for those who ask it again and again what holds around some code."""
    kept = _kept
    if (
        kept is None
        or time.monotonic() >= kept.due
        or [*map(_beneath.get, _KEYS)] != kept.environment
        or working_directory() != kept.working
    ):
        kept = _look()
    return kept


current = get_current_settings


def _look() -> Held:
    """Look at the sources, and read them if one has changed. Two threads may do so at once: both read the same."""
    global _kept
    kept, due = _kept, time.monotonic() + _LOOK_EVERY
    environment, here, files = [*map(_beneath.get, _KEYS)], working_directory(), setting_files()
    stamps = stamped(files)
    if kept is not None and (kept.environment, kept.stamps) == (environment, stamps):
        _kept = kept = kept._replace(due=due, working=here)
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
    _kept = kept = Held(due, environment, here, stamps, places, Settings(**values))
    return kept


def refresh() -> None:
    """Forget what was read: the next look reads all sources anew."""
    global _kept
    _kept = None


def sources() -> Mapping[str, tuple[Any, str]]:
    """Every setting by its name: the value that holds, and where it comes from (a variable, a file and line, ``default``)."""
    now, overrides = get_current_settings(), _overrides.get()
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
        found[setting.name] = (getattr(now, field), where)
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
        setting = needed(name)
        values[setting.field] = setting.default()
        defaults.pop(setting.field, None)
    for name, raw in (set_defaults or {}).items():
        setting = needed(name)
        defaults[setting.field] = setting.read(raw, place)
    for name, raw in (updates or {}).items():
        setting = needed(name)
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
    with temporary_settings(updates) as now:
        yield now


def __getattr__(name: str) -> Setting:
    setting = lookup(name) if name.startswith(("PLUPERFECT_", "PREFECT_")) else None
    if setting is None:
        told = unknown(name) if name.startswith(("PLUPERFECT_", "PREFECT_")) else ""
        raise AttributeError(f"module 'pluperfect.settings' has no attribute {name!r}. {told}".rstrip())
    return setting


def __dir__() -> list[str]:
    return sorted({*globals(), *(setting.name for setting in SETTINGS.values())})

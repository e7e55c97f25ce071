"""The sources of settings, each read as a layer of its own: environment, project, profile, user."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from ..errors import ConfigurationError
from .folders import user_folder
from .kinds import BUILTIN_PROFILE, NOT_PROFILE, bare, lookup, unknown
from .toml import Place, leaves, read_toml

__all__ = [
    "Layer",
    "Profile",
    "Profiles",
    "SettingFiles",
    "config_folder",
    "layers",
    "profile_layer",
    "profiles",
    "setting_files",
    "stamped",
    "working_directory",
]


def config_folder() -> str:
    """The folder of ``settings.toml`` and ``profiles.toml``."""
    home = os.environ.get("PLUPERFECT_HOME")
    if home:
        return os.path.expanduser(home)
    return user_folder("config")


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


def working_directory() -> str:
    """The working directory; empty: there is none any more."""
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was removed under the program


class SettingFiles(NamedTuple):
    """The files that may set something, as they are found from here; None: there is none."""

    project: str | None
    pyproject: str | None
    profiles: str
    user: str


def setting_files() -> SettingFiles:
    """Look for the files."""
    here, config = working_directory(), config_folder()
    return SettingFiles(
        _upwards(here, "pluperfect.toml") if here else None,
        _upwards(here, "pyproject.toml") if here else None,
        os.path.join(config, "profiles.toml"),
        os.path.join(config, "settings.toml"),
    )


def stamped(files: SettingFiles) -> tuple[Any, ...]:
    """What changes with a file: its time, size and inode."""
    stamps: list[Any] = []
    for path in files:
        try:
            stat = os.stat(path) if path else None
        except OSError:
            stat = None
        stamps.append((path, stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino)))
    return tuple(stamps)


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
        import difflib

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
            if bare(spelling) in setting.aliases:
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


def layers(problems: list[ConfigurationError] | None = None, files: SettingFiles | None = None) -> list[Layer]:
    """
    All sources that are there, read anew, the first that wins first.

    Args:
        problems: Takes what is wrong with a file, which is then left out.
        files: The files, where they are known already.

    Raises:
        ConfigurationError: A file is no TOML or cannot be read, or the active profile is not there.
    """
    files = files or setting_files()

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

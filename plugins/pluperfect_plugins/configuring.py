"""What ``pluperfect config`` and ``pluperfect profile`` do."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import click

from pluperfect.errors import ConfigurationError
from pluperfect.settings import (
    BUILTIN_PROFILE,
    NOT_PROFILE,
    SETTINGS,
    Layer,
    Place,
    Profiles,
    Secret,
    Setting,
    config_folder,
    layers,
    leaves,
    lookup,
    profile_layer,
    profiles,
    refresh,
    sources,
    unknown,
)

from .options import AS_JSON
from .tomlfile import Keys, TomlFile

__all__ = ["config", "profile"]


# --- config ---------------------------------------------------------------------------------------------


@click.group()
def config() -> None:
    """Set, unset, view and validate settings."""


class _Target(NamedTuple):
    """The file and the table that ``set`` writes to, and what it is called."""

    path: str
    table: Keys
    called: str

    def key(self, setting: Setting) -> str:
        """How a setting is spelled there."""
        return setting.name if self.table else setting.field

    def same(self, setting: Setting) -> Callable[[Keys], bool]:
        """What knows the keys of a setting there, in any spelling."""
        depth = len(self.table)
        return lambda keys: keys[:depth] == self.table and lookup("_".join(keys[depth:])) is setting


def _target() -> _Target:
    all = profiles()
    name, place = all.current()
    if name in all.by_name:
        return _Target(all.path, ("profiles", name), f"the profile {name!r}")
    if name != BUILTIN_PROFILE:
        raise ConfigurationError(f"{place} names the profile {name!r}. {all.unknown(name)}")
    path = os.path.join(config_folder(), "settings.toml")  # noqa: PTH118 - as the other paths of settings are made
    return _Target(path, (), path)


def _assignments(tokens: Iterable[str]) -> list[tuple[str, str]]:
    """The assignments in the words of a command line: ``A=1 B = [1, 10]`` is two, in six words."""
    words = list(tokens)
    found: list[tuple[str, str]] = []
    name: str | None = None
    value: list[str] = []
    at = 0
    while at < len(words):
        begun = re.match(r"([A-Za-z_][\w.-]*)\s*=(.*)", words[at], re.DOTALL)
        split = (
            bool(re.fullmatch(r"[A-Za-z_][\w.-]*", words[at])) and words[at + 1 : at + 2] and words[at + 1][:1] == "="
        )
        if begun or split:
            if name is not None:
                found.append((name, " ".join(value)))
            name, value = (begun[1], [begun[2]]) if begun else (words[at], [words[at + 1][1:]])
            at += 1 if begun else 2
        elif name is None:
            raise click.UsageError(
                f"{words[at]!r} is no assignment: write NAME=VALUE, for instance TASKS_DEFAULT_RETRIES=2."
            )
        else:
            value.append(words[at])
            at += 1
    if name is not None:
        found.append((name, " ".join(value)))
    return found


def _known(name: str) -> Setting:
    setting = lookup(name)
    if setting is None:
        raise click.UsageError(unknown(name))
    if setting.field == "profile":
        raise click.UsageError(NOT_PROFILE)
    return setting


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="NAME=VALUE...", nargs=-1, required=True, type=click.UNPROCESSED)
def set_command(words: tuple[str, ...]) -> None:
    """
    Set settings in the active profile; with none active, for this user.

    Blanks around the sign and in the value need no quotes: NAME = [1, 10, 100]. Prefect's names are taken.
    """
    values: dict[str, Any] = {}
    for name, text in _assignments(words):
        setting = _known(name)
        try:
            values[setting.field] = setting.read(text, "this command")
        except ConfigurationError as error:
            raise click.UsageError(str(error)) from error
    target = _target()
    file = TomlFile(target.path)
    for field, value in values.items():
        setting = SETTINGS[field]
        plain: Any = value.get_secret_value() if isinstance(value, Secret) else value  # type: ignore[reportUnknownMemberType]
        file.put(target.table, target.key(setting), plain, target.same(setting))
    _check(file, target, values)
    file.save()
    refresh()
    for field, value in values.items():
        click.echo(f"Set {SETTINGS[field].name} to {_shown(value)} in {target.called}.")
    _warn_of_others(values, target)


def _check(file: TomlFile, target: _Target, values: dict[str, Any]) -> None:
    """Refuse to write what would not be read as what was meant."""
    read = dict(leaves(file.read()))
    for field, value in values.items():
        setting = SETTINGS[field]
        found = [raw for keys, raw in read.items() if target.same(setting)(keys)]
        if len(found) != 1 or setting.read(found[0], target.called) != value:
            raise ConfigurationError(
                f"{setting.name} cannot be set in {target.called} by line. Nothing was written; edit {target.path} by hand."
            )


@config.command("unset")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def unset_command(names: tuple[str, ...]) -> None:
    """Take settings out of where ``set`` has put them."""
    settings = [_known(name) for name in names]
    target = _target()
    file = TomlFile(target.path)
    dropped = [(setting, file.drop(target.same(setting))) for setting in settings]
    if any(count for _, count in dropped):
        file.save()
        refresh()
    for setting, count in dropped:
        click.echo(
            f"Unset {setting.name} in {target.called}." if count else f"{setting.name} is not set in {target.called}."
        )
    _warn_of_others([setting.field for setting in settings], target)


def _warn_of_others(fields: Iterable[str], target: _Target) -> None:
    """Say where a stronger source sets the same."""
    mine = "profile" if target.table else "user"
    for field in fields:
        for layer in layers([]):
            if layer.kind == mine:
                break
            if field in layer.found:
                place = layer.found[field][1]
                click.echo(f"Warning: {SETTINGS[field].name} is also set by {place}, which wins.", err=True)
                break


def _shown(value: Any) -> str:
    if isinstance(value, Secret):
        return str(value)  # type: ignore[reportUnknownArgumentType]
    return json.dumps(value, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, Secret) else value  # type: ignore[reportUnknownArgumentType]


@config.command("view")
@click.option("--show-sources/--hide-sources", default=True, help="Say where each value comes from (default), or not.")
@click.option("--show-defaults/--hide-defaults", default=False, help="Show also what nobody has set.")
@AS_JSON
def view_command(show_sources: bool, show_defaults: bool, as_json: bool) -> None:
    """Show the settings that hold here, and where they come from."""
    refresh()
    rows = {name: row for name, row in sources().items() if show_defaults or row[1] != "default"}
    if as_json:
        shown: dict[str, Any] = {
            name: {"value": _jsonable(value), "source": where} if show_sources else _jsonable(value)
            for name, (value, where) in rows.items()
        }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for name, (value, where) in rows.items():
        click.echo(f"{name}={_shown(value)}{f'  (from {where})' if show_sources else ''}")
    if not rows:
        click.echo("Nothing is set: every setting has its default. --show-defaults shows them.")


@config.command("validate")
@AS_JSON
def validate_command(as_json: bool) -> None:
    """
    Check every source: unknown names, values that are not allowed, files that are no TOML.

    Exits with 1 if it finds something.
    """
    findings = list(_findings())
    if as_json:
        click.echo(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            click.echo(finding)
        click.echo(f"{len(findings)} found." if findings else "Every source is in order.")
    if findings:
        sys.exit(1)


def _findings() -> Iterable[str]:
    problems: list[ConfigurationError] = []
    found = layers(problems)
    try:
        found += _other_profiles(profiles())
    except ConfigurationError:
        pass  # `layers` has told of it
    yield from map(str, problems)
    for layer in found:
        for field, (raw, place) in layer.found.items():
            try:
                SETTINGS[field].read(raw, place)
            except ConfigurationError as error:
                yield str(error)
        for told, place in (*layer.strays, *layer.doubles):
            yield f"{place}: {told}"


def _other_profiles(all: Profiles) -> Iterable[Layer]:
    """The profiles that are not active, as layers."""
    active, _ = all.current()
    return [profile_layer(all, name) for name in all.by_name if name != active]


# --- profile --------------------------------------------------------------------------------------------


@click.group()
def profile() -> None:
    """List, make and choose profiles: named sets of settings, of which one is active."""


def _there(all: Profiles, name: str) -> None:
    if name not in all.by_name:
        if name == BUILTIN_PROFILE:
            raise click.UsageError(f"{name!r} is built in and sets nothing: it cannot be changed.")
        raise click.UsageError(all.unknown(name))


def _free(all: Profiles, name: str) -> None:
    if not name.strip() or name != name.strip():
        raise click.UsageError(
            f"{name!r} is no name for a profile: it must not be empty, or begin or end with a blank."
        )
    if name in all.by_name or name == BUILTIN_PROFILE:
        raise click.UsageError(f"There is a profile {name!r} already. Choose another name.")


def _is_active(keys: Keys) -> bool:
    return keys == ("active",)


@profile.command("ls")
@AS_JSON
def ls_command(as_json: bool) -> None:
    """List the profiles; a star marks the active one."""
    all = profiles()
    active, _ = all.current()
    names = sorted({*all.by_name, BUILTIN_PROFILE})
    if as_json:
        click.echo(
            json.dumps([{"name": name, "active": name == active} for name in names], indent=2, ensure_ascii=False)
        )
        return
    for name in names:
        click.echo(f"{'*' if name == active else ' '} {name}")


@profile.command("create")
@click.argument("name")
@click.option("--from", "source", metavar="NAME", help="Copy the settings of this profile.")
def create_command(name: str, source: str | None) -> None:
    """Make a profile; `pluperfect profile use` makes it active."""
    all = profiles()
    _free(all, name)
    if source is not None and source != BUILTIN_PROFILE:
        _there(all, source)
    copied = all.by_name[source].settings if source in all.by_name else {}
    file = TomlFile(all.path)
    file.add_table(("profiles", name), {"_".join(keys): value for keys, value in leaves(copied)})
    file.save()
    refresh()
    click.echo(f"Made the profile {name!r}. `pluperfect profile use {name}` makes it active.")


@profile.command("use")
@click.argument("name")
def use_command(name: str) -> None:
    """Make a profile active."""
    all = profiles()
    if name != BUILTIN_PROFILE:
        _there(all, name)
    file = TomlFile(all.path)
    file.put((), "active", name, _is_active)
    file.save()
    refresh()
    click.echo(f"The profile {name!r} is active.")
    _warn_of_variable(name)


def _warn_of_variable(name: str) -> None:
    chosen = os.environ.get("PLUPERFECT_PROFILE")
    if chosen and chosen != name:
        click.echo(f"Warning: the environment variable PLUPERFECT_PROFILE names {chosen!r}, which wins.", err=True)


@profile.command("inspect")
@click.argument("name", required=False)
@AS_JSON
def inspect_command(name: str | None, as_json: bool) -> None:
    """Show the settings of a profile, by default of the active one."""
    all = profiles()
    name = all.current()[0] if name is None else name
    if name != BUILTIN_PROFILE:
        _there(all, name)
    held = {} if name not in all.by_name else {"_".join(keys): raw for keys, raw in leaves(all.by_name[name].settings)}
    shown: dict[str, Any] = {}
    for spelling, raw in held.items():
        setting = lookup(spelling)
        shown[setting.name if setting else spelling] = "********" if setting and setting.secret else raw
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
        return
    for key, raw in shown.items():
        click.echo(f"{key}={json.dumps(raw, ensure_ascii=False, default=str)}")
    if not shown:
        click.echo(f"The profile {name!r} sets nothing.")


@profile.command("rename")
@click.argument("name")
@click.argument("new")
def rename_command(name: str, new: str) -> None:
    """Give a profile another name; an active one stays active."""
    all = profiles()
    _there(all, name)
    _free(all, new)
    file = TomlFile(all.path)
    file.rename_table(("profiles", name), new)
    if all.active == name:
        file.put((), "active", new, _is_active)
    told = file.read().get("profiles", {})
    if name in told or told.get(new) != all.by_name[name].settings:
        place = Place(all.path, ("profiles", name))
        raise ConfigurationError(f"{place} cannot be renamed by line. Nothing was written; edit it by hand.")
    file.save()
    refresh()
    click.echo(f"The profile {name!r} is called {new!r} now.")
    _warn_of_variable(new)


@profile.command("delete")
@click.argument("name")
def delete_command(name: str) -> None:
    """Delete a profile that is not active."""
    all = profiles()
    _there(all, name)
    if all.current()[0] == name or all.active == name:
        raise click.UsageError(f"The profile {name!r} is active. `pluperfect profile use` another one first.")
    file = TomlFile(all.path)
    file.drop_table(("profiles", name))
    if file.read().get("profiles", {}) != {n: p.settings for n, p in all.by_name.items() if n != name}:
        place = Place(all.path, ("profiles", name))
        raise ConfigurationError(f"{place} cannot be deleted by line. Nothing was written; edit it by hand.")
    file.save()
    refresh()
    click.echo(f"Deleted the profile {name!r}.")

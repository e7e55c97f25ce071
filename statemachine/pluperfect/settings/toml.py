"""TOML files read so that each value is known with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct

from ..errors import ConfigurationError

__all__ = ["Place", "Statement", "leaves", "read_toml", "statements"]


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

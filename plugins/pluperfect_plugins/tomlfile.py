"""
Editing a TOML file by line: comments, order and blank lines stay as they are.

A change is made on the text, read again by `tomllib`, and put in the place of the file in one step: whoever reads
meanwhile, or after a kill, finds the old file or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pluperfect.errors import ConfigurationError
from pluperfect.settings import leaves, read_toml, statements

__all__ = ["TomlFile", "written"]

Keys = tuple[str, ...]


def written(value: Any) -> str:
    """A value as TOML has it. None, which TOML has not, is an empty text."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return f"[{', '.join(written(item) for item in value)}]"  # type: ignore[reportUnknownVariableType]
    return repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else written(name)


class TomlFile:
    """
    The text of a TOML file, there or not yet, and the changes that are made on it.

    Raises:
        ConfigurationError: The file cannot be read, or is no TOML.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        there = read_toml(path) is not None
        text = Path(path).read_bytes().decode() if there else ""
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self.text = text.replace("\r\n", "\n")

    def read(self) -> dict[str, Any]:
        """What the text says."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(
                f"{self.path} cannot be edited by line: {error}. Nothing was written; edit it by hand."
            ) from error

    def put(self, table: Keys, key: str, value: Any, same: Callable[[Keys], bool]) -> None:
        """
        Set a key of a table.

        Args:
            table: The keys of the table.
            key: The key to write where none is there yet.
            value: Its value.
            same: Whether the keys of a leaf, from the top of the file, are another spelling of this key.
        """
        found = [s for s in statements(self.text) if any(same(keys) for keys in s.leaves)]
        lines = self.text.split("\n")
        for statement in found:
            text = "\n".join(lines[statement.start : statement.end])
            head, keys = _head(text)
            if {(*statement.table, *keys)} == set(statement.leaves):  # and no inline table
                self.drop(same, but=statement.start)
                lines = self.text.split("\n")
                at = self.text.count("\n", 0, self.text.index(text))
                lines[at : at + text.count("\n") + 1] = [_reassigned(text, head, written(value))]
                self.text = "\n".join(lines)
                return
        self.drop(same)
        self._add(table, f"{_key(key)} = {written(value)}")

    def drop(self, same: Callable[[Keys], bool], but: int | None = None) -> int:
        """Take the leaves away that ``same`` knows, but for the statement at line ``but``. Returns how many there were."""
        lines, dropped = self.text.split("\n"), 0
        for statement in reversed(list(statements(self.text))):
            if statement.start == but or not any(same(keys) for keys in statement.leaves):
                continue
            dropped += sum(1 for keys in statement.leaves if same(keys))
            # An inline table may hold others too: they stay, each on its line.
            lines[statement.start : statement.end] = [
                f"{'.'.join(_key(part) for part in keys[len(statement.table) :])} = {written(value)}"
                for keys, value in statement.leaves.items()
                if not same(keys)
            ]
        self.text = "\n".join(lines)
        return dropped

    def add_table(self, table: Keys, values: Mapping[str, Any]) -> None:
        """Add a table at the end, which may be empty."""
        head = f"[{'.'.join(_key(part) for part in table)}]"
        body = [head, *(f"{_key(key)} = {written(value)}" for key, value in values.items())]
        above = self.text.rstrip()
        self.text = "\n".join([*([above, ""] if above else []), *body, ""])

    def drop_table(self, table: Keys) -> None:
        """Take a table away, with the comments in it; those that stand behind it stay, they speak of what follows."""
        self.drop(lambda keys: _within(table, keys))
        lines, inside = self.text.split("\n"), False
        for statement in reversed(list(statements(self.text))):
            mine = _within(table, statement.table) or any(_within(table, keys) for keys in statement.branches)
            if statement.says:
                inside = mine
            if mine and inside:
                del lines[statement.start : statement.end]
        self.text = "\n".join(lines)

    def rename_table(self, table: Keys, name: str) -> None:
        """Give the last key of a table another name, wherever a header has it."""
        lines = self.text.split("\n")
        for statement in statements(self.text):
            if statement.header and statement.table[: len(table)] == table:
                renamed = (*table[:-1], name, *statement.table[len(table) :])
                line = lines[statement.start]
                comment = _comment(line)
                lines[statement.start] = f"[{'.'.join(_key(part) for part in renamed)}]{comment}"
        self.text = "\n".join(lines)

    def _add(self, table: Keys, line: str) -> None:
        """Add a line behind the last statement of a table; where there is no such table, begin it at the end."""
        all = list(statements(self.text))
        ends = [s.end for s in all if s.table == table and s.says]
        lines = self.text.split("\n")
        if ends:
            lines.insert(max(ends), line)
            if lines[-1]:
                lines.append("")
            self.text = "\n".join(lines)
        elif table:
            self.add_table(table, {})
            self.text += f"{line}\n"
        elif any(s.header for s in all):
            self.text = f"{line}\n\n{self.text}"
        else:
            above = self.text.rstrip()
            self.text = f"{above}\n{line}\n" if above else f"{line}\n"

    def save(self) -> None:
        """
        Put the text in the place of the file, in one step.

        Raises:
            ConfigurationError: The text is no TOML, or cannot be written. The file is as it was.
        """
        self.read()
        path = Path(self.path).resolve()  # a link stays one
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self.text.replace("\n", self._newline).encode())
                    file.flush()
                    os.fsync(file.fileno())
                if path.exists():
                    Path(beside).chmod(path.stat().st_mode & 0o7777)
                Path(beside).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(beside).unlink()
                raise
        except (OSError, UnicodeEncodeError) as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error}. It is as it was.") from error


def _within(table: Keys, keys: Keys) -> bool:
    return keys[: len(table)] == table


def _head(text: str) -> tuple[str, Keys]:
    """The part of an assignment before its sign, and the keys that it means."""
    at = -1
    while True:
        at = text.index("=", at + 1)
        try:
            return text[:at], next(leaves(tomllib.loads(f"{text[:at]}= 0")))[0]
        except tomllib.TOMLDecodeError:
            continue  # this one is in a quoted key


def _reassigned(text: str, head: str, value: str) -> str:
    """A statement with another value: its key, its indentation and the comment behind it stay."""
    blank = " " if text[len(head) + 1 : len(head) + 2] in {" ", "\t"} else ""
    return f"{head}={blank}{value}{_comment(text)}"


def _comment(text: str) -> str:
    """The comment at the end of a statement, with the blanks before it."""
    meant = tomllib.loads(text)
    last = text.rfind("\n") + 1
    for found in re.finditer("#", text[last:]):
        before = text[: last + found.start()]
        try:
            if tomllib.loads(before) == meant:
                return text[len(before.rstrip()) :]
        except tomllib.TOMLDecodeError:
            continue  # this one is in a text
    return ""

"""What several commands ask for in the same words: JSON, runs, files, times and ages."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

if TYPE_CHECKING:
    from pluperfect.histories import Histories, RecordedRun

__all__ = ["AS_JSON", "Age", "NewFile", "asked_run", "moment"]

AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def asked_run(log: Histories, text: str) -> RecordedRun:
    """
    The run that somebody names. Where several have that name, it is said which one was taken, and which others there are.

    Raises:
        UnknownRun: There is none.
    """
    found = log.run(text)
    spec = found.folded.birth
    if spec.run_name == text != spec.name:
        others = log.namesakes(found)
        if others:
            more = ", ".join(run.id for run in others[:3]) + (" ..." if len(others) > 3 else "")
            click.echo(
                f"{len(others) + 1} runs are called {text}: this is the youngest, {found.id}. The others: {more}.",
                err=True,
            )
    return found


class NewFile(click.Path):
    """A file to write, in a folder that is there."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; an error that names the folder, where there is none."""
        path = cast("Path", super().convert(value, param, ctx))
        if not path.parent.is_dir():
            self.fail(f"there is no folder {path.parent}. Make it first, or name another file.", param, ctx)
        return path


class Age(click.ParamType[float]):
    """So long ago, in seconds: ``30d``, ``1.5h``."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        found = _seconds(str(value))
        if found is None:
            self.fail(
                f"{value!r} is no age: write a number and a unit of s, m, h, d or w, for instance 30d.", param, ctx
            )
        return found


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """
    A point in time, UTC seconds: ``2026-11-20``, ``2026-11-20T12:00``, or so long ago: ``90m``, ``12h``, ``7d``, ``2w``.

    Raises:
        BadParameter: It is none of these.
    """
    if value is None:
        return None
    ago = _seconds(value)
    if ago is not None:
        return time.time() - ago
    try:
        given = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no time. Give 2026-11-20, 2026-11-20T12:00, or so long ago: 90m, 12h, 7d, 2w."
        ) from error
    return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    return None if found is None else float(found[1]) * _SECONDS[found[2]]

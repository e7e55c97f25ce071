"""Points in time as people give them to a command."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

__all__ = ["moment"]

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """
    A point in time, UTC seconds: ``2026-11-20``, ``2026-11-20T12:00``, or so long ago: ``90m``, ``12h``, ``7d``, ``2w``.

    Raises:
        BadParameter: It is none of these.
    """
    if value is None:
        return None
    ago = re.fullmatch(r"(\d+)([mhdw])", value)
    if ago is not None:
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        given = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no time. Give 2026-11-20, 2026-11-20T12:00, or so long ago: 90m, 12h, 7d, 2w."
        ) from error
    return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()

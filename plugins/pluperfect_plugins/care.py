"""The commands that look after a store, as a plugin like any other: ``backup``, ``prune``, ``compact``, ``doctor``."""

from __future__ import annotations

from typing import Any

from pluperfect.marks import hookimpl

__all__ = ["commands"]


@hookimpl
def commands(cli: Any) -> None:
    """Add the commands by name; their module is imported when one of them is called."""
    here = "pluperfect_plugins.caring"
    cli.add_lazy("backup", f"{here}:backup", "Copy the store while others write, and check the copy.")
    cli.add_lazy("prune", f"{here}:prune", "Take old runs out of the log.")
    cli.add_lazy("compact", f"{here}:compact", "Write the file anew without the room that it does not use.")
    cli.add_lazy("doctor", f"{here}:doctor", "Say how the store is, and what needs attention.")

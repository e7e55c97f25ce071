"""The commands that read and write settings, as a plugin like any other: ``config`` and ``profile``."""

from __future__ import annotations

from typing import Any

from pluperfect.marks import hookimpl

__all__ = ["commands"]


@hookimpl
def commands(cli: Any) -> None:
    """Add the commands by name; their module is imported when one of them is called."""
    here = "pluperfect_plugins.configuring"
    cli.add_lazy("config", f"{here}:config", "Set, unset, view and validate settings.")
    cli.add_lazy("profile", f"{here}:profile", "List, make and choose profiles of settings.")

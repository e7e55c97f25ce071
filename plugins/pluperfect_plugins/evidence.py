"""The commands for people who want proof, as a plugin like any other: ``verify``, ``checkpoint``, ``export``, ``import``, ``redact``."""

from __future__ import annotations

from typing import Any

from pluperfect.marks import hookimpl

__all__ = ["commands"]


@hookimpl
def commands(cli: Any) -> None:
    """Add the commands by name; their module is imported when one of them is called."""
    here = "pluperfect_plugins.auditing"
    cli.add_lazy("verify", f"{here}:verify", "Read everything and say what is not as it was written.")
    cli.add_lazy("checkpoint", f"{here}:checkpoint", "Say which root the log has, to be kept elsewhere.")
    cli.add_lazy("export", f"{here}:export", "Write runs into one file, with their proofs.")
    cli.add_lazy("import", f"{here}:import_file", "Take the runs of an exported file in.")
    cli.add_lazy("redact", f"{here}:redact", "Take a value away for ever; its digest stays.")

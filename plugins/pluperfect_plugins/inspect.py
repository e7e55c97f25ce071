"""The reading commands of the command line, as a plugin like any other: ``runs``, ``show``, ``step``, ``replay`` and others."""

from __future__ import annotations

from typing import Any

from pluperfect.marks import hookimpl

__all__ = ["commands"]


@hookimpl
def commands(cli: Any) -> None:
    """Add the commands by name; their module is imported when one of them is called."""
    here = "pluperfect_plugins.reading"
    cli.add_lazy("runs", f"{here}:runs", "List runs, the youngest first.")
    cli.add_lazy("show", f"{here}:show", "Show a run's history, now or as it was.")
    cli.add_lazy("step", "pluperfect_plugins.stepping:step", "Go through a run's events, forward and backward.")
    cli.add_lazy("assets", "pluperfect_plugins.lineage:assets", "List assets: what made each, and from what.")
    cli.add_lazy(
        "replay", "pluperfect_plugins.replaying:replay", "Lead code again beside a record: where do they part?"
    )
    cli.add_lazy(
        "check", "pluperfect_plugins.replaying:check", "Which runs may go on under new code, and which patches can go?"
    )
    cli.add_lazy(
        "fork", "pluperfect_plugins.branching:fork", "Begin a new run that shares the beginning of another one."
    )
    cli.add_lazy("diff", "pluperfect_plugins.branching:diff", "Hold two runs against each other: where do they part?")
    cli.add_lazy("test-from", "pluperfect_plugins.testwriting:test_from", "Write a pytest file from a run.")
    cli.add_lazy("why", f"{here}:why", "Explain a run: which rule made it so, which part of a key changed.")
    cli.add_lazy(
        "rules", "pluperfect_plugins.laboratory:rules", "Try rules on what is on record; explain, check, begin one."
    )

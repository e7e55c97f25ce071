"""What ``pluperfect assets`` prints: what was made, by which run, and from what."""

from __future__ import annotations

import json
from typing import Any

import click

from pluperfect.histories import Histories, Made
from pluperfect.transitions import stamp

from .options import AS_JSON

__all__ = ["assets"]


def _as_json(made: Made) -> dict[str, Any]:
    run = made.run.folded
    return {
        "key": made.key,
        "succeeded": made.succeeded,
        "at": made.at,
        "time": stamp(made.at),
        "run": made.run.id,
        "run_name": run.name,
        "task": run.birth.name,
        "by": made.made.by,
        "upstream": list(made.made.upstream),
        "metadata": made.made.metadata,
        "properties": made.made.properties,
    }


@click.command("assets")
@click.argument("key", required=False)
@click.option("--all", "everything", is_flag=True, help="Every materialization, not the latest of each asset alone.")
@AS_JSON
@click.pass_obj
def assets(desk: Any, key: str | None, everything: bool, as_json: bool) -> None:
    """List the assets on record, or those called KEY: what made each, when, and from what."""
    log: Histories = desk.log
    found = log.assets(key)
    if not everything and key is None:
        latest: dict[str, Made] = {}
        for made in found:
            latest.setdefault(made.key, made)
        found = list(latest.values())
    if as_json:
        click.echo(json.dumps([_as_json(made) for made in found], indent=2))
        return
    if not found:
        click.echo("No assets are on record." if key is None else f"Nothing on record made {key}.")
        return
    for made in found:
        run = made.run.folded
        verb = "made" if made.succeeded else "NOT made"
        by = f" with {made.made.by}" if made.made.by else ""
        click.echo(f"{made.key}\n    {verb} {stamp(made.at)} by {run.birth.name}, run {run.name} {made.run.id}{by}")
        for source in made.made.upstream:
            click.echo(f"    from {source}")
        if made.made.metadata:
            click.echo(f"    {json.dumps(made.made.metadata)}")

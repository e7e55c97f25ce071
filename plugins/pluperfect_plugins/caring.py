"""What ``pluperfect backup``, ``prune``, ``compact`` and ``doctor`` do."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from typing import Any

import click

from pluperfect.errors import PluperfectError
from pluperfect.histories import Histories, id_text
from pluperfect.hooks import Health, Pruned
from pluperfect.transitions import stamp

from .options import AS_JSON, Age

__all__ = ["backup", "compact", "doctor", "prune"]


def _size(count: int) -> str:
    """A number of bytes as people read it."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


# --- backup ---------------------------------------------------------------------------------------------


@click.command()
@click.argument("folder", metavar="DIR")
@AS_JSON
@click.pass_obj
def backup(desk: Any, folder: str, as_json: bool) -> None:
    """
    Copy the store to DIR, a new folder, while others write, and check the copy.

    The copy is a store: to restore it, put it where the old one was, or name it with --store. Whoever carried out runs in
    the old store is refused in the copy. Keep the root elsewhere: it proves what the log was at that position.
    """
    histories: Histories = desk.log
    made = histories.backup(folder)
    if as_json:
        shown = {name: getattr(made, name) for name in made.__struct_fields__}
        click.echo(json.dumps({**shown, "root": made.root.hex()}, indent=2))
        return
    click.echo(f"Copied to {folder}, and checked: {_size(made.bytes)}.")
    click.echo(f"position  {made.position}")
    click.echo(f"root      {made.root.hex()}")
    if made.values:
        click.echo(f"files     {made.values} large values, {_size(made.value_bytes)}")
    if made.absent:
        told = "which were redacted, and which are missing: `pluperfect verify` says it"
        click.echo(f"absent    {made.absent} values that the records name are not in the store any more; {told}")


# --- prune ----------------------------------------------------------------------------------------------


@click.command()
@click.option("--older-than", type=Age(), required=True, help="How long ago they ended, for instance 30d, 12h, 4w.")
@click.option("--state", help="Only runs in this state, for instance completed.")
@click.option("--name", help="Only runs of the flow or task with this name.")
@click.option("--keep", default=0, type=click.IntRange(0), help="Of each flow, keep the youngest so many of these.")
@click.option("--with-keys", is_flag=True, help="Also runs with an idempotency key: called again, they run again.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would go.")
@AS_JSON
@click.pass_obj
def prune(
    desk: Any,
    older_than: float,
    state: str | None,
    name: str | None,
    keep: int,
    with_keys: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Take old runs out of the log: those that no other run called, with all that they called, if all have ended.

    The tree over the log keeps its size and root, since the hashes of the records stay, and what went is on record. A run
    with an idempotency key stays, unless --with-keys is given: without its record, a call with the same key runs again.
    Cached results of pruned runs answer no more. The file does not shrink: new records use the room; compact gives it back.
    """
    histories: Histories = desk.log
    try:
        done = histories.prune(older_than, state=state, name=name, keep=keep, with_keys=with_keys, dry_run=dry_run)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--state") from error
    if as_json:
        shown = {field: getattr(done, field) for field in done.__struct_fields__}
        click.echo(json.dumps({**shown, "dry_run": dry_run}, indent=2))
        return
    _print_pruned(done, dry_run=dry_run)


def _print_pruned(done: Pruned, *, dry_run: bool) -> None:
    if done.trees:
        verb = "would go" if dry_run else "are pruned"
        called = done.runs - done.trees
        runs = (
            f"1 run and {called} that it called"
            if done.trees == 1
            else f"{done.trees} runs and {called} that they called"
        )
        click.echo(f"{runs} {verb}: {done.records} records, {_size(done.bytes)}.")
        click.echo(f"They ended from {stamp(done.oldest)} to {stamp(done.newest)}.")
    else:
        click.echo("No run fits.")
    if done.values:
        what = "1 large value" if done.values == 1 else f"{done.values} large values"
        verb = ("would go" if dry_run else "went") + " with them, which no other record names"
        click.echo(f"{what} {verb}: {_size(done.value_bytes)}.")
    if done.keyed == 1:
        click.echo("1 run stays for its idempotency key: pruned, it would run again (--with-keys).")
    elif done.keyed:
        click.echo(f"{done.keyed} runs stay for their idempotency key: pruned, they would run again (--with-keys).")


# --- compact --------------------------------------------------------------------------------------------


@click.command()
@AS_JSON
@click.pass_obj
def compact(desk: Any, as_json: bool) -> None:
    """
    Write the store's file anew without the room that it does not use.

    Nobody else may have the store open. The old file stands until the new one is complete and was compared with it.
    """
    histories: Histories = desk.log
    done = histories.compact()
    if as_json:
        click.echo(json.dumps({field: getattr(done, field) for field in done.__struct_fields__}, indent=2))
        return
    click.echo(f"{done.rows} rows written anew: {_size(done.before)} before, {_size(done.after)} now.")


# --- doctor ---------------------------------------------------------------------------------------------


@click.command()
@AS_JSON
@click.pass_obj
def doctor(desk: Any, as_json: bool) -> None:
    """
    Say how the store is, and what needs attention; exits with 1 if something does.

    Slots of readers that died are cleared. What is in doubt are runs that were running when their process ended.
    """
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("pluperfect", "lmdb", "msgspec")}
    try:
        histories: Histories = desk.log
        health = histories.health()
        uri = histories.log.uri
    except PluperfectError as error:
        health, uri = Health({}, [str(error)]), ""
    if as_json:
        shown: dict[str, Any] = {"versions": versions, "store": uri, **health.facts, "findings": health.findings}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        click.echo("  ".join(f"{name} {number}" for name, number in versions.items()))
        _print_health(uri, health.facts)
        for finding in health.findings:
            click.echo(f"! {finding}")
        if not health.findings:
            click.echo("Nothing needs attention.")
    if health.findings:
        sys.exit(1)


def _print_health(uri: str, facts: dict[str, Any]) -> None:
    if not facts:
        return
    runs = ", ".join(f"{count} {kind}" for kind, count in facts["runs"].items())
    lines = {"store": uri, "runs": runs or "none"}
    lines["records"] = f"{facts['records']}, and {facts['pruned']} that were pruned"
    if "path" in facts:
        lines["file"] = f"{_size(facts['data_bytes'])} on {facts['file_system']}, {_size(facts['free_bytes'])} free"
        lines["map"] = f"{_size(facts['used_bytes'])} of {_size(facts['map_bytes'])} used"
        lines["open in"] = ", ".join(f"process {pid}" for pid in facts["open_in"]) or "unknown"
        lines["readers"] = f"{facts['readers']}, and {facts['stale_readers']} that had died and were cleared"
    lines["values"] = f"{facts['values']} in the file, {facts['values_without_record']} of them without a record"
    if facts.get("files"):
        lines["files"] = f"{facts['files']}, {facts['files_without_record']} of them without a record"
    for name, text in lines.items():
        click.echo(f"{name:<8}  {text}")
    for owner in facts["owners"]:
        alive = "alive" if owner["alive"] else f"gone: {owner['why']}"
        trees = "1 tree of runs" if owner["trees"] == 1 else f"{owner['trees']} trees of runs"
        click.echo(f"owner     {owner['is']}, carries out {trees}, {alive}")
    for run in facts["in_doubt"][:20]:
        click.echo(f"in doubt  {id_text(bytes.fromhex(run['run']))}: {run['why']}")

"""What ``pluperfect runs``, ``show`` and ``why`` print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pluperfect.errors import RedactedValue
from pluperfect.histories import Histories, RecordedRun, id_text, short_id
from pluperfect.sites import shown_site
from pluperfect.states import ABSENT, PLAIN, Cached, Completed, Error, Failed, Looped, Packed, Retrying, State, TimedOut
from pluperfect.transitions import Entry, Facts, Ruling, Run, Transition, sentence, stamp

from .options import AS_JSON, asked_run

if TYPE_CHECKING:
    from pluperfect.trees import Moment

__all__ = ["brief", "entry_as_json", "run_as_json", "runs", "show", "why"]


# --- as data --------------------------------------------------------------------------------------------


def _value(histories: Histories, packed: Any) -> Any:
    """A packed value as JSON shows it. Nothing is unpickled: what is no plain data is described."""
    if packed is None:
        return None
    if not isinstance(packed, Packed):
        return repr(packed)
    try:
        if packed.code == PLAIN:
            return _jsonable(histories.hooks.unpack(packed))
        if packed.code == ABSENT:
            return {"not recorded": bytes(packed.data).decode(errors="replace")}
    except RedactedValue:
        return {"redacted": packed.digest.hex()}
    return {"packed": histories.describe(packed)}


def _jsonable(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except (TypeError, ValueError, OverflowError):
        return repr(value)


def _error(error: Error | None) -> Any:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


def _state(histories: Histories, state: State) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": state.kind, "name": getattr(state, "name", state.kind), "message": state.message}
    for field in ("attempt", "loop_count", "cause", "due", "delay", "draw", "count", "limit", "elapsed", "key"):
        if hasattr(state, field):
            shown[field] = getattr(state, field)
    if isinstance(state, Retrying | Failed | TimedOut):
        shown["error"] = _error(state.error)
    if isinstance(state, Looped):
        shown["payload"] = _value(histories, state.payload)
    if isinstance(state, Completed | Cached):
        shown["data"] = _value(histories, state.data)
    if isinstance(state, Cached) and state.source is not None:
        shown["source"] = {"run": id_text(state.source[0]), "seq": state.source[1]}
    return shown


def _facts(facts: Facts) -> dict[str, Any] | None:
    shown: dict[str, Any] = {
        "key": facts.key,
        "parts": facts.parts,
        "uncached": facts.uncached,
        "hit": None if facts.hit is None else {"run": id_text(facts.hit[0]), "seq": facts.hit[1]},
        "expires": facts.expires,
        "run_name": facts.run_name,
        "assets": [made.key for made in facts.assets] if facts.assets else None,
        "answers": facts.answers
        and {name: str(a) if isinstance(a, State) else _jsonable(a) for name, a in facts.answers.items()},
    }
    return {name: value for name, value in shown.items() if value is not None} or None


def entry_as_json(histories: Histories, entry: Entry) -> dict[str, Any]:
    """An entry as data."""
    shown: dict[str, Any] = {"seq": entry.seq, "at": entry.at, "time": stamp(entry.at), "epoch": entry.epoch}
    if isinstance(entry, Transition):
        shown["to"] = _state(histories, entry.to)
        if entry.asked is not None:
            shown["asked"] = _state(histories, entry.asked)
    else:
        shown["refused" if entry.until is None else "delayed"] = _state(histories, entry.asked)
        if entry.until is not None:
            shown["until"] = entry.until
    if entry.by:
        shown["by"], shown["why"] = entry.by, entry.why
    facts = _facts(entry.facts)
    if facts:
        shown["facts"] = facts
    return shown


def run_as_json(run: RecordedRun, moment: Moment | None = None, *, tree: bool = True) -> dict[str, Any]:
    """
    A run as data: what it was born with, its state, its history and, with ``tree``, its children.

    Args:
        run: The run.
        moment: As it was then; now where left out.
        tree: With the runs that it called.
    """
    histories = run.histories
    then = None if moment is None else {folded.id: folded for folded in moment.runs}
    return _run_as_json(histories, run, then, tree=tree)


def _run_as_json(
    histories: Histories, run: RecordedRun, then: dict[bytes, Run] | None, *, tree: bool
) -> dict[str, Any]:
    now = run.folded
    folded = now if then is None else then.get(now.id, Run(now.id))
    spec, state = now.birth, folded.state
    shown: dict[str, Any] = {
        "id": run.id,
        "kind": spec.kind,
        "name": spec.name,
        "run_name": spec.run_name,
        "parent": None if spec.parent is None else id_text(spec.parent),
        "root": id_text(spec.root),
        "tags": list(spec.tags),
        "version": spec.version,
        "durability": spec.durability,
        "generation": spec.generation,
        "idempotency_key": spec.idempotency_key,
        "site": spec.site,
        "options": _jsonable(spec.options),
        "inputs": {given.name: _value(histories, given.value) for given in spec.inputs},
        "state": None if state is None else _state(histories, state),
        "history": [entry_as_json(histories, entry) for entry in run.history if entry.seq <= folded.seq],
    }
    if tree:
        born = [child for child in run.children if then is None or child._run in then]
        shown["children"] = [_run_as_json(histories, child, then, tree=True) for child in born]
    return shown


# --- commands -------------------------------------------------------------------------------------------


@click.command()
@click.option("--state", help="Only runs in this state, for instance failed.")
@click.option("--name", help="Only runs of the flow or task with this name.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("--all", "everything", is_flag=True, help="Also the runs that other runs called.")
@click.option("--limit", default=50, show_default=True, help="At most so many.")
@AS_JSON
@click.pass_obj
def runs(
    desk: Any, state: str | None, name: str | None, tag: str | None, everything: bool, limit: int, as_json: bool
) -> None:
    """List runs, the youngest first."""
    histories: Histories = desk.log
    try:
        found = histories.runs(state=state, name=name, tag=tag, roots=not everything and not name, limit=limit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--state") from error
    rows = [_summary(run) for run in found]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("No runs." if not (state or name or tag) else "No runs match.")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("run", "name", "state", "began", "took", "calls", "id"):
        table.add_column(column, no_wrap=column != "name")
    colours = {"Completed": "green", "Cached": "cyan", "Failed": "red", "TimedOut": "red"}
    for row in rows:
        colour = colours.get(str(row["kind_of_state"]), "yellow")
        table.add_row(
            str(row["run_name"]),
            str(row["name"]),
            f"[{colour}]{row['state']}{', interrupted' if row['interrupted'] else ''}[/]",
            str(row["began"])[:19],
            f"{row['took']:.2f}s",
            str(row["children"]),
            short_id(bytes.fromhex(str(row["id"]).replace("-", ""))),
        )
    Console(width=None if _is_terminal() else 120).print(table)
    if any(row["interrupted"] for row in rows):
        click.echo("Interrupted: the process died that carried it out. `pluperfect resume RUN` goes on with it.")


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _summary(run: RecordedRun) -> dict[str, Any]:
    folded = run.folded
    spec, state = folded.birth, folded.state
    assert state is not None
    return {
        "id": run.id,
        "kind": spec.kind,
        "name": spec.name,
        "run_name": spec.run_name,
        "state": getattr(state, "name", state.kind),
        "kind_of_state": state.kind,
        "interrupted": run.interrupted,
        "message": state.message,
        "began": stamp(folded.born),
        "took": round(max(folded.updated - folded.born, 0.0), 6),
        "entries": folded.seq,
        "children": len(run.histories.log.children(folded.id)),
        "tags": list(spec.tags),
    }


@click.command()
@click.argument("run")
@click.option("--at", "number", type=int, metavar="N", help="The whole tree as it was after event N.")
@click.option(
    "--events", "events", is_flag=True, help="The events of the whole tree, numbered in the order of the log."
)
@click.option("--all", "everything", is_flag=True, help="Print the histories of all children, however many.")
@AS_JSON
@click.pass_obj
def show(desk: Any, run: str, number: int | None, events: bool, everything: bool, as_json: bool) -> None:
    """
    Show the history of RUN: an id, the beginning or end of one, a run name, or a flow's name (its youngest run).

    With --events, or as it was with --at N, where N is the number of an event among those that --events lists.
    """
    histories: Histories = desk.log
    found = asked_run(histories, run)
    if number is not None or events:
        from .moments import print_events, print_moment

        if events:
            print_events(found, number, as_json=as_json)
        else:
            assert number is not None
            print_moment(found, number, as_json=as_json)
        return
    folded = found.folded
    if as_json:
        click.echo(json.dumps(run_as_json(found), indent=2, ensure_ascii=False))
        return
    spec = found.folded.birth
    click.echo(f"{spec.kind} {spec.name}/{spec.run_name}   {found.id}")
    if spec.site:
        click.echo(f"  called at {shown_site(spec.site)}")
    head = histories.log.head(folded.id)
    if head is not None and head.imported:
        click.echo("  imported from another store")
    for given in spec.inputs:
        click.echo(f"  {given.name} = {brief(histories.describe(given.value))}")
    click.echo(f"  now: {'not born' if folded.state is None else sentence(folded.state)}")
    click.echo()
    for entry in found.history:
        _print_entry(entry, "")
    children = found.children
    shown = len(children) if everything else 20
    for child in children[:shown]:
        _print_tree(child, "  ", everything)
    if len(children) > shown:
        click.echo(f"\n  ... and {len(children) - shown} more calls: --all shows them")


def _print_tree(run: RecordedRun, indent: str, everything: bool) -> None:
    folded = run.folded
    spec = folded.birth
    site = f"   {shown_site(spec.site)}" if spec.site else ""
    click.echo(f"\n{indent}{spec.kind} {spec.name}/{spec.run_name}   {short_id(folded.id)}{site}")
    history = run.history
    cut = len(history) > 24 and not everything
    for entry in history[:12] if cut else history:
        _print_entry(entry, indent)
    if cut:
        click.echo(f"{indent}     ... {len(history) - 16} entries ...")
        for entry in history[-4:]:
            _print_entry(entry, indent)
    for child in islice(run.children, None if everything else 20):
        _print_tree(child, indent + "  ", everything)


def _print_entry(entry: Entry, indent: str) -> None:
    click.echo(f"{indent}{entry}")


def brief(text: str) -> str:
    """A text cut to 100 characters."""
    return text if len(text) <= 100 else f"{text[:97]}..."


# --- why ------------------------------------------------------------------------------------------------


@click.command()
@click.argument("run")
@AS_JSON
@click.pass_obj
def why(desk: Any, run: str, as_json: bool) -> None:
    """
    Explain RUN: the chain of verdicts that led to its state.

    Names each rule that changed, refused or delayed something; for a call that was made although it may
    be cached, the part of its key that differs from the nearest earlier one; for a flow that failed, the
    calls that made it so.
    """
    histories: Histories = desk.log
    reasons = list(_reasons(asked_run(histories, run)))
    if as_json:
        click.echo(json.dumps(reasons, indent=2, ensure_ascii=False))
        return
    for reason in reasons:
        click.echo(f"{'  ' * int(reason['depth'])}{reason['text']}")


def _reasons(run: RecordedRun, depth: int = 0) -> Iterator[dict[str, Any]]:
    folded = run.folded
    spec, state = folded.birth, folded.state
    assert state is not None

    def reason(text: str, entry: Entry | None = None) -> dict[str, Any]:
        named = {} if entry is None else {"seq": entry.seq, "by": entry.by, "why": entry.why}
        return {"run": run.id, "depth": depth, "text": text, **named}

    yield reason(f"{spec.kind} {spec.name}/{spec.run_name} ({short_id(folded.id)}) is {sentence(state)}.")
    depth += 1
    for entry in run.history:
        if isinstance(entry, Ruling):
            verb = "refused" if entry.until is None else f"put off until {stamp(entry.until)}"
            yield reason(f"{entry.seq}: rule {entry.by} {verb} {sentence(entry.asked)}: {entry.why}", entry)
            continue
        if entry.asked is not None:
            text = f"{entry.seq}: rule {entry.by} made {sentence(entry.to)} of {sentence(entry.asked)}"
            yield reason(f"{text}: {entry.why}" if entry.why else text, entry)
        if isinstance(entry.to, Retrying) and entry.to.cause == "interrupted":
            yield reason(
                f"{entry.seq}: the process that made the call died in the middle of it; it is made again", entry
            )
        if entry.facts.uncached:
            yield reason(f"{entry.seq}: not cached: {entry.facts.uncached}", entry)
        elif entry.facts.key and entry.facts.hit is None and not entry.to.final:
            yield reason(f"{entry.seq}: {_miss(run, entry)}", entry)
        for option, answer in (entry.facts.answers or {}).items():
            yield reason(f"{entry.seq}: {option} answered {answer}", entry)
    if isinstance(state, Failed) and state.cause == "in_doubt":
        yield reason("The process died while the call was under way; on_interrupt='fail' ended it.")
    if isinstance(state, Failed | TimedOut):
        for child in run.children:
            if child.state.is_failed():
                yield from _reasons(child, depth)
        return
    for child in islice(run.children, 200):
        told = list(_reasons(child, depth))
        if len(told) > 1:  # something was decided about it
            yield from told


def _miss(run: RecordedRun, entry: Transition) -> str:
    """Which part of the key differs from the nearest earlier call of the same task that stored a result."""
    parts = entry.facts.parts or {}
    best: dict[str, str] | None = None
    for other in run.histories.runs(name=run.folded.birth.name, limit=200):
        if other == run or other.folded.born > entry.at:
            continue
        known = next((e.facts.parts for e in other.transitions if e.facts.parts), None)
        if known is None:
            continue
        if best is None or _alike(known, parts) > _alike(best, parts):
            best = known
    if best is None:
        return f"cache miss: no earlier call has a key like {entry.facts.key}"
    changed = sorted(name for name in {*parts, *best} if parts.get(name) != best.get(name))
    if not changed:
        return "cache miss: an earlier call had the same key, but its result had expired, was not recorded, or was not there yet"
    told = ", ".join(f"{name} ({_short(best.get(name))} -> {_short(parts.get(name))})" for name in changed)
    return f"cache miss: changed since the nearest earlier call: {told}"


def _alike(one: dict[str, str], other: dict[str, str]) -> int:
    return sum(1 for name, digest in one.items() if other.get(name) == digest)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:8]

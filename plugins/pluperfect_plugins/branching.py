"""``pluperfect fork`` and ``pluperfect diff``: another way from some event on, and how two runs differ."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

import click

from pluperfect.comparing import CallDifference, Diff
from pluperfect.errors import FailedRun
from pluperfect.histories import RecordedRun, id_text
from pluperfect.sites import shown_site
from pluperfect.transitions import Run, sentence
from pluperfect.trees import Event

from .columns import columns
from .options import AS_JSON, asked_run
from .reading import brief

__all__ = ["diff", "fork"]


@click.command()
@click.argument("run")
@click.option(
    "--at",
    "number",
    type=int,
    metavar="N",
    help="Share the events up to N (show RUN --events lists them). Default: all.",
)
@click.option(
    "--set",
    "values",
    metavar="PLACE=JSON",
    multiple=True,
    help="The call at this place gives this: fetch:2=[1,2]. May be repeated.",
)
@click.option(
    "--fail", "failures", metavar="PLACE=MESSAGE", multiple=True, help="The call at this place fails. May be repeated."
)
@click.option(
    "--flow", metavar="MODULE:FLOW", help="The flow: module:flow or file.py:flow. Default: what the record names."
)
@AS_JSON
@click.pass_obj
def fork(
    desk: Any,
    run: str,
    number: int | None,
    values: tuple[str, ...],
    failures: tuple[str, ...],
    flow: str | None,
    as_json: bool,
) -> None:
    """
    Begin a new run that shares the beginning of RUN, and carry it out for good.

    What had ended by event N is answered from RUN; --set and --fail put other outcomes in the place of recorded ones; all
    else is carried out. Exits with 1 if the new run fails.
    """
    log = desk.log
    overrides: dict[str, Any] = {}
    for text in values:
        place, value = _pair(text, "--set", "PLACE=JSON")
        try:
            overrides[place] = json.loads(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is no JSON: {error}.", param_hint="--set") from error
    for text in failures:
        place, message = _pair(text, "--fail", "PLACE=MESSAGE")
        overrides[place] = FailedRun(message)
    found = asked_run(log, run)
    with log, redirect_stdout(sys.stderr if as_json else sys.stdout):
        try:
            made = found.fork(number, overrides, flow=flow)
        except IndexError as error:
            raise click.BadParameter(str(error), param_hint="--at") from error
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        state = made.state
        told = {
            "id": made.id,
            "name": made.name,
            "state": state.kind,
            "message": state.message,
            "forked": {"run": found.id, "at": made.folded.birth.forked.at if made.folded.birth.forked else 0},
        }
        shown = repr(made)
    click.echo(json.dumps(told, indent=2, ensure_ascii=False) if as_json else shown)
    if not state.is_completed():
        sys.exit(1)


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    place, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not {form}.", param_hint=option)
    return place.strip(), value


@click.command()
@click.argument("run")
@click.argument("other", required=False)
@click.option("--exit-code", "tell", is_flag=True, help="Exit with 1 if the two differ.")
@AS_JSON
@click.pass_obj
def diff(desk: Any, run: str, other: str | None, tell: bool, as_json: bool) -> None:
    """
    Hold RUN against OTHER: the first event at which they part, then the calls that differ in inputs, results or events.

    Calls are aligned by task and number. Without OTHER, a fork is held against the run that it was forked from.
    """
    one = asked_run(desk.log, run)
    if other is not None:
        another = asked_run(desk.log, other)
    else:
        forked = one.folded.birth.forked
        if forked is None:
            raise click.UsageError(f"{one!r} is no fork. Name the run that it is to be held against.")
        one, another = desk.log.run(id_text(forked.run)), one
    found = one.diff(another)
    if as_json:
        click.echo(json.dumps(_as_data(found), indent=2, ensure_ascii=False))
    else:
        _print(found)
    sys.exit(1 if tell and (found.first is not None or found.calls) else 0)


def _print(found: Diff) -> None:
    one, other = (_head(run) for run in found.runs)
    heads = (found.runs[0].name, found.runs[1].name)
    for line in columns(
        [one, f"took {_seconds(found.took[0])}"], [other, f"took {_seconds(found.took[1])}"], heads=heads
    ):
        click.echo(line)
    if found.first is None and not found.calls:
        click.echo(f"\nno difference; {_same(found)}")
        return
    if found.first is not None:
        click.echo(f"\nfirst differing event: {found.place or 'the flow itself'}\n")
        left, right = (_event(event) for event in found.first)
        for line in columns(left, right, heads=heads, mark=0):
            click.echo(line)
    if found.calls:
        click.echo("\ncalls that differ\n")
        rows = [row for call in found.calls for row in _rows(call)]
        for line in columns([row[0] for row in rows], [row[1] for row in rows], heads=heads):
            click.echo(line)
    click.echo(f"\n{_same(found)}")


def _same(found: Diff) -> str:
    return f"{found.same} call{' is' if found.same == 1 else 's are'} the same"


def _head(run: RecordedRun) -> str:
    return f"{sentence(run.state)}"


def _event(event: Event | None) -> list[str]:
    if event is None:
        return ["nothing"]
    spec = event.after.spec
    said = (
        "something unknown" if event.entry is None else str(event.entry).lstrip().partition(" ")[2].partition("  ")[2]
    )
    return [f"event {event.number}: {said}", shown_site(spec.site) if spec is not None else ""]


def _rows(call: CallDifference) -> list[tuple[str, str]]:
    name = call.place or "the flow itself"
    a, b = call.runs
    if a is None or b is None:
        return [(name if a is not None else f"{name}: not called", name if b is not None else f"{name}: not called")]
    rows = [(name, name)]
    for word, (ours, theirs) in call.inputs.items():
        rows.append((f"  {word} = {brief(ours)}", f"  {word} = {brief(theirs)}"))
    if call.results is not None:
        rows.append((f"  -> {brief(call.results[0])}", f"  -> {brief(call.results[1])}"))
    elif not call.inputs:
        rows.append((f"  {_path(a)}", f"  {_path(b)}"))
    rows.append((f"  took {_seconds(call.took[0])}", f"  took {_seconds(call.took[1])}"))
    return rows


def _path(run: Run) -> str:
    state = run.state
    retries = f", {run.spent} retried" if run.spent else ""
    return f"{'not born' if state is None else sentence(state)}{retries}"


def _seconds(took: float | None) -> str:
    return "so far: not ended" if took is None else f"{took:.3f} s"


def _as_data(found: Diff) -> dict[str, Any]:
    return {
        "runs": [{"id": run.id, "name": run.name, "state": run.state.kind} for run in found.runs],
        "took": list(found.took),
        "same": found.same,
        "first": None
        if found.first is None
        else {
            "place": found.place,
            "events": [
                None if event is None else {"event": event.number, "entry": str(event.entry)} for event in found.first
            ],
        },
        "calls": [
            {
                "place": call.place,
                "made": [run is not None for run in call.runs],
                "inputs": {name: list(pair) for name, pair in call.inputs.items()},
                "results": None if call.results is None else list(call.results),
                "took": list(call.took),
            }
            for call in found.calls
        ],
    }

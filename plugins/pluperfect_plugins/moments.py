"""A tree of runs as it was after one event, and its events one by one: ``show --at`` and ``show --events``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from pluperfect.histories import RecordedRun, id_text, short_id
from pluperfect.places import places
from pluperfect.transitions import Run, sentence, stamp
from pluperfect.trees import Event, Moment, Tree, due_at

from .reading import brief, entry_as_json, run_as_json

__all__ = ["at", "moment_lines", "names_at", "print_events", "print_moment"]

_MOST = 40


def at(tree: Tree, number: int) -> Moment:
    """
    The tree after an event that somebody named on the command line.

    Raises:
        BadParameter: There is no such event.
    """
    try:
        return tree.at(number)
    except IndexError as error:
        raise click.BadParameter(str(error), param_hint="--at") from error


def print_moment(run: RecordedRun, number: int, *, as_json: bool) -> None:
    """What was where after an event: the state of every run, what was running, due and waiting."""
    tree = run.tree
    moment = at(tree, number)
    if as_json:
        named = names_at(moment)
        shown = run_as_json(run, moment)
        shown["event"] = number
        shown["events"] = len(tree.events)
        shown["time"] = stamp(moment.at) if number else None
        shown["running"] = [named[one.id] for one in moment.running]
        shown["due"] = [{"call": named[one.id], "due": due_at(one)} for one in moment.due]
        shown["waiting"] = [
            {"call": named[one.id], "for": [named[other.id] for other in moment.blockers(one)]}
            for one in moment.waiting
        ]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    spec = run.folded.birth
    click.echo(f"{spec.kind} {spec.name}/{spec.run_name}   {run.id}")
    for given in spec.inputs:
        click.echo(f"  {given.name} = {brief(run.histories.describe(given.value))}")
    state = moment.state
    click.echo(f"  after event {number} of {len(tree.events)}: {'not born' if state is None else sentence(state)}")
    named = names_at(moment)
    if moment.event is not None:
        click.echo(f"\n{moment.event.line(named[moment.event.after.id])}")
    click.echo()
    for line in moment_lines(moment, named):
        click.echo(line)


def moment_lines(moment: Moment, named: dict[bytes, str], *, calls: bool = True) -> Iterator[str]:
    """The runs with their states, unless they are not wanted, then what was running, due and waiting."""
    if calls:
        yield from _runs(moment, named)
    if moment.running:
        yield f"  running: {_listed(named[run.id] for run in moment.running)}"
    if moment.due:
        yield f"  due:     {_listed(f'{named[run.id]} at {stamp(due_at(run) or 0.0)}' for run in moment.due)}"
    if moment.waiting:
        yield f"  waiting: {_listed(_waiting(moment, run, named) for run in moment.waiting)}"


def _runs(moment: Moment, named: dict[bytes, str]) -> Iterator[str]:
    calls = moment.runs
    shown = calls if len(calls) <= _MOST else [*calls[:3], *(run for run in calls[3:] if not run.final)][:_MOST]
    width = max((len(named[run.id]) for run in shown), default=0)
    for run in shown:
        state = run.state
        told = "not born" if state is None else sentence(state)
        yield f"  {named[run.id]:<{width}}  {told}"
    if len(shown) < len(calls):
        yield f"  ... and {len(calls) - len(shown)} more, {sum(run.final for run in calls)} of all have ended"


def _waiting(moment: Moment, run: Run, named: dict[bytes, str]) -> str:
    blockers = [named[other.id] for other in moment.blockers(run)]
    if blockers:
        return f"{named[run.id]} for {' and '.join(blockers)}"
    return f"{named[run.id]}, paused" if run.state is not None and run.state.is_paused() else named[run.id]


def names_at(moment: Moment) -> dict[bytes, str]:
    """What each run is called here: the one at the top by its name, what it called by their places."""
    top = moment.run
    named = {} if top.spec is None else {top.id: top.name}
    named.update((run.id, place) for place, run in places(moment).items())
    return {**{run.id: short_id(run.id) for run in moment.runs}, **named}


def _listed(words: Iterator[str]) -> str:
    found = list(words)
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


def print_events(run: RecordedRun, number: int | None, *, as_json: bool) -> None:
    """The events of a tree, up to one of them."""
    tree = run.tree
    moment = at(tree, len(tree.events) if number is None else number)
    named = names_at(moment)
    events = tree.events[: moment.number]
    if as_json:
        click.echo(json.dumps([_event(run, event, named) for event in events], indent=2, ensure_ascii=False))
        return
    width = max((len(named[event.after.id]) for event in events), default=0)
    for event in events:
        click.echo(event.line(named[event.after.id], width))


def _event(run: RecordedRun, event: Event, named: dict[bytes, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "event": event.number,
        "run": id_text(event.after.id),
        "call": named[event.after.id],
    }
    if event.entry is not None:
        shown["entry"] = entry_as_json(run.histories, event.entry)
    return shown

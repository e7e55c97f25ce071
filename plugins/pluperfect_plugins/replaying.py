"""What ``pluperfect replay`` and ``pluperfect check`` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from pluperfect.divergences import DIVERGED, EXTENDED, SAME, UNANSWERED, UNLOADABLE, Difference, Replay, Side, Upgrade
from pluperfect.errors import PluperfectError, UnknownRun
from pluperfect.sites import line_of, shown_site

from .columns import columns
from .options import AS_JSON, asked_run, moment

__all__ = ["check", "replay"]

_FLOW = "MODULE:FLOW"
_WORDS = (SAME, EXTENDED, DIVERGED, UNANSWERED, UNLOADABLE)


@click.command()
@click.argument("run", required=False)
@click.option("--flow", metavar=_FLOW, help="The flow: module:flow or file.py:flow. Default: what the record names.")
@click.option("--all", "everything", is_flag=True, help="Replay every flow that was called from outside.")
@click.option("--state", help="With --all: only runs in this state, for instance failed.")
@click.option("--name", help="With --all: only runs of the flow with this name.")
@click.option(
    "--since",
    metavar="WHEN",
    callback=moment,
    help="With --all: began since then: 2026-11-20, or so long ago: 12h, 7d.",
)
@click.option("--bodies", is_flag=True, help="Call the bodies of tasks too, and compare what they give.")
@click.option(
    "--task",
    "place",
    metavar="PLACE",
    help="Call the body of this task alone again: fetch, or fetch:2 for the third call.",
)
@click.option("--attempt", type=int, help="With --task: which attempt, from 1; the last one where left out.")
@click.option(
    "--iteration", type=int, help="With --task: which iteration of a loop, from 1; the last one where left out."
)
@click.option(
    "--input", "inputs", metavar="NAME=JSON", multiple=True, help="With --task: another input; may be repeated."
)
@click.option(
    "--pdb", "debug", is_flag=True, help="With --task: under the debugger, which stops at the first line of the body."
)
@click.option("--no-strict", is_flag=True, help="Let the code open sockets, start processes and write files.")
@AS_JSON
@click.pass_obj
def replay(
    desk: Any,
    run: str | None,
    flow: str | None,
    everything: bool,
    state: str | None,
    name: str | None,
    since: float | None,
    bodies: bool,
    place: str | None,
    attempt: int | None,
    iteration: int | None,
    inputs: tuple[str, ...],
    debug: bool,
    no_strict: bool,
    as_json: bool,
) -> None:
    """
    Lead the code of RUN again beside its record, and show where the two part. Nothing runs for good, nothing is recorded.

    Exits with 0 if the code does what is on record, or that and more; with 1 if it does something else; with 2 if that
    cannot be said, since there is no code, or a value that it needs is not on record.

    With --task, or where RUN is a task's, one body alone is called again, with what it was given then: 0 if it comes to what is
    on record, 1 if to something else.
    """
    many = everything or bool(state or name) or since is not None
    if place is not None or attempt is not None or iteration is not None or inputs or debug:
        if run is None or many or bodies:
            raise click.UsageError(
                "--task, --attempt, --iteration, --input and --pdb go with one RUN, and without --bodies."
            )
        from .retaking import print_retaken, read_inputs

        given = {"attempt": attempt, "iteration": iteration, "inputs": read_inputs(inputs), "flow": flow}
        sys.exit(
            print_retaken(desk.log, run, place, {**given, "strict": not no_strict, "debug": debug}, as_json=as_json)
        )
    if (run is None) != many:
        raise click.UsageError("Give a run, or --all, --state, --name or --since for many.")
    log = desk.log
    options: dict[str, Any] = {"flow": flow, "bodies": bodies, "strict": not no_strict}
    with _led():
        if run is not None:
            found = [log.replay(asked_run(log, run), **options)]
        else:
            try:
                found = list(log.replays(state=state, name=name, since=since, **options))
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="--state") from error
    if as_json:
        shown = [one.as_dict() for one in found]
        click.echo(json.dumps(shown if run is None else shown[0], indent=2, ensure_ascii=False))
    elif run is None:
        _print_matrix(found)
    else:
        _print_replay(found[0])
    sys.exit(_exit_code(found))


@contextmanager
def _led() -> Iterator[None]:
    """While code is led: what it prints is no answer of the command; and where there is none, nothing can be said."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except UnknownRun:
        raise
    except PluperfectError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


def _exit_code(found: Iterable[Replay]) -> int:
    outcomes = {one.outcome for one in found}
    if DIVERGED in outcomes:
        return 1
    return 2 if outcomes & {UNANSWERED, UNLOADABLE} else 0


def _print_replay(found: Replay) -> None:
    calls = sum(section.calls for section in found.sections)
    click.echo(f"{found.name}/{found.run_name}   {found.run}   {found.state}")
    click.echo(f"  {found.outcome}: {_sentence(found)}; {calls} call{'' if calls == 1 else 's'} compared")
    first = found.first
    if first is not None:
        click.echo()
        _print_difference(first)
        more = sum(len(section.differences) for section in found.sections) - 1
        if more:
            click.echo(
                f"\n  {more} more difference{'' if more == 1 else 's'} after it: --json shows {'it' if more == 1 else 'them'}."
            )
    for warning in dict.fromkeys(found.warnings):
        click.echo(f"  warning: {warning}")
    for name, taken in found.patches.items():
        click.echo(f"  patch {name!r}: {'taken' if taken else 'not taken, since this run was there before it'}")


def _sentence(found: Replay) -> str:
    reason = found.why or next((section.why for section in found.sections if section.why), "")
    return {
        SAME: "the code does what is on record",
        EXTENDED: "the code agrees up to the end of the record, and goes on beyond it",
        DIVERGED: "the code does something else than is on record",
        UNANSWERED: f"the code agrees as far as it can be led ({reason})",
        UNLOADABLE: reason,
    }[found.outcome]


def _print_difference(difference: Difference) -> None:
    click.echo(f"  first difference: {difference.part}")
    click.echo()
    left, right = _rows(difference.recorded, today=False), _rows(difference.replayed, today=True)
    names = dict.fromkeys((*difference.recorded.parts, *difference.replayed.parts))
    mark = len(left) if names else 0
    for name in names:
        left.append(f"{name} = {difference.recorded.parts.get(name, '')}")
        right.append(f"{name} = {difference.replayed.parts.get(name, '')}")
    for line in columns(left, right, heads=("recorded", "replayed"), mark=mark):
        click.echo(f"  {line}")
    if difference.advice:
        click.echo(f"\n  {difference.advice}")


def _rows(side: Side, *, today: bool) -> list[str]:
    return [side.what, _place(side.site), side.source if today else ""]


def _place(site: str) -> str:
    """A site by its file, where it is found: that is what an editor opens."""
    found = line_of(site) if site else None
    return shown_site(site) if found is None else shown_site(f"{found.file}:{found.number}")


def _print_matrix(found: list[Replay]) -> None:
    if not found:
        click.echo("No runs match.")
        return
    names = list(dict.fromkeys(one.name for one in found))
    words = [word for word in _WORDS if any(one.outcome == word for one in found)]
    width = max(len("flow"), *(len(name) for name in names))
    click.echo("  ".join([f"{'flow':<{width}}", *(f"{word:>10}" for word in words)]))
    for name in names:
        counts = [sum(one.name == name and one.outcome == word for one in found) for word in words]
        click.echo("  ".join([f"{name:<{width}}", *(f"{count or '-':>10}" for count in counts)]))
    for one in found:
        first = one.first
        if first is not None:
            told = f"{first.part}: {first.recorded.what} | {first.replayed.what}"
        elif one.outcome in (UNANSWERED, UNLOADABLE):
            told = _sentence(one)
        else:
            continue
        click.echo(f"\n{one.outcome} {one.name}/{one.run_name}   {one.run}\n  {told}")


@click.command()
@click.option("--flow", metavar=_FLOW, required=True, help="The flow whose code is new: module:flow or file.py:flow.")
@click.option(
    "--since",
    metavar="WHEN",
    callback=moment,
    help="Of ended runs, those that began since then: 2026-11-20, or 7d ago.",
)
@AS_JSON
@click.pass_obj
def check(desk: Any, flow: str, since: float | None, as_json: bool) -> None:
    """
    Say which runs of a flow may go on under its code as it is now, and which of its patches can go.

    Exits with 1 if a run that is under way would go another way than it has on record, with 2 if that cannot be said.
    """
    with _led():
        found: Upgrade = desk.log.check(flow, since=since)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print_upgrade(found)
    if any(one.outcome == DIVERGED for one in found.blocked):
        sys.exit(1)
    sys.exit(2 if found.blocked else 0)


def _print_upgrade(found: Upgrade) -> None:
    under_way = [one for one in found.replays if one.run in found.open]
    ended = [one for one in found.replays if one.run not in found.open]
    click.echo(f"{found.flow}: {len(under_way)} under way, {len(ended)} ended")
    for one in under_way:
        verdict = "may not go on" if one in found.blocked else "may go on"
        click.echo(f"\n{verdict:<13} {one.name}/{one.run_name}   {one.run}   {one.outcome}")
        first = one.first
        if first is not None:
            click.echo(f"  {first.part}: {first.recorded.what} | {first.replayed.what}")
        elif one.outcome in (UNANSWERED, UNLOADABLE):
            click.echo(f"  {_sentence(one)}")
    if ended:
        counts = ", ".join(f"{n} {word}" for word in _WORDS if (n := sum(one.outcome == word for one in ended)))
        click.echo(f"\nended: {counts}")
    for name, needed in found.patches.items():
        kept = len(found.retained[name])
        past = f"; {kept} ended without it" if kept else ""
        if needed:
            click.echo(f"patch {name!r}: {len(needed)} under way still need the old branch{past}")
        else:
            click.echo(f"patch {name!r}: no run under way needs the old branch, it can go{past}")

"""``pluperfect replay RUN --task``: one body called again, and held against what is on record."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import click

from pluperfect.histories import RecordedRun
from pluperfect.places import find_place
from pluperfect.states import Completed, Looped, Packed, State
from pluperfect.transitions import sentence

from .columns import columns
from .options import asked_run
from .reading import brief

__all__ = ["print_retaken", "read_inputs"]


def read_inputs(given: tuple[str, ...]) -> dict[str, Any]:
    """
    Inputs as the command line gives them: ``name=JSON``.

    Raises:
        BadParameter: One is not of that form.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            if not equals:
                raise ValueError("there is no =")
            found[name.strip()] = json.loads(value)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not NAME=JSON: {error}.", param_hint="--input") from error
    return found


def print_retaken(log: Any, run: str, place: str | None, how: Mapping[str, Any], *, as_json: bool) -> int:
    """Call a body again and say what it came to. The exit code: 0 the same, 1 something else."""
    recorded: RecordedRun = asked_run(log, run)
    if place is not None:
        try:
            recorded = RecordedRun(log, find_place(recorded.at(len(recorded.events)), place).id)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--task") from error
    try:
        with redirect_stdout(sys.stderr if as_json else sys.stdout):  # what the body prints is no part of the answer
            found = recorded.replay_task(**how)
    except LookupError as error:
        raise click.UsageError(str(error)) from error
    histories = recorded.histories
    if as_json:
        shown = {
            "run": recorded.id,
            "attempt": found.attempt,
            "iteration": found.iteration,
            "same": found.same,
            "inputs": {name: repr(value) for name, value in found.inputs.items()},
            "recorded": _words(histories, found.recorded),
            "now": _words(histories, found.now),
        }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0 if found.same else 1
    iteration = f", iteration {found.iteration}" if recorded.folded.loop_count > 1 else ""
    click.echo(
        f"task {recorded.folded.birth.name}/{recorded.name}   {recorded.id}   attempt {found.attempt}{iteration}"
    )
    for name, value in found.inputs.items():
        click.echo(f"  {name} = {brief(repr(value))}")
    click.echo(f"  {'the same' if found.same else 'something else'}")
    click.echo()
    left, right = _words(histories, found.recorded), _words(histories, found.now)
    for line in columns([left], [right], heads=("recorded", "now"), mark=None if found.same else 0):
        click.echo(f"  {line}")
    error = getattr(found.now, "error", None)
    if error is not None and error.traceback:
        click.echo(f"\n{error.traceback.rstrip()}\n{error.type}: {error.message}")
    return 0 if found.same else 1


def _words(histories: Any, state: State | None) -> str:
    if state is None:
        return "no end"
    if isinstance(state, Completed) and isinstance(state.data, Packed):
        return f"{sentence(state)}: {histories.describe(state.data)}"
    if isinstance(state, Looped) and isinstance(state.payload, Packed):
        return f"{sentence(state)}: {histories.describe(state.payload)}"
    return sentence(state)

"""``pluperfect test-from``: a pytest file from a recorded run, its outcomes as stubs."""

from __future__ import annotations

import ast
import base64
import builtins
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pluperfect.errors import PluperfectError
from pluperfect.histories import RecordedRun
from pluperfect.places import calls, places
from pluperfect.sites import shown_site
from pluperfect.states import (
    PICKLE,
    PLAIN,
    RESULT,
    Cached,
    Completed,
    Failed,
    Packed,
    State,
    TimedOut,
    codec_of,
    usable,
)
from pluperfect.transitions import Run
from pluperfect.trees import Event

from .options import NewFile, asked_run

__all__ = ["test_from", "test_of"]


@click.command("test-from")
@click.argument("run")
@click.option("--output", "-o", type=NewFile(), metavar="FILE", help="The file; otherwise to the terminal.")
@click.option("--force", is_flag=True, help="Write over a FILE that is there already.")
@click.pass_obj
def test_from(desk: Any, run: str, output: Path | None, force: bool) -> None:
    """
    Write a pytest file of RUN: its flow is called with the recorded parameters, its tasks answer with what is on record.

    The test holds that the flow makes the same calls with the same inputs, and ends in the same way. It needs nothing but
    pytest and the program: no body of a task is called, nothing sleeps.
    """
    recorded = asked_run(desk.log, run)
    text = test_of(recorded)
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists() and not force:
        raise click.UsageError(f"{output} is there already; nothing was written. Name another file, or say --force.")
    output.write_text(text, encoding="utf-8")
    click.echo(f"{output}: the test of run {recorded.name} ({recorded.id}), which ended as {recorded.state.kind}.")


def test_of(run: RecordedRun) -> str:
    """
    The text of a pytest file that holds a flow against one of its runs.

    Raises:
        PluperfectError: The run is no root flow run, has not ended by itself, or its parameters are not on record.
    """
    folded = run.folded
    spec, state = folded.birth, folded.state
    if spec.kind != "flow" or spec.parent is not None:
        raise PluperfectError(f"{run!r} is no flow that was called from outside; a test is written of a whole run.")
    if state is None or not state.final:
        raise PluperfectError(f"{run!r} has not ended. Resume it first, or write the test of another run.")
    if isinstance(state, TimedOut) or (
        isinstance(state, Failed) and state.cause in {"crashed", "cancelled", "in_doubt"}
    ):
        raise PluperfectError(f"{run!r} was ended from outside ({state}); its code alone does not come to that again.")
    return "".join(f"{line}\n" for line in _lines(run, folded))


def _lines(run: RecordedRun, folded: Run) -> Iterator[str]:
    spec, state = folded.birth, folded.state
    tree = run.tree
    found = places(tree.at(len(tree.events)), shared=True)
    outcomes: list[tuple[str, str]] = []
    live: list[str] = []
    for place, one in found.items():
        caller = found.get(place.rpartition("/")[0], folded)
        if one.birth.kind == "task" and caller.birth.kind == "flow":
            text = _outcome(run, one)
            if text is None:
                live.append(place)
            else:
                outcomes.append((place, text))
    parameters = [(given.name, _parameter(run, given.name, given.value)) for given in spec.inputs]
    ending = list(_ending(run, state))
    used = "\n".join([*(text for _, text in outcomes), *(text for _, text in parameters), *ending])
    helpers = {"calls", "play", *(name for name in ("error", "recorded") if re.search(rf"\b{name}\(", used))}
    module, _, name = spec.entry.rpartition(":")
    script = module.endswith(".py") or not name.isidentifier()
    yield f'"""Flow {spec.name}, as its run {run.name} is on record."""'
    yield ""
    yield f"from pluperfect.testing import {', '.join(sorted(helpers | ({'find'} if script else set())))}"
    if script:
        name = _word(spec.name)
        yield ""
        yield f"{name} = find({shown_site(f'{module}:0')[:-2] + ':' + spec.entry.rpartition(':')[2]!r})"
    else:
        yield ""
        yield f"from {module} import {name}"
    yield ""
    yield "PARAMETERS = {"
    for key, text in parameters:
        yield f"    {key!r}: {text},"
    yield "}"
    yield ""
    yield "OUTCOMES = {"
    for place, text in outcomes:
        yield f"    {place!r}: {text},"
    yield "}"
    yield ""
    yield "CALLS = ["
    for text in calls(run):
        yield f"    {text!r},"
    yield "]"
    yield ""
    yield ""
    yield f"def test_{_word(run.name)}(pluperfect_log):"
    more = f", live={live!r}" if live else ""
    yield f"    run = play({name}, PARAMETERS, OUTCOMES{more})"
    yield ""
    side_by_side = spec.forked is not None or _side_by_side(tree.events, folded.id)
    yield "    assert sorted(calls(run)) == sorted(CALLS)" if side_by_side else "    assert calls(run) == CALLS"
    for line in ending:
        yield f"    {line}"


# --- values ---------------------------------------------------------------------------------------------


def _literal(run: RecordedRun, packed: Packed) -> str:
    """A recorded value as Python: plain data as itself, all else as its bytes. Nothing is unpickled."""
    if packed.code == PLAIN:
        text = repr(run.histories.hooks.unpack(packed))
        try:
            if repr(ast.literal_eval(text)) == text:  # nan and infinity are no literals
                return text
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    return f"recorded({codec_of(packed)!r}, {base64.b64encode(packed.data).decode()!r})"


def _parameter(run: RecordedRun, name: str, packed: Any) -> str:
    if not usable(packed):
        raise PluperfectError(f"No test can be written of {run!r}: its parameter {name!r} is not on record.")
    return _literal(run, packed)


def _outcome(run: RecordedRun, one: Run) -> str | None:
    """What a call of a task came to, as Python; None where that is not on record, so that it has to be carried out."""
    state = one.state
    if isinstance(state, Failed | TimedOut):
        return _error(state)
    data = getattr(state, "data", None)
    if data is None and isinstance(state, Cached) and state.source is not None:
        data = run.histories.recorded_data(*state.source)
    if not isinstance(data, Packed) or data.code == RESULT or not usable(data):
        return None
    return _literal(run, data)


def _error(state: Failed | TimedOut) -> str:
    error = state.error
    if error is None:
        return f"error({'pluperfect.errors.FailedRun'!r}, {state.message!r})"
    kind = getattr(builtins, error.type, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and _says(kind, error.message):
        return f"{error.type}({error.message!r})"
    data = error.data
    packed = f", {base64.b64encode(data.data).decode()!r}" if isinstance(data, Packed) and data.code == PICKLE else ""
    return f"error({error.type!r}, {error.message!r}{packed})"


def _says(kind: type[Exception], message: str) -> bool:
    """Whether an exception that is made of its message says it again; others have more in them than that."""
    try:
        return str(kind(message)) == message and not message.startswith("[Errno")
    except Exception:
        return False


def _ending(run: RecordedRun, state: State | None) -> Iterator[str]:
    if not isinstance(state, Completed | Cached):
        assert state is not None
        yield "assert run.state.is_failed()"
        if state.message:
            yield f"assert run.state.message == {state.message!r}"
        return
    yield "assert run.state.is_completed()"
    data = state.data
    if isinstance(data, Packed) and usable(data) and data.code != RESULT:
        literal = _literal(run, data)
        yield (
            f"assert run.state.data == {literal}"
            if literal.startswith("recorded(")
            else f"assert run.result() == {literal}"
        )


def _side_by_side(events: Sequence[Event], top: bytes) -> bool:
    """Whether calls were under way at the same time: they may be born in another order next time."""
    open_calls: set[bytes] = set()
    for event in events:
        run = event.after
        if run.id == top or run.spec is None or run.spec.kind == "flow":
            continue
        if run.final:
            open_calls.discard(run.id)
        elif run.id not in open_calls:
            if any(other != run.spec.parent for other in open_calls):
                return True
            open_calls.add(run.id)
    return False


def _word(text: str) -> str:
    """A text as a part of a name."""
    word = re.sub(r"\W+", "_", text).strip("_")
    return word if word and not word[0].isdigit() else f"run_{word}"


test_from.__test__ = test_of.__test__ = False  # type: ignore[reportAttributeAccessIssue] - what begins with test is not always one

"""``pluperfect step``: through the events of a run and of all that it called, forward and backward."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from pluperfect.histories import RecordedRun, id_text
from pluperfect.sites import line_of, shown_site
from pluperfect.states import Cached, Completed, Looped
from pluperfect.transitions import Ruling, Transition, sentence, stamp
from pluperfect.trees import Event

from .expressions import BadExpression, Expression
from .moments import at, moment_lines, names_at
from .options import asked_run
from .reading import brief

__all__ = ["NAMES", "Stepper", "step", "values_of"]

NAMES: Final = (
    "n",
    "seq",
    "at",
    "time",
    "kind",
    "name",
    "run_name",
    "call",
    "run",
    "state",
    "label",
    "cause",
    "message",
    "error",
    "asked",
    "by",
    "why",
    "refused",
    "delayed",
    "final",
    "attempt",
    "iteration",
    "generation",
    "map_index",
    "tags",
)
"""The names of an event that an expression may use."""

_HELP: Final = """\
  n  Enter  right   the next event             p  left    the one before
  g N               event N (also 0, and -1 for the last)
  f EXPR  /         on to the next event for which the expression holds
  b EXPR  ?         back to the one before for which it holds
  .                 the last search again
  t                 the whole tree as it is here
  v                 the values of this event in full, with the traceback
  l                 the events around this one
  h                 this text                  q          the end

  An expression compares the names of an event, as in Python:
  state == "Failed" and name in ["fetch", "load"]      by == "retries" or refused
  names: {names}"""

_KEY_WORDS: Final = {
    "\x1b[C": "n",
    "\x1b[B": "n",
    "\x1bOC": "n",
    " ": "n",
    "\r": "n",
    "\n": "n",
    "\x1b[D": "p",
    "\x1b[A": "p",
    "\x1bOD": "p",
    "/": "f",
    "?": "b",
    "\x04": "q",
}


@click.command()
@click.argument("run")
@click.option("--at", "number", type=int, metavar="N", help="Begin at event N; otherwise at the first.")
@click.option("--until", metavar="EXPR", help="Begin at the first event for which the expression holds.")
@click.pass_obj
def step(desk: Any, run: str, number: int | None, until: str | None) -> None:
    """
    Go through the events of RUN and of all that it called, forward and backward.

    Beside each event stand the line that made the call, its inputs, what was asked and which rule said otherwise, the result,
    and what ran and waited then. In a terminal by keys (h shows them), otherwise by lines of stdin: n, p, g 12,
    f state == "Failed".
    """
    found: RecordedRun = asked_run(desk.log, run)
    stepper = Stepper(found, click.echo)
    at(stepper.tree, 0 if number is None else number)  # refused where there is none
    stepper.number = min(1, len(stepper.tree.events)) if number is None else number
    if until is not None:
        stepper.number = 0 if number is None else number
        try:
            stepper.search(until, forward=True)
        except BadExpression as error:
            raise click.BadParameter(str(error), param_hint="--until") from error
    else:
        stepper.show()
    for command in _typed(stepper) if sys.stdin.isatty() else _read():
        if not stepper.do(command):
            return


def _read() -> Iterator[str]:
    for line in sys.stdin:
        yield line.strip()


def _typed(stepper: Stepper) -> Iterator[str]:
    """Commands by single keys; those that need a word ask for it."""
    while True:
        click.echo(f"({stepper.number}/{len(stepper.tree.events)}) ", nl=False)
        try:
            keys = _keys()
        except KeyboardInterrupt:
            keys = ["q"]
        for key in keys:
            word = _KEY_WORDS.get(key, key)
            click.echo(word)
            if word in {"g", "f", "b"}:
                try:
                    word += " " + click.prompt({"g": "event", "f": "on to", "b": "back to"}[word])
                except click.Abort:
                    click.echo()
                    continue
            yield word


def _keys() -> list[str]:
    """The keys that were pressed, as soon as there are any. What was typed ahead is kept."""
    try:
        import termios
        import tty
    except ImportError:  # another kind of terminal
        return [click.getchar()]
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSADRAIN)
    try:
        typed = os.read(terminal, 64).decode(errors="replace")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    return re.findall(r"\x1b[\[O].|.", typed, re.DOTALL) or ["q"]


class Stepper:
    """
    Where one is in a tree, and what the commands do there.

    Args:
        run: The run at the top of the tree.
        echo: Prints a line.
    """

    def __init__(self, run: RecordedRun, echo: Callable[[str], Any]) -> None:
        self.run, self.tree, self.echo = run, run.tree, echo
        self.number: int = 0
        self._named = names_at(self.tree.at(len(self.tree.events)))
        self._last: tuple[str, bool] | None = None

    def do(self, command: str) -> bool:
        """Carry out one command; False at the end."""
        word, _, rest = command.partition(" ")
        word, rest = (word[:1], word[1:]) if word[:1] in {"/", "?"} and not rest else (word, rest.strip())
        try:
            match word:
                case "n" | "next" | "":
                    self.go(self.number + 1)
                case "p" | "prev" | "previous":
                    self.go(self.number - 1)
                case "g" | "goto":
                    self.go(self._numbered(rest))
                case "f" | "/" | "b" | "?":
                    self.search(rest, forward=word in {"f", "/"})
                case ".":
                    if self._last is None:
                        raise BadExpression("Nothing was looked for yet: f EXPR looks on, b EXPR back.")
                    self.search(self._last[0], forward=self._last[1])
                case "t" | "tree":
                    self._tree()
                case "v" | "values":
                    self.show(whole=True)
                case "l" | "list":
                    self._around()
                case "h" | "help":
                    self.echo(_HELP.format(names=" ".join(NAMES)))
                case "q" | "quit":
                    return False
                case _:
                    self.echo(f"There is no command {word!r}; h shows those that there are.")
        except BadExpression as error:
            self.echo(str(error))
        return True

    def go(self, number: int) -> None:
        """Go to an event, and show it."""
        if not 0 <= number <= len(self.tree.events):
            self.echo("This is the last event." if number > 0 else "This is before the first event.")
            return
        self.number = number
        self.show()

    def search(self, text: str, *, forward: bool) -> None:
        """Go to the next event for which an expression holds, or to the one before."""
        holds = Expression(text, NAMES)
        self._last = (text, forward)
        events = self.tree.events
        ahead = range(self.number, len(events)) if forward else range(self.number - 2, -1, -1)
        for place in ahead:
            if holds(values_of(events[place], self._named)):
                self.go(place + 1)
                return
        self.echo(f"No event {'after' if forward else 'before'} this one has: {holds.text}")

    def _numbered(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise BadExpression(
                f"g takes the number of an event, 0 to {len(self.tree.events)}, not {text!r}."
            ) from error
        last = len(self.tree.events)
        if not -last - 1 <= number <= last:
            raise BadExpression(f"There is no event {number}: they are numbered from 0, before the first, to {last}.")
        return last + 1 + number if number < 0 else number

    # --- what is shown

    def show(self, *, whole: bool = False) -> None:
        """The event at hand, and what was going on."""
        total = len(self.tree.events)
        if not self.number:
            self.echo(f"before the first of {total} events: the run is not born")
            return
        event = self.tree.events[self.number - 1]
        for line in self._event(event, whole=whole):
            self.echo(line)
        moment = self.tree.at(self.number)
        for line in moment_lines(moment, self._named, calls=False):
            word, _, rest = line.strip().partition(":")
            self.echo(f"  {word:<9} {rest.strip()}")

    def _event(self, event: Event, *, whole: bool) -> Iterator[str]:
        run, entry = event.after, event.entry
        shown = str if whole else brief
        time = f"   {stamp(entry.at)}" if entry is not None else ""
        yield f"event {event.number} of {len(self.tree.events)}{time}   {self._named[run.id]}"
        if entry is None:
            yield "  recorded  something that this release does not know"
            return
        seq = f"entry {entry.seq} of {run.spec.kind} {run.name}" if run.spec is not None else f"entry {entry.seq}"
        if isinstance(entry, Transition):
            yield f"  recorded  {sentence(entry.to)}   ({seq})"
            if entry.asked is not None:
                yield f"  asked     {sentence(entry.asked)}"
        else:
            verb = "refused " if entry.until is None else "delayed "
            until = "" if entry.until is None else f" until {stamp(entry.until)}"
            yield f"  {verb}  {sentence(entry.asked)}{until}   ({seq})"
        if entry.by:
            yield f"  by        {entry.by}: {entry.why}" if entry.why else f"  by        {entry.by}"
        spec = run.spec
        if spec is not None:
            if spec.site:
                line = line_of(spec.site)
                yield f"  line      {shown_site(spec.site)}{'' if line is None else f'   {line.text}'}"
            for given in spec.inputs:
                yield f"  input     {given.name} = {shown(self.run.histories.describe(given.value))}"
        yield from self._given(event, shown, whole=whole)

    def _given(self, event: Event, shown: Callable[[str], str], *, whole: bool) -> Iterator[str]:
        """What the event brought: a result, a payload, an error."""
        state = event.state
        describe = self.run.histories.describe
        if isinstance(state, Completed):
            yield f"  result    {shown(describe(state.data))}"
        elif isinstance(state, Cached):
            data = state.data
            if data is None and state.source is not None:
                data = self.run.histories.recorded_data(*state.source)
            yield f"  result    {shown(describe(data))}"
        elif isinstance(state, Looped) and state.payload is not None:
            yield f"  payload   {shown(describe(state.payload))}"
        asked = None if event.entry is None else event.entry.asked
        error = getattr(state, "error", None) or getattr(asked, "error", None)
        if error is not None and whole:
            yield f"  error     {error.type}: {error.message}"
            for line in error.traceback.rstrip().splitlines():
                yield f"            {line}"

    def _tree(self) -> None:
        for line in moment_lines(self.tree.at(self.number), self._named):
            self.echo(line)

    def _around(self) -> None:
        first = max(self.number - 6, 0)
        for event in self.tree.events[first : self.number + 5]:
            here = ">" if event.number == self.number else " "
            self.echo(f"{here} {event.line(self._named[event.after.id])}")


def values_of(event: Event, named: dict[bytes, str]) -> dict[str, Any]:
    """What the names of an expression stand for at one event."""
    run, entry = event.after, event.entry
    spec = run.spec
    state = None if entry is None else entry.to
    told: Any = state if state is not None else None if entry is None else entry.asked
    error = getattr(told, "error", None)
    refused = isinstance(entry, Ruling) and entry.until is None
    return {
        "n": event.number,
        "seq": run.seq,
        "at": 0.0 if entry is None else entry.at,
        "time": "" if entry is None else stamp(entry.at),
        "kind": "" if spec is None else spec.kind,
        "name": "" if spec is None else spec.name,
        "run_name": "" if spec is None else spec.run_name,
        "call": named.get(run.id, ""),
        "run": id_text(run.id),
        "state": "" if state is None else state.kind,
        "label": "" if state is None else getattr(state, "name", state.kind),
        "cause": getattr(told, "cause", "") or "",
        "message": "" if told is None else told.message,
        "error": "" if error is None else error.type,
        "asked": "" if entry is None or entry.asked is None else entry.asked.kind,
        "by": "" if entry is None else entry.by,
        "why": "" if entry is None else entry.why,
        "refused": refused,
        "delayed": isinstance(entry, Ruling) and not refused,
        "final": state is not None and state.final,
        "attempt": run.attempt,
        "iteration": run.loop_count,
        "generation": 0 if spec is None else spec.generation,
        "map_index": None if spec is None else spec.map_index,
        "tags": [] if spec is None else list(spec.tags),
    }

"""
What rules would say, without a history: each is asked about runs made up for the purpose, row by row of the table.

The made-up runs are not blind guesses. Texts and numbers that stand in a rule's own code, or in the object that it belongs
to, go into tags, names, messages, options, attempts and counts, and the time goes through every hour of a week. Even so a
rule can stay silent here and speak in life: what is said of it is said of so many probes.
"""

from __future__ import annotations

import dis
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from msgspec import Struct

from .errors import ImpureRule, PluperfectError, SideEffect
from .hooks import Definition, Option
from .manager import Attending
from .marks import BUILTIN
from .purity import agree, watched
from .rulebook import Rules, code_of
from .rules import Proposal, Question, Verdict, settle
from .states import (
    PLAIN,
    Completed,
    Error,
    Failed,
    Input,
    Looped,
    Packed,
    Pending,
    Retrying,
    Running,
    Spec,
    State,
    TimedOut,
)
from .transitions import NO_FACTS, TABLE, Entry, Facts, Ruling, Run, Transition, fold

__all__ = ["Finding", "Probe", "Spoken", "check", "explain", "makers", "probes"]

Row = tuple[type[State] | None, type[State]]

_AT: Final = 1_800_000_000.0  # a Friday morning in January
_HOUR: Final = 3600.0
_ID: Final = bytes(range(16))
_FLOW: Final = bytes(range(1, 17))
_NULL: Final = Packed(PLAIN, b"\xc0")
_CAUSES: Final = (
    "error returned upstream validation trigger children cancelled crashed refused in_doubt diverged".split()
)
_HAS_DOCSTRING: Final = 0x4000000  # `inspect.CO_HAS_DOCSTRING`, which Python 3.14 brought
_MOST: Final = 24
"""Texts, and numbers, that are taken from one rule."""

PROPOSED: Final = frozenset((before, to) for before, row in TABLE.items() for to in row if to.kind != "Cached")
"""The rows that the engine itself proposes; a call is answered from a cache only where a rule says so."""


class Probe(Struct, frozen=True):
    """A run, a proposal, and the definition of its flow or task: what a rule is asked with."""

    run: Run
    proposal: Proposal
    definition: Definition | None

    @property
    def row(self) -> Row:
        """From which state to which."""
        return None if self.run.state is None else type(self.run.state), type(self.proposal.to)


class Spoken(Struct, frozen=True):
    """
    What one rule says to one row of the table.

    Attributes:
        rule: Its name.
        probes: How often it was asked.
        said: What it answered, in words, and how often.
        decided: How often it was the first to answer.
        raised: What it raised, once each.
    """

    rule: str
    probes: int
    said: Mapping[str, int]
    decided: int
    raised: tuple[str, ...]


class Finding(Struct, frozen=True):
    """
    Something that is wrong with the rules, or looks so.

    Attributes:
        rule: The rule; empty where it concerns them all.
        kind: ``silent``, ``shadowed``, ``raises``, ``illegal``, ``impure``; ``closed`` is a row that nobody can take.
        text: What is the matter.
        advice: What to do about it.
    """

    rule: str
    kind: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text} {self.advice}"


# --- what they are asked with -----------------------------------------------------------------------------


class _Words(Struct, frozen=True):
    """What the code of the rules speaks of."""

    texts: tuple[str, ...]
    numbers: tuple[float, ...]


def _words(attending: Attending) -> _Words:
    texts: dict[str, None] = {}
    numbers: dict[float, None] = {}
    seen: set[int] = set()

    def take(value: Any, depth: int = 0) -> None:
        if depth > 4 or id(value) in seen:
            return
        if isinstance(value, str):
            if 0 < len(value) <= 80:
                texts[value] = None
        elif isinstance(value, bool) or value is None:
            return
        elif isinstance(value, int | float):
            if 0 <= value < 1e9:
                numbers[value] = None
        elif isinstance(value, Mapping):
            for key, held in list(value.items())[:50]:  # type: ignore[reportUnknownArgumentType]
                take(key, depth + 1)
                take(held, depth + 1)
        elif isinstance(value, list | tuple | set | frozenset):
            for held in list(value)[:50]:  # type: ignore[reportUnknownArgumentType]
                take(held, depth + 1)
        elif isinstance(value, MethodType):
            take(value.__self__, depth + 1)
            take(value.__func__, depth)
        elif isinstance(value, FunctionType):
            seen.add(id(value))
            function(value, depth)
        elif isinstance(value, CodeType):
            code(value, depth)
        elif not isinstance(value, type | ModuleType) and hasattr(value, "__dict__"):
            seen.add(id(value))
            kept: dict[str, Any] = {}
            for owner in (*reversed(type(value).__mro__[:-1]), value):
                kept.update(owner.__dict__)
            for name, held in kept.items():
                if not name.startswith("__") and not callable(held):
                    take(held, depth + 1)

    def function(fn: FunctionType, depth: int) -> None:
        code(fn.__code__, depth)
        for name in fn.__code__.co_names:  # what it looks up in its module: constants, helpers
            held = fn.__globals__.get(name)
            if isinstance(held, FunctionType) and held.__module__ != fn.__module__:
                continue
            take(held, depth + 1)
        for cell in fn.__closure__ or ():
            try:
                take(cell.cell_contents, depth + 1)
            except ValueError:
                continue
        take(fn.__defaults__, depth + 1)

    def code(found: CodeType, depth: int) -> None:
        documented = found.co_flags & _HAS_DOCSTRING if sys.version_info >= (3, 14) else True
        doc = found.co_consts[0] if documented and found.co_consts and isinstance(found.co_consts[0], str) else None
        for constant in found.co_consts:
            if constant is not doc:
                take(constant, depth)
        if "LOAD_SMALL_INT" in dis.opmap:  # from Python 3.14 on these are no constants
            for one in dis.get_instructions(found):
                if one.opname == "LOAD_SMALL_INT":
                    take(one.arg, depth)

    for impl in attending.reviewers:
        if impl.plugin in BUILTIN:
            continue  # the probes are made for them as it is
        owner: Any = getattr(impl.call, "__self__", None)
        if owner is not None:
            take(owner)
        for fn in code_of([impl.call]):
            take(fn)
    return _Words(tuple(texts)[:_MOST], tuple(numbers)[:_MOST])


def probes(rules: Rules) -> Iterator[Probe]:
    """Made-up proposals for every row of the table, for these rules."""
    words = _words(rules.speaking(None))
    counts = sorted({1, 2, 3, *(int(n) + d for n in words.numbers if n < 10_000 for d in (0, 1) if n + d >= 1)})[:10]
    hours = [_AT + hour * _HOUR for hour in range(168)]
    days = hours[::24]
    tags = [words.texts, ()] if words.texts else [()]
    plain = [_Kind(kind, tagged, {}, rules.options(kind)) for kind in ("task", "flow") for tagged in tags]
    chosen = [
        _Kind(kind, words.texts, options, declared)
        for kind in ("task", "flow")
        for declared in [rules.options(kind)]
        for options in _chosen(declared, words)
    ]
    named = [_Kind("task", (text,), {}, {}, text) for text in words.texts]
    for before, row in TABLE.items():
        for to in row:
            for kind in plain:
                for place, run in enumerate(_runs(kind, before, counts)):
                    for state in _asked(kind, run, to, words, counts):
                        yield _probe(run, state, _AT)
                        if not place:
                            yield _probe(run, state, _AT, kind.definition)
            for kind in plain[::2]:
                for run in _runs(kind, before, counts[:1]):
                    for state in islice(_asked(kind, run, to, words, counts[:1]), 2):
                        yield from (_probe(run, state, at) for at in hours)
            for kind in chosen:
                for run in islice(_runs(kind, before, counts), 6):
                    for state in _asked(kind, run, to, words, counts[:2]):
                        yield _probe(run, state, _AT, kind.definition)
                        yield _probe(run, state, _AT)
            for kind in named:
                for run in _runs(kind, before, counts[:1]):
                    for state in _asked(kind, run, to, words, counts[:1]):
                        yield from (_probe(run, state, at) for at in days)


def _probe(run: Run, state: State, at: float, definition: Definition | None = None) -> Probe:
    facts = NO_FACTS
    if isinstance(run.state, Pending) and isinstance(state, Running) and run.birth.kind == "task" and at == _AT:
        facts = Facts(key="a key", hit=(_FLOW, 3)) if definition is None else NO_FACTS
    return Probe(run, Proposal(state, at, facts), definition)


class _Kind:
    """One sort of run."""

    def __init__(
        self,
        kind: str,
        tags: tuple[str, ...],
        options: dict[str, Any],
        declared: Mapping[str, Option],
        name: str = "probe",
    ) -> None:
        root = _ID if kind == "flow" else _FLOW
        parent = None if kind == "flow" else _FLOW
        self.spec: Spec = Spec(
            kind, name, name, f"{name}-0", root, parent, tags=tags, options=options, inputs=(Input("x", None, _NULL),)
        )
        every = {option.name: option.default for option in declared.values()} | options
        self.definition: Definition = Definition(kind, name, fn=_nothing, options=every, tags=tags)


def _nothing() -> None:
    """The function of a flow or task that was made up."""


def _chosen(declared: Mapping[str, Option], words: _Words) -> Iterator[dict[str, Any]]:
    """Options: none set; and for each value that could mean something to a rule, all that take it."""
    candidates = [3, "probe", *(n + d for n in words.numbers[:6] for d in (0, 1)), *words.texts[:4]]
    for candidate in candidates:
        found: dict[str, Any] = {}
        for name, option in declared.items():
            if option.check is None:
                continue
            try:
                value = option.check(candidate)
            except Exception:  # it says no
                continue
            if isinstance(value, str | int | float):
                found[name] = value
        if found:
            yield found


def _runs(kind: _Kind, before: type[State] | None, counts: Sequence[int]) -> Iterator[Run]:
    """Runs in this state, each with a history of its own."""
    spec = kind.spec
    if before is None:
        yield Run(_ID)
        return
    birth = Pending(spec=spec)
    if before is Pending:
        yield fold(_ID, _entries(birth))
        return
    last: list[State]
    error = Error("builtins.OSError", "it failed", "", None)
    for count in counts:
        begun = Running(attempt=count)
        if before is Running:
            yield fold(_ID, _entries(birth, begun))
            if count > 1:
                tried: list[State] = []
                for attempt in range(1, min(count, 6)):
                    tried += [Running(attempt=attempt), Retrying(cause="error", due=_AT, error=error)]
                yield fold(_ID, _entries(birth, *tried, Running(attempt=min(count, 6))))
                yield fold(
                    _ID, _entries(birth, Running(), Looped(count=count - 1, payload=_NULL), Running(loop_count=count))
                )
            continue
        if before is Retrying:
            last = [Retrying(cause=c, due=_AT, error=error) for c in ("error", "timeout", "requested", "interrupted")]
        else:
            last = [Looped(count=count, payload=_NULL)]
        for state in last:
            yield fold(_ID, _entries(birth, begun, state))


def _entries(*states: State) -> Iterator[Transition]:
    for seq, state in enumerate(states, 1):
        yield Transition(seq, _AT - 10 + seq, state)


def _asked(kind: _Kind, run: Run, to: type[State], words: _Words, counts: Sequence[int]) -> Iterator[State]:
    """States that might be asked for."""
    if to is Pending:
        yield Pending(spec=kind.spec)
    elif to is Running:
        yield Running(attempt=run.attempt + 1 if isinstance(run.state, Retrying) else 1, loop_count=run.loop_count)
    elif to is Completed:
        yield Completed(data=_NULL)
    elif to is Looped:
        for count in counts:
            yield Looped(count=count, payload=_NULL)
    elif to is TimedOut:
        yield TimedOut("it took too long", 1.0, 1.5, Error("pluperfect.errors.RunTimeout", "it took too long"))
    elif to is Retrying:
        for cause in ("requested", "paused", "interrupted"):
            yield Retrying(cause=cause, due=_AT + 1)
    elif to is Failed:
        for cause in _CAUSES:
            yield Failed(cause=cause, message=f"it ended: {cause}")
        message = " ".join(["it failed:", *words.texts])
        for name in ("builtins.OSError", *(text for text in words.texts if text.isidentifier())):
            yield Failed(cause="error", message=message, error=Error(name, message))
    else:
        yield to()


# --- what they say ------------------------------------------------------------------------------------------


def _alike(reason: str) -> str:
    """A reason with its numbers left open, so that those that are alike are counted together."""
    return re.sub(r"\d+", "N", reason)


def _said(verdict: Verdict) -> str:
    if verdict.to is not None:
        label = str(getattr(verdict.to, "name", verdict.to.kind))
        state = label if label == verdict.to.kind else f"{label} ({verdict.to.kind})"
        return f"records {state}{f': {_alike(verdict.why)}' if verdict.why else ''}"
    if verdict.refuse is not None:
        return f"refuses: {_alike(verdict.refuse)}"
    if verdict.delay is not None:
        return f"delays{f': {_alike(verdict.why)}' if verdict.why else ''}"
    return f"asks the option {verdict.ask!r}"


def explain(rules: Rules, before: type[State] | None, to: type[State]) -> list[Spoken]:
    """What each rule says to one row of the table, in the order in which they are asked."""
    return _heard(rules, [probe for probe in probes(rules) if probe.row == (before, to)])


def _heard(rules: Rules, asked: Sequence[Probe]) -> list[Spoken]:
    said = {name: Counter[str]() for name in rules.names}
    raised: dict[str, dict[str, None]] = {name: {} for name in rules.names}
    decided = Counter[str]()
    each = _each(rules)
    for probe in asked:
        first = True
        for name, rule in each(probe.definition):
            try:
                verdict, _ = rule.review(probe.run, probe.proposal, probe.definition)
            except PluperfectError as error:
                raised[name][_cause(error)] = None
                verdict = None
            if verdict is not None:
                said[name][_said(verdict)] += 1
                decided[name] += first
                first = False
    return [Spoken(name, len(asked), said[name], decided[name], tuple(raised[name])) for name in rules.names]


def _each(rules: Rules) -> Callable[[Definition | None], list[tuple[str, Attending]]]:
    """The rules that speak to a definition, one by one."""
    known: dict[int, list[tuple[str, Attending]]] = {}

    def each(definition: Definition | None) -> list[tuple[str, Attending]]:
        found = known.get(id(definition))
        if found is None:
            impls = rules.speaking(definition).reviewers
            found = known[id(definition)] = [(impl.plugin, Attending((impl,), (), (), None)) for impl in impls]
        return found

    return each


def _cause(error: PluperfectError) -> str:
    cause = error.__cause__
    return f"{type(cause or error).__name__}: {cause or error}".partition("\n")[0]


# --- what is wrong with them ------------------------------------------------------------------------------


def check(rules: Rules, only: Iterable[str] | None = None) -> list[Finding]:
    """
    What is wrong with rules, as far as probes show it.

    Args:
        rules: All of them, in the order in which they are asked.
        only: The names of those to look at. Left out: all, and whether every row of the table can still be taken.
    """
    asked = list(probes(rules))
    names = set(rules.names if only is None else only)
    found: list[Finding] = []
    each = _each(rules)
    for name in rules.names:
        if name in names and name not in BUILTIN:
            found += _of_rule(name, each, asked)
    for spoken in _heard(rules, asked):
        if spoken.rule not in names or spoken.rule in BUILTIN:
            continue
        if not spoken.said and not any(one.rule == spoken.rule for one in found):
            found.append(
                Finding(
                    spoken.rule,
                    "silent",
                    f"Rule {spoken.rule!r} had no opinion on any of {spoken.probes:,} probes of all {len(_rows())} rows of the table.",
                    "If it waits for something that no probe has, show a case in its tests; else it can never speak.",
                )
            )
        elif spoken.said and not spoken.decided:
            found.append(
                Finding(
                    spoken.rule,
                    "shadowed",
                    f"Rule {spoken.rule!r} speaks in {sum(spoken.said.values()):,} of {spoken.probes:,} probes, and each time another"
                    " rule is asked first and decides.",
                    "Register it later, so that it is asked earlier, or have the other stand aside.",
                )
            )
    if only is None:
        found += _of_rows(rules, asked)
    return found


def _of_rule(
    name: str, each: Callable[[Definition | None], list[tuple[str, Attending]]], asked: Sequence[Probe]
) -> Iterator[Finding]:
    """Raises, answers what cannot be recorded, answers differently the second time."""
    kinds: dict[str, Finding] = {}
    answers: list[tuple[Attending, Probe, Verdict | None]] = []
    closely = Counter[Row]()

    def note(kind: str, probe: Probe, text: str, advice: str) -> None:
        before, to = probe.row
        row = f"{'nothing' if before is None else before.kind} -> {to.kind}"
        kinds.setdefault(kind, Finding(name, kind, f"Rule {name!r}, asked about {row}, {text}", advice))

    def answer(rule: Attending, probe: Probe) -> None:
        try:
            verdict, _ = rule.review(probe.run, probe.proposal, probe.definition)
        except (ImpureRule, SideEffect):
            raise
        except PluperfectError as error:
            at_birth = "Look at proposal.to before run.birth: at the birth there is no run yet."
            advice = at_birth if probe.run.state is None else "A rule that has no opinion returns None."
            note("raises", probe, f"raises {_cause(error)}.", advice)
            return
        answers.append((rule, probe, verdict))
        if verdict is None:
            return
        try:
            settled: Entry | Question = settle(probe.run, probe.proposal, verdict, name)
        except PluperfectError as error:
            text = str(error).partition("\n")[0]
            note(
                "illegal",
                probe,
                f"answers what cannot be recorded: {text}",
                "`pluperfect rules explain` has the moves.",
            )
        else:
            if isinstance(settled, Question) and probe.run.state is None:
                note("illegal", probe, "asks a question about a birth.", "Ask it when the run is to begin.")

    mine = [
        (rule, probe) for probe in asked for its_name, rule in each(probe.definition) if its_name == name
    ]  # fmt: skip
    try:
        with watched(name, closely=False):
            for rule, probe in mine:
                closely[probe.row] += 1
                if closely[probe.row] % 7 == 1:  # the profiler is slow; no rule reads a clock every seventh time
                    with watched(name):
                        answer(rule, probe)
                else:
                    answer(rule, probe)
            for rule, probe, verdict in reversed(answers):
                again, _ = rule.review(probe.run, probe.proposal, probe.definition)
                agree(name, probe.run, probe.proposal, verdict, again)
    except ImpureRule as error:
        text, _, advice = str(error).partition("\n")
        kinds["impure"] = Finding(name, "impure", text, advice.strip())
    yield from kinds.values()


def _rows() -> list[Row]:
    return [(before, to) for before, row in TABLE.items() for to in row]


def _of_rows(rules: Rules, asked: Sequence[Probe]) -> Iterator[Finding]:
    """Rows that nobody can take any more: no one proposes them, or whatever is proposed goes otherwise."""
    taken: set[Row] = set()
    stopped: dict[Row, str] = {}
    for probe in asked:
        try:
            verdict, by = rules.speaking(probe.definition).review(probe.run, probe.proposal, probe.definition)
            settled = settle(probe.run, probe.proposal, verdict, by)
        except PluperfectError as error:
            stopped.setdefault(probe.row, f"an error stops it in every probe: {_cause(error)}")
            continue
        row = probe.row
        if isinstance(settled, Transition):
            row = (row[0], type(settled.to))
            if row == probe.row and row not in PROPOSED:
                continue  # a probe may ask for it, the engine never does
        if isinstance(settled, Ruling) or row != probe.row:
            stopped.setdefault(probe.row, f"rule {by!r} has something against it in every probe.")
        if not isinstance(settled, Ruling) or row[0] is None:  # a birth is recorded even where it is refused
            taken.add(row)
    for before, to in _rows():
        if (before, to) not in taken:
            why = stopped.get((before, to), "no rule makes it, and the engine does not propose it.")
            row_told = f"{'nothing' if before is None else before.kind} -> {to.kind}"
            advice = "Narrow the rule." if (before, to) in stopped else "Is the plugin 'caching' switched off?"
            yield Finding(
                "", "closed", f"{row_told} cannot be taken any more: {why}", f"If that is not meant: {advice}"
            )


def makers(rules: Rules, before: type[State] | None, to: type[State]) -> dict[str, set[type[State]]]:
    """The rules that make ``to`` of another proposal, and of which."""
    found: dict[str, set[type[State]]] = {}
    for probe in probes(rules):
        if probe.row[0] is before and probe.row[1] is not to:
            with suppress(PluperfectError):
                verdict, by = rules.speaking(probe.definition).review(probe.run, probe.proposal, probe.definition)
                if verdict is not None and type(verdict.to) is to:
                    found.setdefault(by, set()).add(probe.row[1])
    return found

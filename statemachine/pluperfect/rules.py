"""
A proposal and a verdict make a transition, or an error that says why not.

A rule is a pure function of three things: the run as folded from its log, the proposal, and the
definition of the flow or task. It answers None (no opinion) or a Verdict. Whatever it wants to know of the
world, time first of all, stands on the proposal.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, final

from msgspec import Struct

from .errors import IllegalTransition, RuleError
from .states import Pending, State
from .transitions import NO_FACTS, TABLE, Entry, Facts, Ruling, Run, Transition, legal

__all__ = ["Proposal", "Question", "Verdict", "draw", "settle"]


class Proposal(Struct, frozen=True):
    """
    A state that somebody asks for.

    Attributes:
        to: The state.
        at: Now, UTC seconds since the epoch, read once by the engine. Rules have no other clock.
        facts: What the engine looked up for the rules: the cache hit, the answers of the user's callables.
    """

    to: State
    at: float
    facts: Facts = NO_FACTS


class Verdict(Struct, frozen=True, kw_only=True):
    """
    What a rule answers. Exactly one of the first four is given.

    Attributes:
        to: Record this state instead; the table must have the row.
        refuse: Refuse the proposal: the run stays where it is, its caller gets ``Refused`` with this reason.
        delay: Ask again after so many seconds; the wait is recorded.
        ask: The name of an option whose callable the engine shall ask; the answer arrives in
            ``proposal.facts.answers`` and the rule is asked again.
        why: The reason, for the record. ``refuse`` brings its own.
        about: With ``ask``: the state that the callable is told of, where it is not the proposed one.
        last: With ``ask``: put the question when the rules that are asked after this one have spoken. The callable is
            told the state that would be recorded; where they refuse, delay or ask themselves, that goes first.
    """

    to: State | None = None
    refuse: str | None = None
    delay: float | None = None
    ask: str | None = None
    why: str = ""
    about: State | None = None
    last: bool = False


@final
class Question(Struct, frozen=True):
    """A rule wants to know what the callable of an option says before it judges."""

    option: str
    by: str
    about: State | None = None
    """What it is asked about; None: the proposed state."""


def draw(run: Run) -> float:
    """
    A number in [0, 1) for the attempt that the run is in: the same whenever it is asked for.

    It is taken from a hash of the run's id, its iteration and its attempt, so that jitter needs no
    generator, differs between runs, and is the same when the history is judged again.
    """
    seed = b"%b/%d/%d/%d" % (run.id, run.loop_count, run.attempt, run.generation)
    return int.from_bytes(sha256(seed).digest()[:7], "big") / (1 << 56)


def settle(
    run: Run, proposal: Proposal, verdict: Verdict | None = None, by: str = "", epoch: int = 0
) -> Entry | Question:
    """
    Decide: what the log will hold of this proposal, given the verdict of the rule ``by`` (None: no rule spoke).

    ``epoch`` is the term of the writer that will record it.

    Raises:
        IllegalTransition: The table does not have the row.
        RuleError: The verdict says nothing, or more than one thing.
    """
    seq, facts = run.seq + 1, proposal.facts
    if verdict is None:
        to, state = proposal.to, run.state
        if type(to) not in TABLE[None if state is None else type(state)] or (type(to) is Pending and to.spec is None):
            _check(run, to, by)
        return Transition(seq, proposal.at, to, None, "", "", facts, epoch)
    return _spoken(run, proposal, verdict, by, epoch)


def _spoken(run: Run, proposal: Proposal, verdict: Verdict, by: str, epoch: int) -> Entry | Question:
    """What comes of a proposal to which a rule has spoken."""
    seq, facts = run.seq + 1, proposal.facts
    given = [name for name in ("to", "refuse", "delay", "ask") if getattr(verdict, name) is not None]
    if len(given) != 1:
        what = " and ".join(given) or "nothing"
        raise RuleError(
            f"Rule {by!r} gave a verdict with {what}; it must say exactly one of to, refuse, delay, ask."
            f" Return None where the rule has no opinion. Nothing was recorded."
        )
    said = getattr(verdict, given[0])
    if not isinstance(said, _KINDS[given[0]]) or isinstance(said, bool):
        raise RuleError(
            f"Rule {by!r} gave a verdict with {given[0]}={said!r}; {given[0]} is {_WANTED[given[0]]}."
            " Nothing was recorded."
        )
    if type(verdict.why) is not str:
        raise RuleError(f"Rule {by!r} gave a verdict with why={verdict.why!r}; why is a text. Nothing was recorded.")
    if verdict.ask is not None:
        return Question(verdict.ask, by, verdict.about)
    _check(run, proposal.to, "")
    if verdict.to is not None:
        _check(run, verdict.to, by)
        asked = None if verdict.to == proposal.to else proposal.to
        return Transition(seq, proposal.at, verdict.to, asked, by if asked else "", verdict.why, facts, epoch)
    if verdict.delay is not None:
        if not verdict.delay > 0:
            raise RuleError(f"Rule {by!r} delays by {verdict.delay!r} seconds; a delay must be greater than 0.")
        return Ruling(seq, proposal.at, proposal.to, by, verdict.why, proposal.at + verdict.delay, facts, epoch)
    return Ruling(seq, proposal.at, proposal.to, by, verdict.refuse or verdict.why, None, facts, epoch)


_KINDS: Final[Mapping[str, tuple[type[Any], ...]]] = {
    "to": (State,),
    "refuse": (str,),
    "delay": (int, float),
    "ask": (str,),
}
_WANTED: Final = {
    "to": "a state",
    "refuse": "the reason, a text",
    "delay": "a number of seconds, greater than 0",
    "ask": "the name of an option, a text",
}
_WAY_OUT: Final = "To do this work again, start a new run."


def _check(run: Run, to: State, by: str) -> None:
    state = run.state
    if legal(state, to) and not (type(to) is Pending and to.spec is None):
        return
    kind = "nothing" if state is None else state.kind
    if state is not None and state.final:
        advice = f"{kind} is final. {_WAY_OUT}"
    else:
        may = ", ".join(sorted(k.kind for k in TABLE[None if state is None else type(state)]))
        advice = f"From {kind} a run may go to: {may}."
    if type(to) is Pending and to.spec is None and state is None:
        advice = "A birth carries the Spec of the run: Pending(spec=...)."
    who = f'rule "{by}"' if by else "the engine or its caller"
    raise IllegalTransition(
        f"Run {run.id.hex()}, version {run.seq}: {kind} -> {to.kind} is not in the table.\n"
        f"  {advice}\n  Proposed by {who}. Nothing was recorded."
    )

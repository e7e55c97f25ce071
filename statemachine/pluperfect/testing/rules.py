"""
For the tests of rules: runs and proposals made by hand or by hypothesis, and what every rule has to hold, as tests.

    from pluperfect.testing.rules import RuleConformance, ask, running

    class TestNoFridays(RuleConformance):
        rule = NoFridays()

    def test_fridays_are_refused():
        assert ask(NoFridays(), pending(tags=["deploy"]), Running(), at="2026-11-20T12:00").refuse

The strategies need the package hypothesis, the suite needs pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..errors import PluginError
from ..hooks import Definition
from ..probing import Finding, Probe, check
from ..purity import agree, watched
from ..rulebook import Rules, alone, name_of
from ..rules import Proposal, Question, Verdict, settle
from ..states import (
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
from ..transitions import NO_FACTS, TABLE, Facts, Run, Transition, apply, fold

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = [
    "AT",
    "RuleConformance",
    "ask",
    "definitions",
    "looped",
    "pending",
    "probes",
    "proposals",
    "retrying",
    "running",
    "runs",
    "specs",
    "unborn",
]

AT: Final = 1_800_000_000.0
"""When it is in these tests, where nothing else is said, UTC seconds since the epoch: a Friday morning."""

_ID: Final = bytes(range(16))
_PARENT: Final = bytes(range(1, 17))
_NULL: Final = Packed(PLAIN, b"\xc0")


# --- by hand --------------------------------------------------------------------------------------------


def _spec(kind: str, name: str, tags: Iterable[str], options: Mapping[str, Any], **given: Any) -> Spec:
    root, parent = (_ID, None) if kind == "flow" else (_PARENT, _PARENT)
    return Spec(kind, name, name, f"{name}-0", root, parent, tags=tuple(tags), options=dict(options), **given)


def _run(spec: Spec, *states: State) -> Run:
    born: State = Pending(spec=spec)
    entries = [Transition(seq, AT - 10 + seq, state) for seq, state in enumerate((born, *states), 1)]
    return fold(_ID, entries)


def unborn() -> Run:
    """A run before its birth: the first proposal is about it."""
    return Run(_ID)


def pending(
    *, kind: str = "task", name: str = "fetch", tags: Iterable[str] = (), options: Mapping[str, Any] = {}, **given: Any
) -> Run:
    """
    A run that is born and not begun.

    Args:
        kind: ``"task"`` or ``"flow"``.
        name: The name of the flow or task.
        tags: Its tags.
        options: The options that it sets.
        given: Other fields of its `Spec`.
    """
    return _run(_spec(kind, name, tags, options, **given))


def running(*, attempt: int = 1, iteration: int = 1, spent: int | None = None, **given: Any) -> Run:
    """
    A run whose body is being called.

    Args:
        attempt: The attempt that it is in.
        iteration: The iteration that it is in.
        spent: How many retries of its budget are spent; as many as attempts were made before, where left out.
        given: As for `pending`.
    """
    spec = pending(**given).birth
    states: list[State] = []
    if iteration > 1:
        states += [Running(loop_count=iteration - 1), Looped(count=iteration - 1, payload=_NULL)]
    charged = attempt - 1 if spent is None else spent
    for tried in range(1, attempt):
        cause = "error" if tried <= charged else "requested"
        states += [Running(attempt=tried, loop_count=iteration), Retrying(cause=cause, due=AT)]
    return _run(spec, *states, Running(attempt=attempt, loop_count=iteration))


def retrying(*, attempt: int = 1, cause: str = "error", **given: Any) -> Run:
    """
    A run between two attempts.

    Args:
        attempt: The attempt that has ended.
        cause: Why there is another one.
        given: As for `running`.
    """
    run = running(attempt=attempt, **given)
    error = Error("builtins.OSError", "it failed")
    return apply(run, Transition(run.seq + 1, AT, Retrying(cause=cause, due=AT, error=error)))


def looped(*, count: int = 1, **given: Any) -> Run:
    """
    A run between two iterations.

    Args:
        count: The iteration that is done.
        given: As for `running`.
    """
    run = running(iteration=count, **given)
    return apply(run, Transition(run.seq + 1, AT, Looped(count=count, payload=_NULL)))


def ask(
    rule: Any,
    run: Run,
    to: State,
    *,
    at: float | str | datetime = AT,
    facts: Facts = NO_FACTS,
    definition: Definition | None = None,
) -> Verdict | None:
    """
    What a rule says to a proposal. It is asked twice, with files and network closed, and watched for clocks and chance.

    Args:
        rule: A plugin, a module, a class or a function with the arguments of ``review``.
        run: Of `pending`, `running` and the like.
        to: The state that is proposed.
        at: When: UTC seconds since the epoch, a datetime, or ISO 8601; UTC where it names no zone.
        facts: What the engine looked up.
        definition: The flow or task; None: the rule judges without its code.

    Raises:
        ImpureRule: It answers from more than this.
        RuleError: It raised, or gave no verdict.
    """
    hooks = alone(rule)
    name, asked = name_of(hooks), hooks.awake(None)
    proposal = Proposal(to, _seconds(at), facts)
    with watched(name):
        verdict, _ = asked.review(run, proposal, definition)
        again, _ = asked.review(run, proposal, definition)
    agree(name, run, proposal, verdict, again)
    return verdict


def _seconds(at: float | str | datetime) -> float:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if isinstance(at, datetime):
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    return at


# --- by hypothesis --------------------------------------------------------------------------------------


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError("pluperfect.testing.rules draws runs by hypothesis: pip install hypothesis.") from error
    return strategies


def _composed(draw: Callable[[DrawFn], Any]) -> SearchStrategy[Any]:
    return _strategies().composite(draw)()


def specs(*, tags: Sequence[str] = (), options: Mapping[str, Sequence[Any]] = {}) -> SearchStrategy[Spec]:
    """
    Specs of flows and tasks.

    Args:
        tags: Tags that a spec may have, besides drawn ones.
        options: Options that it may set, and the values that they may have.
    """
    st = _strategies()
    names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
    tagged = st.sampled_from(tags) | names if tags else names

    def draw_spec(draw: DrawFn) -> Spec:
        chosen = {name: draw(st.sampled_from(values)) for name, values in options.items() if draw(st.booleans())}
        inputs = tuple(Input(name, None, _NULL) for name in draw(st.lists(names, unique=True, max_size=2)))
        return _spec(
            draw(st.sampled_from(["task", "flow"])),
            draw(names),
            draw(st.lists(tagged, unique=True, max_size=3)),
            chosen,
            inputs=inputs,
            version=draw(st.none() | names),
        )

    return _composed(draw_spec)


_CAUSES: Final = (
    "error returned upstream validation trigger children cancelled crashed refused in_doubt diverged".split()
)


def _next(draw: DrawFn, run: Run, spec: Spec) -> State:
    """A state that the table has a row to."""
    st = _strategies()
    kinds = sorted(TABLE[None if run.state is None else type(run.state)], key=lambda kind: kind.code)
    kind = draw(st.sampled_from(kinds))
    text = draw(st.text(max_size=12))
    error = draw(st.none() | st.builds(Error, st.sampled_from(["builtins.OSError", "ValueError"]), st.just(text)))
    if kind is Pending:
        return Pending(spec=spec, due=draw(st.none() | st.just(AT + 60)))
    if kind is Running:
        again = isinstance(run.state, Retrying)
        return Running(attempt=run.attempt + 1 if again else 1, loop_count=run.loop_count)
    if kind is Retrying:
        cause = draw(st.sampled_from(["error", "timeout", "returned", "requested", "paused", "interrupted"]))
        return Retrying(text, cause, AT + draw(st.integers(0, 10_000)), error=error)
    if kind is Looped:
        return Looped(text, run.loop_count, _NULL)
    if kind is Completed:
        return Completed(text, _NULL)
    if kind is Failed:
        return Failed(text, draw(st.sampled_from(_CAUSES)), error)
    if kind is TimedOut:
        return TimedOut(text, 1.0, 1.5, error)
    return kind(text)


def runs(*, tags: Sequence[str] = (), options: Mapping[str, Sequence[Any]] = {}) -> SearchStrategy[Run]:
    """Runs that something may still be proposed of, unborn ones too. The arguments are those of `specs`."""
    st = _strategies()

    def draw_run(draw: DrawFn) -> Run:
        spec, run = draw(specs(tags=tags, options=options)), Run(draw(st.binary(min_size=16, max_size=16)))
        for _ in range(draw(st.integers(0, 8))):
            after = apply(run, Transition(run.seq + 1, AT - 100 + run.seq, _next(draw, run, spec)))
            if after.final:
                break
            run = after
        return run

    return _composed(draw_run)


def proposals(
    *, tags: Sequence[str] = (), options: Mapping[str, Sequence[Any]] = {}
) -> SearchStrategy[tuple[Run, Proposal]]:
    """Runs, and proposals of which the table has the row, at any hour. The arguments are those of `specs`."""
    st = _strategies()

    def draw_proposal(draw: DrawFn) -> tuple[Run, Proposal]:
        run = draw(runs(tags=tags, options=options))
        spec = run.spec or draw(specs(tags=tags, options=options))
        at = AT + draw(st.integers(0, 366 * 24 * 3600))
        return run, Proposal(_next(draw, run, spec), at, NO_FACTS)

    return _composed(draw_proposal)


def definitions(*, options: Mapping[str, Sequence[Any]] = {}) -> SearchStrategy[Definition]:
    """Definitions of flows and tasks; each has all of these options, with one of the values given for it."""
    st = _strategies()

    def draw_definition(draw: DrawFn) -> Definition:
        spec = draw(specs())
        chosen = {name: draw(st.sampled_from(values)) for name, values in options.items()}
        return Definition(spec.kind, spec.name, fn=definitions, options=chosen, tags=spec.tags, version=spec.version)

    return _composed(draw_definition)


def probes(rule: Any) -> list[Probe]:
    """The made-up proposals that ``pluperfect rules check`` asks a rule about: each has run, proposal and definition."""
    from ..probing import probes as made

    return list(made(Rules(alone(rule), None)))


# --- the suite ------------------------------------------------------------------------------------------


class RuleConformance:
    """
    What every rule has to hold. Subclass it, and give it the rule.

    Attributes:
        rule: A plugin, a module, a class or a function with the arguments of ``review``.
        speaks: A run and a state that is proposed of it to which the rule answers; None: any of `probes` may be it.
        tags: Tags that it looks for, so that drawn runs have them.
        options: Options that it looks at, with values that they may have.
    """

    rule: ClassVar[Any] = None
    speaks: ClassVar[tuple[Run, State] | None] = None
    tags: ClassVar[Sequence[str]] = ()
    options: ClassVar[Mapping[str, Sequence[Any]]] = {}

    def _rule(self) -> Any:
        rule = vars(type(self)).get("rule", self.rule)
        assert rule is not None, "Give the suite its rule: `rule = NoFridays()` in the class."
        return rule

    _found: ClassVar[tuple[Any, list[Finding]] | None] = None

    def _findings(self, kind: str) -> list[str]:
        own, rule = type(self), self._rule()
        if own._found is None or own._found[0] is not rule:  # one look answers several tests
            hooks = alone(rule)
            own._found = (rule, check(Rules(hooks, None), [name_of(hooks)]))
        return [str(found) for found in own._found[1] if found.kind == kind]

    def test_it_fits_the_hooks(self) -> None:
        """It can be registered as a plugin, and implements ``review``."""
        assert name_of(alone(self._rule()))

    def test_it_never_raises(self) -> None:
        """Whatever is proposed of whatever run, births too, it answers with a verdict or None."""
        assert not self._findings("raises")

    def test_its_answers_can_be_recorded(self) -> None:
        """The table has the rows to the states that it gives, and each verdict says one thing."""
        assert not self._findings("illegal")

    def test_it_is_pure(self) -> None:
        """It reads no clock, file, network or environment, draws no number, and answers the same when it is asked again."""
        assert not self._findings("impure")

    def test_it_speaks(self) -> None:
        """There is something that it has an opinion on."""
        if self.speaks is not None:
            run, to = self.speaks
            assert ask(self._rule(), run, to) is not None, "It has no opinion on what `speaks` names."
        else:
            assert not self._findings("silent"), "Name a case: `speaks = (pending(tags=[...]), Running())`."

    def test_it_holds_for_drawn_runs(self) -> None:
        """The same for runs that hypothesis draws and shrinks."""
        from hypothesis import given, settings
        from hypothesis import strategies as st

        hooks = alone(self._rule())
        name, asked = name_of(hooks), hooks.awake(None)
        found = proposals(tags=self.tags, options=self.options)
        defined = st.none() | definitions(options=self.options) if self.options else st.none()

        @settings(deadline=None, max_examples=200)
        @given(found, defined)
        def holds(case: tuple[Run, Proposal], definition: Definition | None) -> None:
            run, proposal = case
            with watched(name):
                verdict, _ = asked.review(run, proposal, definition)
                again, _ = asked.review(run, proposal, definition)
            agree(name, run, proposal, verdict, again)
            if verdict is not None and isinstance(settle(run, proposal, verdict, name), Question) and run.state is None:
                raise PluginError(f"Rule {name!r} asks a question about a birth.")

        holds()

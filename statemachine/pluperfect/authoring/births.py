"""How a call becomes a run: found in the log, where the same call in the same place was recorded, else born."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from ..course import Propose
from ..errors import Divergence, ParameterTypeError, PluperfectError, Refused
from ..rules import Proposal
from ..sites import call_site
from ..states import Completed, Input, Pending, Spec, usable
from ..transitions import Run
from ..values import Forked, Override
from . import outcomes
from .announce import announce_birth
from .arguments import each_run, holds_runs
from .clock import new_run_id
from .context import calling_frame, tags_at_hand
from .cues import differs
from .frames import Frame
from .futures import Future
from .inputs import inputs_of
from .names import child_id, keyed_id, slug
from .naming import name_run
from .sessions import Session
from .sharing import OVERRIDE, current_stubs, outcome_of, shared_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cues import Cues
    from .definitions import Authored
    from .logs import OpenLog, Terms

__all__ = ["Request", "born", "born_async", "refusal"]


class Request(Struct, frozen=True):
    """
    One call as it was made.

    Attributes:
        authored: The flow or task.
        args: The call's positional arguments.
        kwargs: The call's keyword arguments.
        wait_for: Runs to wait for before the body is called, whose results it does not take.
        place: The occurrence and name number of a mapped call, which all calls of one map share.
        map_index: Its place in the map.
        root_id: Go on with this root run.
        unpause: With ``root_id``: the paused runs under it go on too.
        forked: With ``root_id``: this root run is to be born, and shares the beginning of another one.
        here: The body is called in this process, whatever the runner: it makes calls itself.
        site: Where the call stands in the user's code. It is looked for when the request is made: a coroutine is begun
            elsewhere.
    """

    authored: Authored
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    wait_for: Any = ()
    place: tuple[int, int] | None = None
    map_index: int | None = None
    root_id: bytes | None = None
    unpause: bool = False
    forked: Forked | None = None
    here: bool = False
    site: str = field(default_factory=call_site)


class OutOfTurn(Exception):
    """A call that is not on record came while recorded ones of its body have yet to come."""

    def __init__(self, cues: Cues) -> None:
        super().__init__()
        self.cues = cues


async def born_async(request: Request) -> Frame:
    """The run of a call that may await those which were made before it when the body was led before."""
    try:
        return born(request, may_wait=True)
    except OutOfTurn as early:
        cues = early.cues
    await cues.new()
    return born(request)


class _Call(Struct):
    """
    A call whose arguments are bound and whose place is known: what a Spec and a Frame of it are made of.

    Attributes:
        arguments: By parameter.
        bad: Why they are not what the annotations ask for.
        inputs: The arguments as they are recorded.
        waits: Whether there are runs among them, or in ``wait_for``.
        level: The level of durability.
        key: The idempotency key of a root.
        index: Which call of this kind in the body of the caller it is.
        number: The number in its run name.
        run_id: Its id: that of its place, until another one is found for it among what is recorded.
        known: Whether it may be on record.
    """

    request: Request
    parent: Frame | None
    log: OpenLog
    terms: Terms
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    arguments: dict[str, Any]
    bad: ParameterTypeError | None
    inputs: tuple[Input, ...]
    waits: bool
    level: str
    key: str | None
    index: int
    number: int
    run_id: bytes
    known: bool

    def again(self, redo: int) -> bytes:
        """The id of the call where it was made so often before, each time to no use."""
        assert self.parent is not None
        return _id_of(self.request, self.parent, self.terms.definition.key, self.index, redo)

    def spec(self, session: Session, run_id: bytes) -> Spec:
        """What the run is born with."""
        request, parent, terms = self.request, self.parent, self.terms
        definition, around = terms.definition, tags_at_hand()
        name, tags = definition.name, definition.tags
        flow = definition.kind == "flow"
        return Spec(
            definition.kind,
            name,
            definition.key,
            slug(run_id) if flow else name if parent is None else f"{name}-{self.number}",
            session.root,
            None if parent is None else parent.run.id,
            self.index,
            request.map_index,
            0 if parent is None else parent.salt,
            self.inputs,
            terms.code,
            definition.version,
            tuple(sorted({*tags, *around})) if around else tags,
            terms.options,
            self.level,
            request.authored.entry if flow else "",
            _upstream(request, session, waits=self.waits),
            self.key,
            request.site,
            request.forked,
        )

    def frame(self, session: Session, run: Run, *, fresh: bool, kind: type[Frame] = Frame) -> Frame:
        """The frame in which the run is carried out."""
        request, parent = self.request, self.parent
        made = kind(
            session,
            self.terms,
            run,
            parent,
            self.args,
            self.kwargs,
            self.arguments,
            fresh,
            request.wait_for,
            self.waits,
        )
        if parent is not None:
            if parent.shared is not None and run.id == self.run_id:
                made.shared = parent.shared.below(
                    request.authored, (self.index, request.map_index, parent.salt), self.number
                )
        elif run.birth.forked is not None or current_stubs.get() is not None:
            made.shared = shared_by(self.log, run)
        return made


def _id_of(request: Request, parent: Frame, key: str, index: int, redo: int) -> bytes:
    """The id of a call in its place."""
    return child_id(parent.session.root, parent.run.id, key, index, request.map_index, parent.salt, redo)


def _called(request: Request) -> _Call:
    """
    Bind the arguments of a call, and find its place.

    Raises:
        ParameterBindError: The arguments do not fit the signature.
        ValueError: The options cannot hold there.
    """
    authored, args, kwargs = request.authored, request.args, request.kwargs
    parent = calling_frame()
    if parent is not None:
        parent.checkpoint()
        log = parent.log
    else:
        from .logs import nearest_log

        log = nearest_log()
    terms = log.terms(authored)
    definition = terms.definition
    options, flow = definition.options, definition.kind == "flow"
    if parent is not None and flow and options.get("idempotency_key") is not None:
        raise ValueError(
            f"Flow {authored.name!r} has an idempotency_key and is called inside of run {parent.run.name!r}. A key names a"
            " run of its own; inside of another run a call is found again by its place there. Call"
            f" {authored.name}.with_options(idempotency_key=None) here, and give the outermost flow the key."
        )
    arguments = terms.binder.bind(args, kwargs)
    level: str = options["durability"] or ("effect" if parent is None else parent.level)
    if level != "effect" and options["on_interrupt"] == "fail":
        raise ValueError(
            f"{authored.name} has on_interrupt='fail' (at most once), but runs at durability={level!r} inherited from its"
            " caller. Give it durability='effect'."
        )
    waits = bool(request.wait_for or holds_runs(args) or (kwargs and holds_runs(kwargs)))
    bad: ParameterTypeError | None = None
    if not waits and terms.check is not None:
        try:
            args, kwargs = terms.validated(args, kwargs)
        except ParameterTypeError as error:
            bad = error
        else:
            if args is not request.args or kwargs is not request.kwargs:
                arguments = terms.binder.bind(args, kwargs)
    inputs = inputs_of(arguments, log.hooks.pack, whole=flow, waits=waits)
    if parent is None:
        key: str | None = options.get("idempotency_key")
        run_id = request.root_id or (
            keyed_id(authored.name, key) if key is not None else new_run_id(log.clock.now())
        )  # fmt: skip
        index = number = 0
        known = (request.root_id is not None and request.forked is None) or key is not None
    else:
        key = None
        index, number = request.place or (parent.called or parent.children).place(definition.key, definition.name)
        run_id = _id_of(request, parent, definition.key, index, 0)
        known = not parent.fresh
    return _Call(
        request,
        parent,
        log,
        terms,
        args,
        kwargs,
        arguments,
        bad,
        inputs,
        waits,
        level,
        key,
        index,
        number,
        run_id,
        known,
    )


def _nothing() -> None:
    """Nothing comes first."""


def born(request: Request, *, may_wait: bool = False, first: Callable[[], None] = _nothing) -> Frame:
    """
    The run of a call: found in the log, where the same call in the same place was recorded, else born.

    Args:
        request: What is called, and with what.
        may_wait: The caller can wait where recorded calls of coroutines beside this one come first.
        first: Called before anything of the call goes on record at once: mostly its birth is held back, to travel with what
            comes next.

    Raises:
        OutOfTurn: They do; nothing was done.
        ParameterBindError: The arguments do not fit the signature.
        Divergence: The recorded call had other inputs.
        Refused: A rule refused the birth.
    """
    call = _called(request)
    parent, log = call.parent, call.log
    if log.script is not None:  # it is led again beside its record, which answers for everything
        return log.script.called(parent, call.run_id, request.authored, call.spec, call.frame)
    redo = term = 0
    if call.known:
        found = _recorded(call, may_wait=may_wait)
        if not isinstance(found, tuple):
            return found
        redo, term = found
    run_id = call.run_id
    override: Override | None = None
    if parent is not None and parent.shared is not None and not redo:
        place = (call.index, request.map_index, parent.salt)
        answer = parent.shared.answer(request.authored, place, call.number, call.inputs)
        if isinstance(answer, Run):  # it ended in the run that this one was forked from: nothing is written
            return call.frame(parent.session, answer, fresh=False)
        override = answer
    session = Session(log, run_id, term or 1, unborn=not term) if parent is None else parent.session
    spec = call.spec(session, run_id)
    newborn = call.frame(session, Run(run_id, spec=spec), fresh=parent is None or parent.fresh or redo > 0)
    obstacle = outcomes.failed(newborn, call.bad, "validation") if call.bad is not None else None
    if call.terms.template is not None and obstacle is None and not call.waits:
        name = name_run(newborn)
        if isinstance(name, str):
            newborn.run = Run(run_id, spec=_renamed(spec, name))
        else:
            obstacle = name
    _be_born(newborn, first)
    announce_birth(newborn)
    if override is not None:
        first()
        newborn.propose(Propose(outcome_of(override), by=OVERRIDE, why="so it was said when the run was begun"))
    elif obstacle is not None:
        first()
        newborn.propose(Propose(obstacle))
    return newborn


def _recorded(call: _Call, *, may_wait: bool) -> Frame | tuple[int, int]:
    """
    The run of a call that is on record; else how often such a call was made in vain before, and the term in which a root is
    carried out (0: nobody has claimed it). The call has the id under which it was found, or is to be born.
    """
    request, parent, log = call.request, call.parent, call.log
    authored, inputs = request.authored, call.inputs
    redo = term = 0
    # Asked for before the body records anything. Coroutines side by side may call one task in another order than before.
    cues = None if parent is None else parent.turns
    while True:
        run_id = call.run_id
        ahead = None if parent is None or redo else parent.ahead.take(run_id)
        run = log.load(run_id) if ahead is None else ahead
        if parent is None and not term and not run.final:
            term = log.log.claim(run_id, log.clock.now())
            continue  # what is recorded now is what stays
        if run.seq == 0:
            return redo, term
        if parent is None:
            session = Session(log, run_id, term, unpause=request.unpause)
            try:
                _compare(run, inputs, authored)
            except BaseException:
                session.release()
                raise
            return call.frame(session, run, fresh=False)
        made = cues is not None and cues.made(run_id)
        if made or differs(run.birth, inputs):
            alike = None if cues is None else cues.like(authored.key, request.map_index, inputs)
            if alike is not None:
                call.run_id = alike
                continue
            if may_wait and cues is not None and not made and cues.expects():
                parent.children.give_back(authored.key, authored.name)
                raise OutOfTurn(cues)
            flow = parent.flow
            if not made and (flow is None or flow.definition.options["on_divergence"] != "rerun"):
                _compare(run, inputs, authored)
            redo += 1
        elif (state := run.state) is not None and state.final and (
            call.terms.generates or (type(state) is Completed and not usable(state.data))
        ):  # fmt: skip
            redo += 1  # it ended, but what it gave is not on record: the call is made again, beside it
        else:
            if cues is not None:
                cues.call(run_id)
            return call.frame(parent.session, run, fresh=False)
        call.run_id = call.again(redo)


def _renamed(spec: Spec, name: str) -> Spec:
    from msgspec.structs import replace

    return replace(spec, run_name=name)


def _upstream(request: Request, session: Session, *, waits: bool) -> tuple[bytes, ...]:
    """The runs that the arguments come from: futures, states, and values that are known to be a run's."""
    found: dict[bytes, None] = {}
    if waits:
        for run, _ in each_run((request.args, request.kwargs, request.wait_for)):
            source = run.run_id if isinstance(run, Future) else run.of_run
            if source is not None:
                found[source] = None
    values = (*request.args, *request.kwargs.values()) if request.kwargs else request.args
    computed, yielded = session.sources.among(values), session.log.items.among(values)
    if not (found or computed or yielded):
        return ()
    return tuple(dict.fromkeys((*found, *computed, *yielded)))


def _be_born(frame: Frame, first: Callable[[], None]) -> None:
    """Propose the birth. It is recorded even where a rule refuses it: a request is always on record."""
    spec = frame.run.spec
    frame.run = Run(frame.run.id)
    proposal = Proposal(Pending(spec=spec), frame.log.clock.now())
    birth, ruling = frame.judge_birth(proposal)
    frame.hold_back(birth)
    if ruling is not None:
        first()
        frame.record((ruling,))
        if ruling.until is None:
            if frame.parent is not None:
                frame.parent.children.count(frame)
            else:
                frame.session.release()
                frame.session.finish()
            raise refusal(frame)


def _compare(run: Run, inputs: tuple[Input, ...], authored: Authored) -> None:
    """Refuse to go on with a recorded run whose inputs were other ones; show both calls."""
    spec = run.birth
    if not differs(spec, inputs):
        return
    from .logs import describe_call

    code = getattr(authored.fn, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    advice = (
        "Give another idempotency_key for another piece of work."
        if spec.parent is None
        else "Bring the code back to what was recorded, or let the flow have on_divergence='rerun' to make such calls anew."
    )
    raise Divergence(
        f"{authored.kind.capitalize()} {spec.name!r}, recorded as run {run.id.hex()}, is called with other inputs.\n"
        f"  recorded: {describe_call(spec.name, spec.inputs)}\n"
        f"  called:   {describe_call(authored.name, inputs)}{where}\n"
        f"  {advice}"
    )


def refusal(frame: Frame) -> PluperfectError:
    """The error for a run that a rule has stopped on its way."""
    run, ruling = frame.run, frame.run.ruling
    assert ruling is not None
    text = (
        f"{ruling.asked.kind} was refused for {run.birth.kind} run {run.birth.run_name!r} by {ruling.by}: {ruling.why}."
        f" The refusal is entry {ruling.seq} of run {run.id.hex()}."
    )
    return Refused(text, run=run.id.hex(), by=ruling.by, why=ruling.why)

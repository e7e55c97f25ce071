"""
Runs from birth to end: how a call becomes a run, and the two interpreters of its course.

The sync and the async interpreter perform the same effects and decide nothing; they differ in how they
wait. Whatever a run needs to know or record is the Frame's.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from contextvars import Token, copy_context
from typing import TYPE_CHECKING, Any

from ..course import Ask, Call, Course, Durable, Propose, Resolve, course
from ..errors import Divergence, MissingContextError, PluperfectError, Refused
from ..hooks import grumble
from ..rules import Proposal
from ..states import Completed, Failed, Pending, Spec, State, usable
from ..transitions import Run, Transition
from .clock import new_run_id
from .context import current_frame, current_tags
from .deadlines import call_within
from .frames import Frame, Session, inputs_of
from .futures import Future, each_future
from .names import child_id, keyed_id, slug

if TYPE_CHECKING:
    from .definitions import Authored

__all__ = ["born", "call", "call_async", "submit"]

# --- birth ----------------------------------------------------------------------------------------------


def born(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    place: tuple[int, int] | None = None,
    map_index: int | None = None,
    root_id: bytes | None = None,
) -> Frame:
    """
    The run of a call: found in the log, where the same call in the same place was recorded, else born.

    Args:
        authored: The flow or task.
        args: The call's positional arguments.
        kwargs: The call's keyword arguments.
        place: The occurrence and name number of a mapped call, which all calls of one map share.
        map_index: Its place in the map.
        root_id: Go on with this root run.

    Raises:
        ParameterBindError: The arguments do not fit the signature.
        Divergence: The recorded call had other inputs.
        Refused: A rule refused the birth.
    """
    from .logs import nearest_log

    parent = current_frame.get()
    log = nearest_log() if parent is None else parent.log
    if parent is not None:
        parent.checkpoint()
    definition = log.define(authored)
    arguments = authored.binder(args, kwargs)
    level = definition.options["durability"] or ("effect" if parent is None else parent.level)
    if level != "effect" and definition.options["on_interrupt"] == "fail":
        raise ValueError(
            f"{authored.name} has on_interrupt='fail' (at most once), but runs at durability={level!r} inherited from its"
            " caller. Give it durability='effect'."
        )
    inputs = inputs_of(arguments, log.hooks.pack, whole=authored.kind == "flow")
    key = definition.options.get("idempotency_key") if parent is None else None
    if parent is None:
        run_id = root_id or (keyed_id(authored.name, key) if key is not None else new_run_id(log.clock.now()))
        index = number = 0
        known = root_id is not None or key is not None
    else:
        index, number = place or parent.place(authored.key, authored.name)
        run_id = child_id(parent.session.root, parent.run.id, authored.key, index, map_index, parent.salt, 0)
        known = not parent.fresh

    def frame(session: Session, run: Run, *, fresh: bool) -> Frame:
        return Frame(
            session, definition, run, parent=parent, args=args, kwargs=kwargs, arguments=arguments, fresh=fresh
        )  # fmt: skip

    redo = 0
    while known:
        run = log.load(run_id)
        if run.seq == 0:
            break
        if parent is None:
            _compare(run, inputs, authored)
            head = log.log.head(run.id)
            assert head is not None
            return frame(Session(log, run_id, head.epoch + 1), run, fresh=False)
        if run.birth.inputs != inputs and _differs(run.birth, inputs):
            flow = parent.flow
            if flow is None or flow.definition.options["on_divergence"] != "rerun":
                _compare(run, inputs, authored)
            redo += 1
        elif run.final and isinstance(run.state, Completed) and not usable(run.state.data):
            redo += 1  # it completed, but its result is not on record: the call is made again, beside it
        else:
            return frame(parent.session, run, fresh=False)
        run_id = child_id(parent.session.root, parent.run.id, authored.key, index, map_index, parent.salt, redo)

    session = Session(log, run_id, 1) if parent is None else parent.session
    spec = Spec(
        authored.kind,
        authored.name,
        authored.key,
        slug(run_id) if authored.kind == "flow" else f"{authored.name}-{number}" if parent else authored.name,
        session.root,
        None if parent is None else parent.run.id,
        index,
        map_index,
        0 if parent is None else parent.salt,
        inputs,
        authored.code,
        authored.version,
        tuple(sorted({*authored.tags, *current_tags.get()})),
        log.recorded_options(definition),
        level,
        authored.entry if authored.kind == "flow" else "",
        tuple(found.frame.run.id for found in each_future((args, kwargs)) if isinstance(found, Future)),
        key,
    )
    made = frame(session, Run(run_id, spec=spec), fresh=parent is None or parent.fresh or redo > 0)
    obstacle = _name_run(authored, made)
    _be_born(made)
    if obstacle is not None:
        made.propose(Propose(obstacle))
    return made


def _be_born(frame: Frame) -> None:
    """Propose the birth. It is recorded even where a rule refuses it: a request is always on record."""
    spec = frame.run.spec
    frame.run = Run(frame.run.id)
    proposal = Proposal(Pending(spec=spec), frame.log.clock.now())
    birth, ruling = frame.judge_birth(proposal)
    frame.hold_back(birth)
    if ruling is not None:
        frame.record(ruling)
        if ruling.until is None:
            if frame.parent is not None:
                frame.parent.count(frame)
            else:
                frame.session.finish()
            raise refusal(frame)


def _name_run(authored: Authored, frame: Frame) -> Failed | None:
    """Evaluate the option that names the run; an error in it ends the run before it has begun."""
    template = frame.definition.options[f"{authored.kind}_run_name"]
    if template is None:
        return None
    token = current_frame.set(frame)
    try:
        if isinstance(template, str):
            name = template.format(**frame.arguments)
        else:
            wants = "parameters" in getattr(getattr(template, "__code__", None), "co_varnames", ())
            name = template(parameters=frame.arguments) if wants else template()
        if not isinstance(name, str):
            raise TypeError(f"{authored.kind}_run_name gave {name!r}; it must give a string.")
    except Exception as error:
        return frame.failed(error)
    finally:
        current_frame.reset(token)
    frame.rename(name)
    return None


def _differs(spec: Spec, inputs: tuple[Any, ...]) -> bool:
    """Whether two calls have inputs that are known to be different."""
    if [i.name for i in spec.inputs] != [i.name for i in inputs]:
        return True
    return any(
        a.digest is not None and b.digest is not None and a.digest != b.digest
        for a, b in zip(spec.inputs, inputs, strict=True)
    )


def _compare(run: Run, inputs: tuple[Any, ...], authored: Authored) -> None:
    """Refuse to go on with a recorded run whose inputs were other ones; show both calls."""
    spec = run.birth
    if not _differs(spec, inputs):
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


# --- the two interpreters -------------------------------------------------------------------------------


def drive(steps: Course, frame: Frame) -> Run:
    """Lead a run through its course, blocking where it has to wait."""
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(effect, Propose):
            answer = frame.propose(effect)
            for waiting in tell(frame, answer):
                finish_awaitable(waiting)
        elif isinstance(effect, Call):
            answer = _call_body(frame)
        elif isinstance(effect, Durable):
            answer = None if frame.ticket is None else frame.ticket.wait()
        elif isinstance(effect, Resolve):
            for future in frame.waits_for():
                future.wait()
            answer = frame.resolve(frame.definition.owner.binder)
        elif isinstance(effect, Ask):
            answer = _ask(frame, effect)
        else:
            frame.send()
            answer = frame.log.clock.sleep_until(effect.until)


async def drive_async(steps: Course, frame: Frame) -> Run:
    """Lead a run through its course, awaiting where it has to wait."""
    answer: Any = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(effect, Propose):
            answer = frame.propose(effect)
            if frame.untold and frame.ticket is not None and not frame.ticket.done:
                await _committed(frame.ticket)
            for waiting in tell(frame, answer):
                await waiting
        elif isinstance(effect, Call):
            answer = await _await_body(frame)
        elif isinstance(effect, Durable):
            answer = None if frame.ticket is None or frame.ticket.done else await _committed(frame.ticket)
        elif isinstance(effect, Resolve):
            for future in frame.waits_for():
                await _ended(future)
            answer = frame.resolve(frame.definition.owner.binder)
        elif isinstance(effect, Ask):
            answer = await _ask_async(frame, effect)
        else:
            frame.send()
            answer = await frame.log.clock.wait_until(effect.until)


def tell(frame: Frame, answer: Any) -> list[Any]:
    """Tell the recorders what was recorded, once it is durable. What they want awaited is given back."""
    if not frame.untold or not isinstance(answer, Run):
        return []
    if frame.ticket is not None:
        frame.ticket.wait()
    told, frame.untold = frame.untold, []
    waiting: list[Any] = []
    for run, transition in told:
        transition.to.read_with(frame.log.unpack)
        answers = frame.attending.notify(run, transition, frame.definition)
        waiting.extend(_guarded(awaitable, transition) for awaitable in answers)
    return waiting


async def _guarded(waiting: Any, transition: Transition) -> None:
    try:
        await waiting
    except Exception:
        grumble("recorded", transition)


def finish_awaitable(waiting: Any) -> Any:
    """Await this to its end from code that is not async, whether or not a loop runs in this thread."""
    import asyncio

    async def whole() -> Any:
        return await waiting

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:  # a sync task called inline by an async flow
        return pool.submit(copy_context().run, asyncio.run, whole()).result()


def _ask(frame: Frame, effect: Ask) -> Any:
    try:
        answer = frame.question(effect.option, effect.about)
        if hasattr(answer, "__await__"):
            answer = finish_awaitable(answer)
    except Exception as error:
        return frame.unanswered(effect.option, error)
    return frame.answered(effect.option, answer)


async def _ask_async(frame: Frame, effect: Ask) -> Any:
    try:
        answer = frame.question(effect.option, effect.about)
        if hasattr(answer, "__await__"):
            answer = await answer
    except Exception as error:
        return frame.unanswered(effect.option, error)
    return frame.answered(effect.option, answer)


async def _committed(ticket: Any) -> None:
    """Await a commit without blocking the event loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell_loop() -> None:
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    ticket.notify(tell_loop)
    await done
    ticket.wait()


async def _ended(future: Future[Any]) -> None:
    """Await the end of a call, whatever it is."""
    if not future.done():
        try:
            await future
        except Exception:
            if not future.done():
                raise


def _call_body(frame: Frame) -> State:
    began = frame.begin_body()
    authored = frame.definition.owner
    token = current_frame.set(frame)
    ended = False
    try:
        with ExitStack() as stack:
            for manager in frame.attending.contexts(frame.run, frame.definition):
                stack.enter_context(manager)
            if frame.limit and authored.kind == "task":
                value = call_within(frame.limit, lambda: authored.fn(*frame.args, **frame.kwargs), frame.abandoned)
            else:
                value = authored.fn(*frame.args, **frame.kwargs)
            for future in _left_open(frame):
                future.wait()
            frame.checkpoint()
        outcome = frame.returned(value)
        ended = True
    except BaseException as error:
        outcome = frame.raised(error, time.monotonic() - began)
        ended = True
    finally:
        frame.take_back(ended=ended)
        for future in _left_open(frame):
            future.wait()
        _leave(frame, token, ended=ended)
    return outcome


async def _await_body(frame: Frame) -> State:
    import asyncio

    began = frame.begin_body()
    authored = frame.definition.owner
    token = current_frame.set(frame)
    limiter = asyncio.timeout(frame.limit or None)
    ended = False
    try:
        with ExitStack() as stack:
            for manager in frame.attending.contexts(frame.run, frame.definition):
                stack.enter_context(manager)
            async with limiter:
                value = await authored.fn(*frame.args, **frame.kwargs)
            for future in _left_open(frame):
                await _ended(future)
            frame.checkpoint()
        outcome = frame.returned(value)
        ended = True
    except BaseException as error:
        elapsed = time.monotonic() - began
        passed = isinstance(error, TimeoutError) and limiter.expired()
        outcome = frame.timed_out(elapsed) if passed else frame.raised(error, elapsed)
        ended = True
    finally:
        frame.take_back(ended=ended)
        for future in _left_open(frame):
            await _ended(future)
        _leave(frame, token, ended=ended)
    return outcome


def _leave(frame: Frame, token: Token[Frame | None], *, ended: bool) -> None:
    """The body is done, and so is all that it has called, unless an error of the engine leaves the run open."""
    if ended:
        frame.end_resting()
    current_frame.reset(token)
    runner, frame.runner = frame.runner, None
    if runner is not None:
        runner.close()


def _left_open(frame: Frame) -> list[Future[Any]]:
    with frame.lock:
        return list(frame.open)


# --- calls ----------------------------------------------------------------------------------------------


class under_way:  # noqa: N801 - reads as what it says
    """While a direct call is under way its caller knows of it, to end it should its own time be up."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __enter__(self) -> None:
        if self._frame.parent is not None:
            self._frame.parent.active.add(self._frame)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        parent = self._frame.parent
        if parent is not None:
            parent.active.discard(self._frame)
            if kind is not None:
                parent.count(self._frame)  # interrupted on its way: it ends with its caller


def begin(frame: Frame) -> Course:
    """The course of a run that is born. A root that was found in the log waits for its new term first."""
    resumed = frame.parent is None and not frame.fresh
    return course(frame.run, intent=frame.level == "effect" or resumed)


def conclude(frame: Frame, *, return_state: bool) -> Any:
    """The answer of a call whose run came to rest: its value, its exception, or its state."""
    run, parent = frame.run, frame.parent
    if parent is None:
        frame.session.finish()
    else:
        parent.count(frame)
    state = run.state
    assert state is not None
    if not state.final:
        raise refusal(frame)
    state.read_with(frame.log.unpack)
    state.belongs_to(run.id)
    if return_state:
        live = state.live
        if isinstance(live, BaseException) and not isinstance(live, Exception):
            raise live
        return state
    return state.result()


def refusal(frame: Frame) -> PluperfectError:
    """The error for a run that a rule has stopped on its way."""
    run, ruling = frame.run, frame.run.ruling
    assert ruling is not None
    text = (
        f"{ruling.asked.kind} was refused for {run.birth.kind} run {run.birth.run_name!r} by {ruling.by}: {ruling.why}."
        f" The refusal is entry {ruling.seq} of run {run.id.hex()}."
    )
    return Refused(text, run=run.id.hex(), by=ruling.by, why=ruling.why)


def call(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    return_state: bool,
    root_id: bytes | None = None,
) -> Any:
    """Call a flow or task whose function is not async; with ``root_id``, go on with that root run."""
    turn = _turn(authored, root_id)
    if turn is not None:
        turn.acquire()
    try:
        frame = born(authored, args, kwargs, root_id=root_id)
        if not frame.run.final:
            with under_way(frame):
                drive(begin(frame), frame)
        return conclude(frame, return_state=return_state)
    finally:
        if turn is not None:
            turn.release()


async def call_async(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    return_state: bool,
    root_id: bytes | None = None,
) -> Any:
    """Call a flow or task whose function is async."""
    turn = _turn(authored, root_id)
    if turn is not None:
        import asyncio

        while not turn.acquire(blocking=False):  # the holder may be another coroutine of this very loop
            await asyncio.sleep(0.005)
    try:
        frame = born(authored, args, kwargs, root_id=root_id)
        if not frame.run.final:
            with under_way(frame):
                await drive_async(begin(frame), frame)
        if frame.parent is None and frame.ticket is not None and not frame.ticket.done:
            await _committed(frame.ticket)
        return conclude(frame, return_state=return_state)
    finally:
        if turn is not None:
            turn.release()


def _turn(authored: Authored, root_id: bytes | None) -> threading.Lock | None:
    """The lock of a root run that others of this process may be carrying out under the same id; mostly None."""
    if current_frame.get() is not None:
        return None
    key: str | None = authored.given.get("idempotency_key")
    if root_id is None:
        if key is None:
            return None
        root_id = keyed_id(authored.name, key)
    from .logs import nearest_log

    return nearest_log().turn(root_id)


def submit(
    authored: Authored,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    place: tuple[int, int] | None = None,
    map_index: int | None = None,
) -> Future[Any]:
    """
    Begin a call in the runner of the flow around it.

    Raises:
        MissingContextError: No flow runs here.
    """
    parent = current_frame.get()
    if parent is None or parent.flow is None:
        raise MissingContextError(
            f"{authored.name}.submit() needs a flow around it, whose runner makes the call. Call {authored.name}(...) directly,"
            " or submit it inside of a function decorated with @flow."
        )
    frame = born(authored, args, kwargs, place=place, map_index=map_index)
    for found in frame.waits_for():
        if found.frame is frame:
            raise ValueError(f"{authored.name} would wait for itself.")
    frame.send()
    context = copy_context()
    future: Future[Any] = Future(frame, lambda future: context.run(_carry_out, future))
    parent.took(future)
    if frame.run.final:
        _carry_out(future)
    else:
        runner_of(parent.flow).submit(future.run)
    return future


def runner_of(flow: Frame) -> Any:
    """The runner of a flow run, made when it is first needed."""
    with flow.lock:
        if flow.runner is None:
            wanted = flow.definition.options["task_runner"]
            if isinstance(wanted, str):
                flow.runner = flow.log.hooks.make_runner(wanted)
            else:
                made = wanted() if isinstance(wanted, type) else wanted
                flow.runner = made.duplicate() if hasattr(made, "duplicate") else made
        return flow.runner


def _carry_out(future: Future[Any]) -> None:
    frame = future.frame
    token = current_frame.set(frame.parent)
    try:
        if not frame.run.final:
            if frame.definition.owner.is_async:
                import asyncio

                asyncio.run(drive_async(begin(frame), frame))
            else:
                drive(begin(frame), frame)
        state = frame.run.state
        assert state is not None
        assert frame.parent is not None
        frame.parent.count(frame)
        state.read_with(frame.log.unpack)
        state.belongs_to(frame.run.id)
        future.settle(state if state.final else refusal(frame))
    except BaseException as error:
        future.settle(error)
    finally:
        current_frame.reset(token)

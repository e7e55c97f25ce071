"""
What the engine calls of a Prefect 1 task or flow: its body, its trigger, its handlers, the key of its results.

Each is an object, so that a task can be sent to a worker: only the body goes there, the others stay behind.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ... import states as modern
from ...authoring.context import current_frame
from ...authoring.logs import nearest_log
from ...authoring.signals import LOOP, NO_PAYLOAD, Signal
from ...consoles import run_logger
from ...histories import id_text
from ...transitions import SPENDING, Run
from ..engine import state as faces
from ..engine.signals import ENDRUN, SKIP, TRIGGERFAIL
from ..engine.state import State, failed, modern_of, state_of
from ..utilities.context import context

if TYPE_CHECKING:
    from .edge import Edge
    from .task import Task

__all__ = ["Body", "Calling", "Handlers", "Inert", "Naming", "RetryOn", "Trigger", "calling"]

GO: Final = "run"


class Calling:
    """
    One call of a task, while it is prepared and made.

    Attributes:
        task: The task.
        upstream: The states of what came before, by edge.
        inputs: The arguments by name.
        known: What its context holds, but for what the run itself says.
        instead: A signal that its body raises at once, instead of the user's code.
        refusal: Why it is not called at all.
        rows: Of a map: the calls of its children.
        remote: Whether the body is called in another process.
    """

    def __init__(self, task: Task, upstream: dict[Edge, State], inputs: dict[str, Any], known: dict[str, Any]) -> None:
        self.task, self.upstream, self.inputs, self.known = task, upstream, inputs, known
        self.instead: Signal | None = None
        self.refusal: modern.Failed | None = None
        self.rows: list[Calling] | None = None
        self.children: list[State] | None = None
        self.start: LOOP | None = None
        self.skip: SKIP | None = None
        self.quiet = False
        self.remote = False
        self.modern: Any = None
        self._answer: Any = None

    def decide(self) -> Any:
        """True, or the Failed to end with: what stands in the way, else what the trigger says. Asked once."""
        if self._answer is None:
            self._answer = self._decide()
        return self._answer

    def _decide(self) -> Any:
        if self.skip is not None:
            self.instead = self.skip
            return True
        if self.refusal is not None:
            return self.refusal
        if self.rows is None:  # a map's children ask for themselves
            try:
                with context(self.known):
                    if not self.task.trigger(self.upstream):
                        raise TRIGGERFAIL(f"The trigger of {self.task.name} says no.")
            except Signal as signal:
                return self._signalled(signal)
            except Exception as error:
                text = f"The trigger of {self.task.name} raised {type(error).__name__}: {error}"
                return failed(error, text, "trigger", "TriggerFailed")
        if self.start is not None and self.rows is None:
            self.instead, self.quiet = self.start, True
        return True

    def _signalled(self, signal: Signal) -> Any:
        if isinstance(signal, LOOP):
            text = f"The trigger of {self.task.name} raised LOOP, which only the body of a task can."
            return failed(TypeError(text), text, "trigger", "TriggerFailed")
        wanted = signal.state(_now)
        if wanted.is_failed():
            return failed(signal, wanted.message, "trigger", "TriggerFailed")
        self.instead = signal
        return True

    def begun_elsewhere(self, run: Run) -> None:
        """The run began in a process that died: what was decided there, and can be known again, is decided again."""
        if self._answer is None and self.skip is not None:
            self.instead = self.skip
        elif (
            self._answer is None
            and self.start is not None
            and self.rows is None
            and run.loop_count == 1
            and run.payload is None
        ):
            self.instead = self.start
        self._answer = True


calling: Final[ContextVar[Calling | None]] = ContextVar("pluperfect_classic_calling", default=None)
"""The call that is being prepared or made here."""


def log_here() -> Any:
    """The log of the run at hand, else the one that a run begun here is recorded in."""
    here: Any = current_frame.get()
    return nearest_log() if here is None else here.log


def _now() -> float:
    return log_here().clock.now()


def _nothing(*_: Any) -> None:
    return None


class Inert:
    """A callable that stays where it is: in a worker there is one that does nothing."""

    def __reduce__(self) -> Any:
        return _gone, ()


def _gone() -> Callable[..., None]:
    return _nothing


# --- the body -----------------------------------------------------------------------------------------------


class Body:
    """What the engine calls for a task: the user's ``run``, in its context."""

    __pluperfect_flow__ = None

    def __init__(self, task: Task, slug: str, module: str) -> None:
        self.task = task
        run: Any = task.run
        self.__name__, self.__qualname__ = task.name, f"{getattr(run, '__qualname__', task.name)}/{slug}"
        self.__module__ = module
        self.__doc__ = inspect.getdoc(run) or ""
        self.__signature__ = keywords(inspect.signature(run))

    @property
    def __code__(self) -> Any:
        found: Any = getattr(self.task.run, "__code__", None)
        return found if found is not None else getattr(getattr(self.task.run, "__func__", None), "__code__", None)

    def __call__(self, /, **inputs: Any) -> Any:
        """Call it, unless something was decided instead."""
        here: Any = current_frame.get()
        call = calling.get()
        if call is None:
            return called(self.task.run, inputs, own_context(here, {}))
        call.begun_elsewhere(here.run)
        if call.instead is not None:
            instead, call.instead, call.quiet = call.instead, None, True
            raise instead
        return called(self.task.run, inputs, own_context(here, call.known))

    def __reduce__(self) -> Any:
        here: Any = current_frame.get()
        call = calling.get()
        known = own_context(here, {} if call is None else call.known)
        for name in ("flow", "caches", "logger", "case", "_unused"):
            known.pop(name, None)
        return _Sent, (self.task.run, known)


class _Sent:
    """A body in a worker: the user's ``run``, and the context that it was sent with."""

    def __init__(self, run: Callable[..., Any], known: dict[str, Any]) -> None:
        self.run, self.known = run, known
        self.__name__ = getattr(run, "__name__", "run")
        self.__signature__ = keywords(inspect.signature(run))

    def __call__(self, /, **inputs: Any) -> Any:
        here: Any = current_frame.get()
        return called(self.run, inputs, {**self.known, "logger": run_logger(here.run)})


def called(run: Callable[..., Any], inputs: dict[str, Any], known: dict[str, Any]) -> Any:
    """Call this in this context. A LOOP without a number ends the iteration that the context speaks of."""
    with context(known):
        try:
            return run(**inputs)
        except LOOP as signal:
            if signal.loop_count is None:
                signal.loop_count = known["task_loop_count"]
            raise


def keywords(signature: inspect.Signature) -> inspect.Signature:
    """The signature with every parameter by keyword: edges have names."""
    made: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        keep = parameter.kind in (parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY)
        made.append(parameter if keep else parameter.replace(kind=parameter.KEYWORD_ONLY))
    return signature.replace(parameters=made)


def own_context(here: Any, known: dict[str, Any]) -> dict[str, Any]:
    """The context of the run at hand: what is known of its call, and what the run says itself."""
    run: Run = here.run
    made = {
        **known,
        "task_run_id": id_text(run.id),
        "task_run_name": run.name,
        "task_run_count": run.attempt,
        "logger": run_logger(run),
    }
    first = run.loop_count == 1 and here.live_payload is NO_PAYLOAD
    if not (first and "task_loop_count" in known):
        made["task_loop_count"] = run.loop_count
    if here.live_payload is not NO_PAYLOAD:
        made["task_loop_result"] = here.live_payload
    elif not first:
        made.pop("task_loop_result", None)
    if run.attempt > 1 and hasattr(here, "log") and _was_paused(here):
        made["resume"] = True
    return made


def _was_paused(here: Any) -> bool:
    """Whether this attempt began since somebody resumed the run."""
    here.log.flush()
    ended = [entry.to for entry in here.log.run(here.run.id.hex()).transitions if not entry.to.is_running()]
    return bool(ended) and ended[-1].is_paused()


# --- what is asked before a state is recorded ---------------------------------------------------------------


class Trigger(Inert):
    """The option ``trigger``."""

    def __call__(self, _task: Any, _run: Run, _about: modern.State) -> Any:
        call = calling.get()
        return True if call is None else call.decide()


class RetryOn(Inert):
    """The option ``retry_condition_fn``: only exceptions of these classes, and never an ENDRUN."""

    def __init__(self, classes: tuple[type[BaseException], ...]) -> None:
        self.classes = classes

    def __call__(self, _task: Any, _run: Run, state: modern.State) -> bool:
        error = state.live if isinstance(state.live, BaseException) else state.result(raise_on_failure=False)
        return not isinstance(error, ENDRUN) and (not self.classes or isinstance(error, self.classes))


class Naming(Inert):
    """The option ``task_run_name``: a template over the context and the inputs."""

    def __init__(self, template: str | Callable[..., str]) -> None:
        self.template = template

    def __call__(self, parameters: Mapping[str, Any]) -> str:
        call = calling.get()
        known = own_context(current_frame.get(), {} if call is None else call.known)
        return filled(self.template, known, parameters)


def filled(template: Any, known: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """A template, or what a callable gives, over the context and the inputs."""
    values = {**known, **inputs}
    return template.format(**values) if isinstance(template, str) else template(**values)


class Handlers(Inert):
    """
    The option ``state_handlers``: shows users' handlers the changes that Prefect 1 would make of one transition.

    Args:
        subject: The task or flow.
        handlers: Called ``(subject, old_state, new_state)``.
        outer: Called ``(runner, old_state, new_state)``, first.
        tell: Completes the state of a flow run that is shown.
    """

    def __init__(
        self,
        subject: Any,
        handlers: Iterable[Callable[..., Any]],
        outer: Iterable[Callable[..., Any]] = (),
        tell: Callable[[State], State] | None = None,
    ) -> None:
        self.subject, self.handlers, self.outer = subject, tuple(handlers), tuple(outer)
        self.tell = tell or (lambda state: state)

    def __call__(self, _owner: Any, run: Run, about: modern.State) -> Any:
        call = calling.get()
        try:
            with context({} if call is None else call.known):
                if isinstance(run.state, modern.Running):
                    return self._ended(run, about, call)
                return self._begins(run, about, call)
        except LOOP as signal:
            if not isinstance(run.state, modern.Running):
                return self._erred(TypeError("LOOP was raised by a state handler of a task that has not begun"))
            return modern.Looped(signal.message, signal.loop_count or run.loop_count, _packed(signal))
        except Signal as signal:
            wanted = signal.state(_now)
            return self._instead(wanted, signal, run, call)
        except Exception as error:
            return self._erred(error)

    def _erred(self, error: Exception) -> modern.State:
        text = f"A state handler of {self.subject.name} raised {type(error).__name__}: {error}"
        error.add_note("".join(traceback.format_exception_only(error)).strip())
        return failed(error, text, "error", "Failed")

    def _instead(self, wanted: modern.State, signal: Signal, run: Run, call: Calling | None) -> Any:
        """What a signal that a handler raised asks for, at this place in the table."""
        if wanted.is_failed():
            return failed(signal, wanted.message, "error", "Failed")
        if isinstance(run.state, modern.Running):
            return wanted
        return self._end_at_once(signal, call)

    def _end_at_once(self, signal: Signal, call: Calling | None) -> Any:
        if call is None or call.remote or not isinstance(call.task, object):
            why = "a state handler ends it before it begins, which is not possible where bodies are called in other processes"
            return failed(TypeError(why), why, "error", "Failed")
        call.instead = signal
        return GO

    def _chain(self, old: State, new: State) -> State:
        """Each handler in order sees the answer of the one before."""
        shown = self.tell(new)
        for handler in self.outer:
            shown = handler(_Runner(self.subject), old, shown) or shown
        for handler in self.handlers:
            shown = handler(self.subject, old, shown) or shown
            if not isinstance(shown, State):
                raise TypeError(f"a state handler gives a state or None, not {shown!r}")
        return shown

    def _begins(self, run: Run, about: modern.State, call: Calling | None) -> Any:
        was = run.state
        first = isinstance(was, modern.Pending)
        if call is not None and not first:
            call.quiet = False
        if first and call is not None and call.quiet:
            return None
        old = state_of(was, attempt=run.attempt) if isinstance(was, modern.Retrying) else faces.Pending()
        new = state_of(about)
        if first and call is not None and not about.is_failed():
            if call.instead is not None:
                new = state_of(_read(call.instead.state(_now)))
            elif call.rows is not None:
                new = faces.Mapped("Ready to be mapped.")
        got = self._chain(old, new)
        if got is new or (isinstance(got, faces.Running) and about.is_running()):
            if got is not new and call is not None:
                call.instead = None
            return None
        if got.is_failed():
            return modern_of(got, _now, cause="error")
        if isinstance(got, faces.Mapped) and isinstance(new, faces.Mapped):
            return None
        return self._end_at_once(_Given(got), call)

    def _ended(self, run: Run, about: modern.State, call: Calling | None) -> Any:
        if call is not None and (call.quiet or call.rows is not None):
            return None
        old = faces.Running()
        if not (isinstance(about, modern.Retrying) and about.cause in SPENDING):
            new = state_of(about, attempt=run.attempt)
            got = self._chain(old, new)
            return None if got is new else self._retried(got, new, run)
        kind = faces.TimedOut if about.cause == "timeout" else faces.Failed
        error = about.live if about.live is not None else about.error
        lost = kind(about.message, error.result if isinstance(error, Signal) else error)
        got = self._chain(old, lost)
        if not got.is_failed():
            return self._modern(got, run)
        waits = state_of(about, attempt=run.attempt)
        last = self._chain(got, waits)
        return None if last is waits else self._modern(last, run)

    def _retried(self, got: State, new: State, run: Run) -> Any:
        """A handler made a failure of something else: it is retried as any, while the budget lasts."""
        retries = getattr(self.subject, "max_retries", 0)
        if got.is_failed() and not new.is_failed() and run.spent < retries and type(got) is faces.Failed:
            delay = self.subject.retry_delay.total_seconds()
            due = round(_now() + delay, 6)
            made = modern_of(got, _now, cause="returned")
            waits = modern.Retrying(made.message, "returned", due, delay)
            face = state_of(waits, attempt=run.attempt)
            last = self._chain(got, face)
            return waits if last is face else self._modern(last, run)
        return self._modern(got, run)

    def _modern(self, state: State, run: Run) -> modern.State:
        return modern_of(state, _now, cause="returned", count=run.loop_count, pack=log_here().hooks.pack)


class _Given(Signal):
    """Ends a body in the state that a handler gave."""

    def __init__(self, given: State) -> None:
        super().__init__(given.message)
        self.given = given

    def state(self, now: Callable[[], float]) -> modern.State:
        """The kind of that state."""
        return modern_of(self.given, now)


class _Runner:
    """What handlers given to a run see: who leads the task."""

    def __init__(self, task: Any) -> None:
        self.task = self.flow = task


def _packed(signal: LOOP) -> Any:
    return None if signal.result is NO_PAYLOAD else log_here().hooks.pack(signal.result)


def _read(state: modern.State) -> modern.State:
    state.read_with(log_here().unpack)
    return state

"""One call of a task, while it is prepared and made: what came before it, what it is given, what its context holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ... import states as modern
from ...authoring.context import current_frame
from ...authoring.logs import nearest_log
from ...authoring.signals import LOOP, NO_PAYLOAD, Signal
from ...consoles import run_logger
from ...histories import id_text
from ...transitions import Run
from ..engine.conversion import failed
from ..engine.signals import SKIP, TRIGGERFAIL
from ..engine.state import State
from ..utilities.context import context

if TYPE_CHECKING:
    from .edge import Edge
    from .task import Task

__all__ = ["Calling", "called", "calling", "filled", "log_here", "now", "own_context"]


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
        children: Of a map: how they ended, as far as they were called here.
        start: The iteration that it begins after, where its loop does not begin at its beginning.
        skip: Why it is skipped.
        quiet: Whether the next change is one that handlers have seen, or need not see.
    """

    def __init__(self, task: Task, upstream: dict[Edge, State], inputs: dict[str, Any], known: dict[str, Any]) -> None:
        self.task: Task = task
        self.upstream: dict[Edge, State] = upstream
        self.inputs: dict[str, Any] = inputs
        self.known: dict[str, Any] = known
        self.instead: Signal | None = None
        self.refusal: modern.Failed | None = None
        self.rows: list[Calling] | None = None
        self.children: list[State] | None = None
        self.start: LOOP | None = None
        self.skip: SKIP | None = None
        self.quiet: bool = False
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
        wanted = signal.state(now)
        if wanted.is_failed():
            return failed(signal, wanted.message, "trigger", "TriggerFailed")
        self.instead = signal
        return True

    def taken(self) -> Signal | None:
        """What the body raises instead of calling the user's code, this once: handlers have seen its state."""
        instead, self.instead = self.instead, None
        self.quiet = self.quiet or instead is not None
        return instead

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


def now() -> float:
    """The time of the log at hand, UTC seconds since the epoch."""
    return log_here().clock.now()


def called(run: Callable[..., Any], inputs: dict[str, Any], known: dict[str, Any]) -> Any:
    """Call this in this context. A LOOP without a number ends the iteration that the context speaks of."""
    with context(known):
        try:
            return run(**inputs)
        except LOOP as signal:
            if signal.loop_count is None:
                signal.loop_count = known["task_loop_count"]
            raise


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


def filled(template: Any, known: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """A template, or what a callable gives, over the context and the inputs."""
    values = {**known, **inputs}
    return template.format(**values) if isinstance(template, str) else template(**values)

"""
What users' state handlers are shown, and what becomes of their answers.

They see the changes that Prefect 1 would make: one recorded transition may be two of them, or none.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final

from ... import states as modern
from ...authoring.signals import LOOP, NO_PAYLOAD, Signal
from ...transitions import SPENDING, Run
from ..engine import state as faces
from ..engine.conversion import failed, modern_of, state_of
from ..engine.state import State
from ..utilities.context import context
from .asking import Inert
from .calls import Calling, calling, log_here, now
from .options import Handler

__all__ = ["Handlers"]

GO: Final = "run"
"""The answer by which the run begins, whatever a trigger or a cache says: its body ends at once."""


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
        handlers: Iterable[Handler],
        outer: Iterable[Handler] = (),
        tell: Callable[[State], State] | None = None,
    ) -> None:
        self.subject: Any = subject
        self.handlers: tuple[Handler, ...] = tuple(handlers)
        self.outer: tuple[Handler, ...] = tuple(outer)
        self.tell: Callable[[State], State] | None = tell

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
            wanted = signal.state(now)
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
        if call is None:
            why = "a state handler ends a flow run before it begins, which only a failure can"
            return failed(TypeError(why), why, "error", "Failed")
        call.instead = signal
        return GO

    def _chain(self, old: State, new: State) -> State:
        """Each handler in order sees the answer of the one before."""
        shown: Any = new if self.tell is None else self.tell(new)
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
                new = state_of(_read(call.instead.state(now)))
            elif call.rows is not None:
                new = faces.Mapped("Ready to be mapped.")
        got = self._chain(old, new)
        if got is new or (isinstance(got, faces.Running) and about.is_running()):
            if got is not new and call is not None:
                call.instead = None
            return None
        if got.is_failed():
            return modern_of(got, now, cause="error")
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
            due = round(now() + delay, 6)
            made = modern_of(got, now, cause="returned")
            waits = modern.Retrying(made.message, "returned", due, delay)
            face = state_of(waits, attempt=run.attempt)
            last = self._chain(got, face)
            return waits if last is face else self._modern(last, run)
        return self._modern(got, run)

    def _modern(self, state: State, run: Run) -> modern.State:
        return modern_of(state, now, cause="returned", count=run.loop_count, pack=log_here().hooks.pack)


class _Given(Signal):
    """Ends a body in the state that a handler gave."""

    def __init__(self, given: State) -> None:
        super().__init__(given.message)
        self.given = given

    def __reduce__(self) -> Any:
        return _Given, (self.given,)

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

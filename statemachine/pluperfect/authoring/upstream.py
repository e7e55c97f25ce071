"""What a call waits for: the futures and states among its arguments, and those that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import ParameterTypeError, UpstreamFailed
from ..states import Failed, Pending
from . import outcomes
from .arguments import Found, each_run, resolved
from .futures import Future
from .naming import name_run

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["look_again", "resolve", "waits_for"]

_UNSEEN: Final = frozenset({"cancelled", "refused"})
"""The causes by which a call ends while it still waits for others."""


def waits_for(frame: Frame) -> list[Future[Any]]:
    """The futures among the arguments, and those that the call only waits for."""
    if not frame.waits:
        return []
    runs = each_run((frame.args, frame.kwargs, frame.wait_for))
    return [found.run for found in runs if isinstance(found.run, Future) and found.run.run_id != frame.run.id]


def resolve(frame: Frame) -> Failed | None:
    """
    Put results in the place of futures and states, now that all have ended.

    Returns:
        What stands in the way of the call, if anything does.
    """
    if not frame.waits:
        return None
    for found in each_run((frame.args, frame.kwargs, frame.wait_for)):
        if isinstance(found.run, Future):
            if found.run.run_id == frame.run.id:
                return outcomes.failed(frame, ValueError(_depends_on_itself(frame)))
            found.run.look()
        if not found.tolerated():
            return outcomes.failed(frame, _upstream_failed(frame, found), "upstream")
    authored = frame.definition.owner
    try:
        args, kwargs = resolved(frame.args, _result_of), resolved(frame.kwargs, _result_of)
        frame.args, frame.kwargs = frame.log.terms(authored).validated(args, kwargs)
    except ParameterTypeError as error:
        return outcomes.failed(frame, error, "validation")
    frame.arguments = authored.binder.bind(frame.args, frame.kwargs)
    if not isinstance(frame.run.state, Pending):
        return None  # it began in another process, and has its name
    name = name_run(frame)
    if isinstance(name, Failed):
        return name
    frame.name = name
    return None


def look_again(frame: Frame) -> None:
    """
    A call that is answered from the log looks at what its first call looked at.

    What it has seen is not recorded by itself: it follows from its arguments, and from how it ended.
    """
    state = frame.run.state
    if not frame.waits or (isinstance(state, Failed) and state.cause in _UNSEEN and not frame.run.attempt):
        return
    for found in each_run((frame.args, frame.kwargs, frame.wait_for)):
        if isinstance(found.run, Future):
            found.run.look()
        if isinstance(state, Failed) and state.cause == "upstream" and not found.tolerated():
            return  # the first obstacle ended the call: it has not seen the others


def _depends_on_itself(frame: Frame) -> str:
    return (
        f"{frame.run.birth.run_name} depends on itself: its own future was put into its arguments after it was"
        " submitted, and waiting for it would be a deadlock. Hand over a copy of what you go on to change."
    )


def _upstream_failed(frame: Frame, found: Found) -> UpstreamFailed:
    state = found.state
    cause = state.result(raise_on_failure=False) if state.is_failed() else None
    name = found.run.run_name if isinstance(found.run, Future) else getattr(state, "name", state.kind)
    error = UpstreamFailed(f"{frame.run.birth.run_name} was not called: {name} ended as {state}.")
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    return error


def _result_of(found: Found) -> Any:
    return found.state.result(raise_on_failure=not found.lenient)

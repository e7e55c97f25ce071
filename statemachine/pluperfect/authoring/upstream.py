"""What a call waits for: the futures and states among its arguments, and those that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ParameterTypeError, UpstreamFailed
from ..states import Failed
from . import outcomes
from .arguments import Found, each_run, resolved
from .futures import Future
from .naming import name_run

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["resolve", "waits_for"]


def waits_for(frame: Frame) -> list[Future[Any]]:
    """The futures among the arguments, and those that the call only waits for."""
    if not frame.waits:
        return []
    runs = each_run((frame.args, frame.kwargs, frame.wait_for))
    return [found.run for found in runs if isinstance(found.run, Future) and found.run.frame is not frame]


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
            if found.run.frame is frame:
                return outcomes.failed(frame, ValueError(_depends_on_itself(frame)))
            found.run.look()
        if not found.tolerated():
            return outcomes.failed(frame, _upstream_failed(frame, found), "upstream")
    authored = frame.definition.owner
    try:
        args, kwargs = resolved(frame.args, _result_of), resolved(frame.kwargs, _result_of)
        frame.args, frame.kwargs = frame.log.validated(authored, args, kwargs)
    except ParameterTypeError as error:
        return outcomes.failed(frame, error, "validation")
    frame.arguments = authored.binder(frame.args, frame.kwargs)
    name = name_run(frame)
    if isinstance(name, Failed):
        return name
    frame.name = name
    return None


def _depends_on_itself(frame: Frame) -> str:
    return (
        f"{frame.run.birth.run_name} depends on itself: its own future was put into its arguments after it was"
        " submitted, and waiting for it would be a deadlock. Hand over a copy of what you go on to change."
    )


def _upstream_failed(frame: Frame, found: Found) -> UpstreamFailed:
    state = found.state
    cause = state.result(raise_on_failure=False) if state.is_failed() else None
    name = found.run.frame.run.name if isinstance(found.run, Future) else getattr(state, "name", state.kind)
    error = UpstreamFailed(f"{frame.run.birth.run_name} was not called: {name} ended as {state}.")
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    return error


def _result_of(found: Found) -> Any:
    return found.state.result(raise_on_failure=not found.lenient)

"""What a run says of itself while it goes: born, called, retried, looped, ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..consoles import LOGGERS, give_a_console, run_extra
from ..states import Completed, Looped, Retrying, State
from ..transitions import stamp
from .context import current_frame

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["announce", "announce_birth", "announce_call", "announce_submission"]

_engine: Final = logging.getLogger("pluperfect.engine")
_flows: Final = LOGGERS["flow"]
_INFO: Final = logging.INFO


def announce_birth(frame: Frame) -> None:
    """``Created flow run 'x' for flow 'y'``, or the same of a task, said by the flow that called it."""
    give_a_console()
    if not (_flows.isEnabledFor(_INFO) or _engine.isEnabledFor(_INFO)):
        return
    spec = frame.run.birth
    above = None if frame.parent is None else frame.parent.flow
    logger = _engine if above is None else _flows
    if logger.isEnabledFor(_INFO):
        extra = None if above is None else run_extra(above.run)
        words = (spec.kind, spec.run_name, spec.kind, spec.name)
        logger.info("Created %s run %r for %s %r", *words, extra=extra)


def announce_call(frame: Frame) -> None:
    """``Executing 'x' immediately...``: a task is called directly."""
    _said_by_flow(frame, "Executing %r immediately...")


def announce_submission(frame: Frame) -> None:
    """``Submitted task run 'x' for execution.``"""
    _said_by_flow(frame, "Submitted task run %r for execution.")


def _said_by_flow(frame: Frame, text: str) -> None:
    if not _flows.isEnabledFor(_INFO) or frame.definition.kind == "flow":
        return
    if frame.run.final or frame.log.script is not None:
        return
    above = None if frame.parent is None else frame.parent.flow
    if above is not None:
        _flows.info(text, frame.run.birth.run_name, extra=run_extra(above.run))


def announce(frame: Frame, state: State) -> None:
    """A transition other than birth and start, said by the run itself."""
    logger = LOGGERS[frame.definition.kind]
    if type(state) is Retrying:
        if state.cause in ("error", "timeout", "returned"):
            if not logger.isEnabledFor(logging.WARNING):
                return
            logger.warning(
                "%s. Attempt %d of %d ended so; the next one is due at %s",
                state.message or "Failed",
                frame.run.attempt,
                int(frame.definition.options.get("retries") or 0) + 1,
                stamp(state.due),
                extra=run_extra(frame.run),
            )
        elif logger.isEnabledFor(_INFO):
            logger.info("%s", state, extra=run_extra(frame.run))
    elif type(state) is Looped:
        if logger.isEnabledFor(_INFO):
            text = f": {state.message}" if state.message else ""
            logger.info("Iteration %d is done%s", state.count, text, extra=run_extra(frame.run))
    elif state.is_completed():
        if logger.isEnabledFor(_INFO):
            shown = f"{state.name}({state.message!r})" if isinstance(state, Completed) and state.message else state
            logger.info("Finished in state %s", shown, extra=run_extra(frame.run))
    elif current_frame.get() is not None or frame.parent is None:
        logger.error("Finished in state %s", state, extra=run_extra(frame.run))

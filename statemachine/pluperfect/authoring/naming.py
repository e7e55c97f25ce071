"""The names that users give to runs, by a template over the parameters or by a callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..states import Failed
from . import outcomes
from .binding import signature_of
from .context import calling_frame, current_frame

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["name_run"]


def name_run(frame: Frame) -> str | Failed | None:
    """The name that the user's template or callable gives the run; None where there is none; Failed where it errs."""
    kind, template = frame.definition.kind, frame.terms.template
    if template is None:
        return None
    caller = calling_frame()
    try:
        current_frame.set(frame)
        if isinstance(template, str):
            known = {} if kind == "flow" else {"task_loop_count": frame.run.loop_count}
            name: Any = template.format(**{**known, **frame.arguments})
        else:
            name = template(parameters=frame.arguments) if _takes_parameters(template) else template()
        if not isinstance(name, str):
            raise TypeError(
                f"Callable {template} for '{kind}_run_name' returned type {type(name).__name__} but a string is"
                " required."
            )
    except Exception as error:
        return outcomes.failed(frame, error)
    finally:
        current_frame.set(caller)
    return name


def _takes_parameters(call: Callable[..., Any]) -> bool:
    try:
        return "parameters" in signature_of(call).parameters
    except (TypeError, ValueError):
        return False

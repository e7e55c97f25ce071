"""
What the code at hand runs in: ``from pluperfect.runtime import flow_run, task_run``.

Outside of a run every attribute is empty.
"""

from __future__ import annotations

from typing import Any

from .authoring.context import current_frame
from .authoring.frames import Frame
from .authoring.signals import NO_PAYLOAD
from .histories import id_text

__all__ = ["flow_run", "task_run"]


class _RunContext:
    """The attributes that flow runs and task runs share."""

    def _frame(self) -> Frame | None:
        raise NotImplementedError

    @property
    def id(self) -> str | None:
        """The run's id."""
        frame = self._frame()
        return None if frame is None else id_text(frame.run.id)

    @property
    def name(self) -> str | None:
        """The run's own name."""
        frame = self._frame()
        return None if frame is None else frame.run.birth.run_name

    @property
    def tags(self) -> list[str]:
        """The run's tags."""
        frame = self._frame()
        return [] if frame is None else list(frame.run.birth.tags)

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by parameter, defaults included."""
        frame = self._frame()
        return {} if frame is None else dict(frame.arguments)

    @property
    def run_count(self) -> int:
        """How often the body was begun, this time included (for a task: in this iteration)."""
        frame = self._frame()
        return 0 if frame is None else frame.run.attempt


class _FlowRun(_RunContext):
    """The nearest flow run around the code at hand."""

    def _frame(self) -> Frame | None:
        here = current_frame.get()
        return None if here is None else here.flow

    @property
    def flow_name(self) -> str | None:
        """The name of the flow."""
        frame = self._frame()
        return None if frame is None else frame.definition.name

    @property
    def flow_version(self) -> str | None:
        """The version of the flow."""
        frame = self._frame()
        return None if frame is None else frame.definition.version

    @property
    def parent_flow_run_id(self) -> str | None:
        """The id of the flow run that called this one."""
        frame = self._frame()
        above = None if frame is None or frame.parent is None else frame.parent.flow
        return None if above is None else id_text(above.run.id)

    @property
    def root_flow_run_id(self) -> str | None:
        """The id of the run at the top of the tree."""
        frame = self._frame()
        return None if frame is None else id_text(frame.session.root)


class _TaskRun(_RunContext):
    """The task run whose body this code is."""

    def _frame(self) -> Frame | None:
        here = current_frame.get()
        return here if here is not None and here.definition.kind == "task" else None

    @property
    def task_name(self) -> str | None:
        """The name of the task."""
        frame = self._frame()
        return None if frame is None else frame.definition.name

    @property
    def loop_count(self) -> int:
        """The iteration, from 1."""
        frame = self._frame()
        return 0 if frame is None else frame.run.loop_count

    @property
    def loop_result(self) -> Any:
        """The payload of the iteration before; None in the first, or where the signal carried none."""
        frame = self._frame()
        return None if frame is None or frame.live_payload is NO_PAYLOAD else frame.live_payload


flow_run = _FlowRun()
task_run = _TaskRun()

"""Where the code at hand runs, as objects: ``FlowRunContext.get()``, ``TaskRunContext.get()``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from .authoring.context import current_tags, frame_at_hand, tags
from .authoring.frames import Frame
from .client.schemas.objects import FlowRun, TaskRun
from .errors import MissingContextError
from .histories import id_text
from .settings import Settings, get_current_settings
from .transitions import Run

__all__ = [
    "FlowRunContext",
    "SettingsContext",
    "TagsContext",
    "TaskRunContext",
    "get_run_context",
    "get_settings_context",
    "tags",
]


class _RunContext:
    """
    A run whose body is being called.

    Attributes:
        body: The run as the engine holds it.
    """

    def __init__(self, body: Frame) -> None:
        self.body = body

    @property
    def run(self) -> Run:
        """The run as folded so far."""
        run = self.body.run
        if run.state is not None:
            self.body.log.show(run.state, run)
        return run

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by parameter, defaults included."""
        return dict(self.body.arguments)

    @property
    def start_time(self) -> datetime | None:
        """When the body was first begun."""
        run = self.run
        return None if run.state is None else run.state.state_details.start_time

    @property
    def log(self) -> Any:
        """The log that the run is recorded in."""
        return self.body.log

    @property
    def log_prints(self) -> bool:
        """Whether the definition has its prints logged."""
        return bool(self.body.definition.options.get("log_prints"))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.body is self.body  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), id(self.body)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run.name} {id_text(self.run.id)}>"


class FlowRunContext(_RunContext):
    """The nearest flow run around the code at hand."""

    @classmethod
    def get(cls) -> Self | None:
        """The context at hand; None outside of flows."""
        here = frame_at_hand()
        flow = None if here is None else here.flow
        return None if flow is None else cls(flow)

    @property
    def flow(self) -> Any:
        """The flow."""
        return self.body.definition.owner

    @property
    def task_runner(self) -> Any:
        """The flow's option: where the calls that it submits are made."""
        return self.body.definition.options["task_runner"]

    @property
    def flow_run(self) -> FlowRun:
        """The flow run as folded so far."""
        return FlowRun(self.run)


class TaskRunContext(_RunContext):
    """The task run whose body the code at hand is."""

    @classmethod
    def get(cls) -> Self | None:
        """The context at hand; None outside of tasks."""
        here = frame_at_hand()
        return cls(here) if here is not None and here.definition.kind == "task" else None

    @property
    def task(self) -> Any:
        """The task."""
        return self.body.definition.owner

    @property
    def task_run(self) -> TaskRun:
        """The task run as folded so far."""
        return TaskRun(self.run)


class TagsContext:
    """
    The tags that runs begun here get.

    Attributes:
        current_tags: The tags of the ``with tags(...)`` blocks around the code at hand.
    """

    def __init__(self, current_tags: set[str]) -> None:
        self.current_tags = current_tags

    @classmethod
    def get(cls) -> Self:
        """The context at hand; outside of such blocks it is empty."""
        return cls(set(current_tags.get()))


class SettingsContext:
    """
    The settings that hold here.

    Attributes:
        settings: All of them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def get(cls) -> Self:
        """The context at hand."""
        return cls(get_current_settings())


def get_settings_context() -> SettingsContext:
    """The settings that hold here."""
    return SettingsContext.get()


def get_run_context() -> FlowRunContext | TaskRunContext:
    """
    The context of the task run at hand, else of the flow run.

    Raises:
        MissingContextError: No flow or task runs here.
    """
    found = TaskRunContext.get() or FlowRunContext.get()
    if found is None:
        raise MissingContextError("No run context available. You are not in a flow or task run: none runs here.")
    return found

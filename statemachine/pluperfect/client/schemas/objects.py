"""Runs and states under the names and with the attributes that Prefect's users know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ...states import State, StateDetails, StateType, usable
from ...transitions import Run

__all__ = ["FlowRun", "State", "StateDetails", "StateType", "TaskRun"]


class _RunView:
    """
    A run as callbacks and contexts show it. What is not said here is asked of `folded`.

    Attributes:
        folded: The run as folded from its log up to the state at hand.
    """

    def __init__(self, folded: Run) -> None:
        self.folded = folded

    @property
    def id(self) -> UUID:
        """The id; its text is what the log and the command line call the run by."""
        return UUID(bytes=self.folded.id)

    @property
    def tags(self) -> list[str]:
        """The tags, in the order of the alphabet."""
        return list(self.folded.birth.tags)

    @property
    def state(self) -> State:
        """The state at hand."""
        state = self.folded.state
        assert state is not None, "this run is not born yet"
        return state

    @property
    def state_name(self) -> str:
        """The label of the state."""
        return str(getattr(self.state, "name", self.state.kind))

    @property
    def state_type(self) -> StateType:
        """The type of the state, as Prefect would call it."""
        return self.state.type

    @property
    def created(self) -> datetime:
        """When the run was born."""
        return datetime.fromtimestamp(self.folded.born, UTC)

    @property
    def expected_start_time(self) -> datetime:
        """When the run was to begin: at its scheduled time, else at its birth."""
        return self.state.state_details.scheduled_time or self.created

    @property
    def start_time(self) -> datetime | None:
        """When the body was first begun; None before."""
        return self.state.state_details.start_time

    @property
    def total_run_time(self) -> timedelta:
        """From the first beginning to the last change of state, waits between attempts included."""
        begun = self.start_time
        return timedelta() if begun is None else datetime.fromtimestamp(self.folded.updated, UTC) - begun

    @property
    def end_time(self) -> datetime | None:
        """When the run came to its final state; None before."""
        return datetime.fromtimestamp(self.folded.updated, UTC) if self.folded.final else None

    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self.folded.final

    def __getattr__(self, name: str) -> Any:
        if name == "folded" or name.startswith("__"):  # while it is being copied or unpickled there is none yet
            raise AttributeError(name)
        return getattr(self.folded, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RunView) and other.folded.id == self.folded.id

    def __hash__(self) -> int:
        return hash(self.folded.id)

    def __repr__(self) -> str:
        name = "" if self.folded.spec is None else self.folded.name
        return f"{type(self).__name__}(id={str(self.id)!r}, name={name!r}, state={str(self.folded.state)!r})"


class FlowRun(_RunView):
    """A flow run."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as they were recorded at birth; what could not be recorded is left out."""
        return {
            given.name: self.state.unpacked(given.value) for given in self.folded.birth.inputs if usable(given.value)
        }

    @property
    def flow_version(self) -> str | None:
        """The version of the flow."""
        return self.folded.birth.version


class TaskRun(_RunView):
    """A task run."""

    @property
    def flow_run_id(self) -> UUID | None:
        """The nearest flow run around it; None outside of flows."""
        return self.state.state_details.flow_run_id

    @property
    def task_key(self) -> str:
        """What tells the task from others."""
        return self.folded.birth.key

    @property
    def dynamic_key(self) -> str:
        """Which call of the task it is within its flow run, from 0."""
        return str(self.folded.birth.index)

    @property
    def task_version(self) -> str | None:
        """The version of the task."""
        return self.folded.birth.version

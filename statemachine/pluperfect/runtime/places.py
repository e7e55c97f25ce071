"""What the modules of `pluperfect.runtime` give: attributes, each read from the run at hand when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from ..authoring.context import current_tags, frame_at_hand
from ..authoring.frames import Frame
from ..authoring.signals import NO_PAYLOAD
from ..histories import id_text

__all__ = ["DEPLOYMENT", "FLOW_RUN", "TASK_RUN"]

_MISSING: Final = object()


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _json(text: str) -> Any:
    import json

    return json.loads(text)


def _when(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_FROM_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "tags": _listed,
    "parameters": _json,
    "job_variables": _json,
    "run_count": int,
    "loop_count": int,
    "loop_result": _json,
    "scheduled_start_time": _when,
}


class _Place:
    """A part of the runtime: attributes that are read from the run at hand, unless the environment says otherwise."""

    _word = ""
    _known: ClassVar[dict[str, Callable[[Any], Any]]] = {}

    def _frame(self) -> Frame | None:
        return None

    def __getattr__(self, name: str) -> Any:
        read = None if name.startswith("_") else self._known.get(name)
        if read is None:
            raise AttributeError(
                f"pluperfect.runtime.{self._word} has no attribute {name!r}. It has: {', '.join(self._known)}."
            )
        key = f"PLUPERFECT__RUNTIME__{self._word.upper()}__{name.upper()}"
        given = os.environ.get(key)
        if given is not None:
            try:
                return _FROM_TEXT.get(name, str)(given)
            except ValueError as error:
                raise ValueError(f"{key}={given!r} cannot stand for {name}: {error}") from error
        return read(self._frame())

    def __dir__(self) -> list[str]:
        return sorted(self._known)


def _of(read: Callable[[Frame], Any], empty: Any = None) -> Callable[[Any], Any]:
    """An attribute of the run; ``empty`` where there is none (called, where it is callable)."""
    return lambda frame: (empty() if callable(empty) else empty) if frame is None else read(frame)


def _parent(frame: Frame) -> str | None:
    above = None if frame.parent is None else frame.parent.flow
    return None if above is None else id_text(above.run.id)


def _tags_here() -> list[str]:
    return sorted(current_tags.get())


_SHARED: Final[dict[str, Callable[[Any], Any]]] = {
    "id": _of(lambda frame: id_text(frame.run.id)),
    "name": _of(lambda frame: frame.run.name),
    "tags": _of(lambda frame: list(frame.run.birth.tags), _tags_here),
    "parameters": _of(lambda frame: dict(frame.arguments), dict),
    "run_count": _of(lambda frame: frame.run.attempt, 0),
    "api_url": _of(lambda _: None),
    "ui_url": _of(lambda _: None),
}


class _FlowRun(_Place):
    """The nearest flow run around the code at hand."""

    _word = "flow_run"
    _known: ClassVar[dict[str, Callable[[Any], Any]]] = {
        **_SHARED,
        "flow_name": _of(lambda frame: frame.definition.name),
        "flow_version": _of(lambda frame: frame.definition.version),
        "scheduled_start_time": lambda frame: (
            datetime.fromtimestamp(frame.run.born, UTC) if frame else datetime.now(UTC)
        ),
        "parent_flow_run_id": _of(_parent),
        "root_flow_run_id": _of(lambda frame: id_text(frame.session.root)),
        "parent_deployment_id": _of(lambda _: None),
        "job_variables": _of(lambda _: {}, dict),
    }

    def _frame(self) -> Frame | None:
        here = frame_at_hand()
        return None if here is None else here.flow


class _TaskRun(_Place):
    """The task run whose body this code is. ``loop_result`` is None in the first iteration and after a bare LOOP."""

    _word = "task_run"
    _known: ClassVar[dict[str, Callable[[Any], Any]]] = {
        **_SHARED,
        "task_name": _of(lambda frame: frame.definition.name),
        "loop_count": _of(lambda frame: frame.run.loop_count, 0),
        "loop_result": _of(lambda frame: None if frame.live_payload is NO_PAYLOAD else frame.live_payload),
    }

    def _frame(self) -> Frame | None:
        here = frame_at_hand()
        return here if here is not None and here.definition.kind == "task" else None


class _Deployment(_Place):
    """There are no deployments here: all is empty."""

    _word = "deployment"
    _known: ClassVar[dict[str, Callable[[Any], Any]]] = {
        name: _of(lambda _: None) for name in ("id", "name", "version", "flow_run_id")
    } | {"parameters": _of(lambda _: {}, dict)}


FLOW_RUN: Final[_FlowRun] = _FlowRun()
TASK_RUN: Final[_TaskRun] = _TaskRun()
DEPLOYMENT: Final[_Deployment] = _Deployment()

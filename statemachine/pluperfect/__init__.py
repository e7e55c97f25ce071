"""
Workflows you can prove, replay and take apart.

``@flow`` and ``@task`` as you know them; under each run an append-only log of transitions, in one file.
Importing this opens nothing, starts nothing and scans nothing: names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .authoring.annotations import allow_failure, opaque, quote, unmapped
    from .authoring.context import effect_id, tags
    from .authoring.flows import Flow, flow
    from .authoring.futures import as_completed, wait
    from .authoring.logs import open
    from .authoring.patches import patched
    from .authoring.signals import LOOP
    from .authoring.tasks import Task, task
    from .logging.loggers import get_run_logger
    from .marks import hookimpl
    from .rules import Proposal, Verdict
    from .states import Cached, Completed, Failed, Looped, Pending, Retrying, Running, State, TimedOut

__version__ = "0.1.0"

__all__ = [
    "LOOP",
    "Cached",
    "Completed",
    "Failed",
    "Flow",
    "Looped",
    "Pending",
    "Proposal",
    "Retrying",
    "Running",
    "State",
    "Task",
    "TimedOut",
    "Verdict",
    "allow_failure",
    "as_completed",
    "effect_id",
    "flow",
    "get_run_logger",
    "hookimpl",
    "opaque",
    "open",
    "patched",
    "quote",
    "tags",
    "task",
    "unmapped",
    "wait",
]

_HOMES = {
    "LOOP": ".authoring.signals",
    "Flow": ".authoring.flows",
    "flow": ".authoring.flows",
    "Task": ".authoring.tasks",
    "task": ".authoring.tasks",
    "as_completed": ".authoring.futures",
    "wait": ".authoring.futures",
    "get_run_logger": ".logging.loggers",
    **dict.fromkeys(("allow_failure", "opaque", "quote", "unmapped"), ".authoring.annotations"),
    **dict.fromkeys(("effect_id", "tags"), ".authoring.context"),
    "open": ".authoring.logs",
    "patched": ".authoring.patches",
    "hookimpl": ".marks",
    "Proposal": ".rules",
    "Verdict": ".rules",
    **dict.fromkeys(
        ("Cached", "Completed", "Failed", "Looped", "Pending", "Retrying", "Running", "State", "TimedOut"), ".states"
    ),
}


_ROOMS = frozenset(
    "assets cache_policies classic client context errors exceptions flows futures histories hooks logging results rules"
    " runtime serializers settings states task_runners tasks testing transitions utilities".split()
)
"""The modules that are loaded when they are first used as attributes."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        if name in _ROOMS:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module 'pluperfect' has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

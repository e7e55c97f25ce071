"""Which run's body the code at hand belongs to. The engine sets it; plugins may look."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from .transitions import Run

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["Body", "current_body"]


class Body(Protocol):
    """A run whose body is being called."""

    @property
    def run(self) -> Run:
        """The run as folded so far."""
        ...

    @property
    def settings(self) -> Settings:
        """The settings that hold around its calls, as its tree found them when it began."""
        ...

    @property
    def flow(self) -> Body | None:
        """The nearest flow: this run or one above it."""
        ...


current_body: Final[ContextVar[Any]] = ContextVar("pluperfect_body", default=None)
"""The run whose body is being called in this context, a `Body`; None outside of runs."""

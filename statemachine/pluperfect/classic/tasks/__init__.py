"""Ready-made tasks, at Prefect 1's places."""

from __future__ import annotations

from . import control_flow, resources

__all__ = ["control_flow", "resources"]

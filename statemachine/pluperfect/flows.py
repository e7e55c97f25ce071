"""Prefect's place for flows."""

from .authoring.flows import Flow, flow

__all__ = ["Flow", "flow"]

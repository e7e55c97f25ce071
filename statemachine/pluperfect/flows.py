"""Flows: what a program calls; each call is a run with its own history."""

from .authoring.flows import Flow, flow

__all__ = ["Flow", "flow"]

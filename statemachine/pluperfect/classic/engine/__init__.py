"""Signals, states, cache validators and results, at Prefect 1's places."""

from __future__ import annotations

from . import cache_validators, results, signals, state

__all__ = ["cache_validators", "results", "signals", "state"]

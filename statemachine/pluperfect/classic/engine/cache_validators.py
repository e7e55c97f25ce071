"""
Whether a kept result may answer a call: functions of (kept state, inputs of the call, parameters of the flow run).

Give one as ``cache_validator=``, beside ``cache_for=``. A function of one's own may be given too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .state import Cached

__all__ = [
    "all_inputs",
    "all_parameters",
    "duration_only",
    "never_use",
    "partial_inputs_only",
    "partial_parameters_only",
]

Validator = Callable[[Cached, dict[str, Any], dict[str, Any]], bool]


def never_use(state: Cached, inputs: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Never."""
    return False


def duration_only(state: Cached, inputs: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """As long as it is young enough, **whatever the inputs are**: M=20 gets the answer for M=10."""
    return True


def all_inputs(state: Cached, inputs: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Where all inputs are the same."""
    return state.cached_inputs == inputs


def all_parameters(state: Cached, inputs: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Where all parameters of the flow run are the same."""
    return state.cached_parameters == parameters


def partial_inputs_only(validate_on: Iterable[str] | None = None) -> Validator:
    """Where these inputs are the same."""
    names = _listed(validate_on)

    def validator(state: Cached, inputs: dict[str, Any], parameters: dict[str, Any]) -> bool:
        return _same(names, state.cached_inputs, inputs)

    return validator


def partial_parameters_only(validate_on: Iterable[str] | None = None) -> Validator:
    """Where these parameters of the flow run are the same."""
    names = _listed(validate_on)

    def validator(state: Cached, inputs: dict[str, Any], parameters: dict[str, Any]) -> bool:
        return _same(names, state.cached_parameters or {}, parameters)

    return validator


def _listed(names: Iterable[str] | None) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"validate_on is a list of names, not {names!r}.")
    return list(names or ())


def _same(names: list[str], kept: dict[str, Any], given: dict[str, Any]) -> bool:
    return all(name in kept and name in given and kept[name] == given[name] for name in names)

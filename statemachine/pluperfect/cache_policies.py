"""
Cache policies: which parts of a call make its key. Values only; the plugin ``caching`` makes the keys.

``INPUTS + TASK_SOURCE`` adds parts, ``INPUTS - "debug"`` leaves an input out. The bare ``INPUTS`` names no
task: all tasks with equal arguments share its keys, so that ``+ TASK_SOURCE`` is what one mostly wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import force_setattr

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NONE",
    "NO_CACHE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "CompoundCachePolicy",
    "FlowParameters",
    "Inputs",
    "NoCache",
    "RunId",
    "TaskSource",
]


class CachePolicy(Struct, frozen=True):
    """The base of all policies."""

    replays: ClassVar[bool] = True
    """Whether a flow retry may answer the call from the attempt before."""

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        return _joined([*_parts(self), *_parts(other)])

    def __sub__(self, excluded: str) -> CachePolicy:
        if not isinstance(excluded, str):
            raise TypeError(f"A policy minus the name of a parameter: give a string, not {excluded!r}.")
        return _joined([part.without(excluded) for part in _parts(self)])

    def without(self, name: str) -> CachePolicy:
        """This policy with one input left out; the same where it takes no inputs."""
        return self

    @classmethod
    def from_cache_key_fn(cls, cache_key_fn: Callable[[Any, dict[str, Any]], str | None]) -> CacheKeyFnPolicy:
        """A policy that asks this function."""
        return CacheKeyFnPolicy(cache_key_fn)


class Inputs(CachePolicy, frozen=True):
    """The arguments by parameter, less the excluded ones."""

    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names: object = self.exclude
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"exclude is a list of the names of parameters, not {names!r}.")
        force_setattr(self, "exclude", frozenset(self.exclude))

    def without(self, name: str) -> CachePolicy:
        """The arguments less one more."""
        return Inputs(self.exclude | {name})


class TaskSource(CachePolicy, frozen=True):
    """The source text of the task's function, what it closes over, and its qualified name."""


class RunId(CachePolicy, frozen=True):
    """The flow run that the call belongs to; outside of flows, the task run itself."""


class FlowParameters(CachePolicy, frozen=True):
    """The parameters of the flow around the call."""


class NoCache(CachePolicy, frozen=True):
    """No key at all; nothing in a sum."""

    replays: ClassVar[bool] = False


class CacheKeyFnPolicy(CachePolicy, frozen=True):
    """A key that a function of the user makes of the context and the arguments; None: no caching."""

    cache_key_fn: Callable[[Any, dict[str, Any]], str | None]


class CompoundCachePolicy(CachePolicy, frozen=True):
    """Several policies, each of which adds a part to the key."""

    policies: tuple[CachePolicy, ...] = ()

    def __post_init__(self) -> None:
        policies: tuple[Any, ...] = tuple(self.policies)
        for policy in policies:
            if not isinstance(policy, CachePolicy):
                raise TypeError(f"A compound of policies is made of policies, not {policy!r}.")
        force_setattr(self, "policies", tuple(_merged(part for policy in policies for part in _parts(policy))))


def _parts(policy: CachePolicy) -> tuple[CachePolicy, ...]:
    if isinstance(policy, CompoundCachePolicy):
        return policy.policies
    return () if isinstance(policy, NoCache) else (policy,)


def _merged(parts: Iterable[CachePolicy]) -> list[CachePolicy]:
    """Each once, with one INPUTS whose exclusions are united."""
    made: list[CachePolicy] = []
    for part in parts:
        if isinstance(part, Inputs):
            place = next((i for i, known in enumerate(made) if isinstance(known, Inputs)), None)
            if place is not None:
                known = made[place]
                assert isinstance(known, Inputs)
                made[place] = Inputs(known.exclude | part.exclude)
                continue
        if part not in made:
            made.append(part)
    return made


def _joined(parts: Iterable[CachePolicy]) -> CachePolicy:
    """One policy of several: flat, and as simple as it can be said."""
    made = _merged(parts)
    if not made:
        return NO_CACHE
    return made[0] if len(made) == 1 else CompoundCachePolicy(tuple(made))


INPUTS: Final = Inputs()
TASK_SOURCE: Final = TaskSource()
RUN_ID: Final = RunId()
FLOW_PARAMETERS: Final = FlowParameters()
NO_CACHE: Final = NoCache()
NONE: Final = NO_CACHE
DEFAULT: Final = INPUTS + TASK_SOURCE + RUN_ID

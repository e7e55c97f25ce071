"""
Cache policies: which parts of a call make its key. Values only; the plugin ``caching`` makes the keys.

``INPUTS + TASK_SOURCE`` adds parts, ``INPUTS - "debug"`` leaves an input out. The bare ``INPUTS`` names no
task: all tasks with equal arguments share its keys, so that ``+ TASK_SOURCE`` is what one mostly wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, Self

from msgspec import Struct
from msgspec.structs import force_setattr, replace

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


class CachePolicy(Struct, frozen=True, kw_only=True):
    """
    The base of all policies. One of your own has a method ``compute_key(task_ctx, inputs, flow_parameters)``.

    Attributes:
        key_storage: Keys made under one of these are not met under another; all stand in the log.
        isolation_level: Taken and kept; lookups are READ_COMMITTED.
        lock_manager: Taken and kept.
    """

    replays: ClassVar[bool] = True
    """Whether a flow retry may answer the call from the attempt before."""

    key_storage: Any = None
    isolation_level: Any = None
    lock_manager: Any = None

    def configure(self, key_storage: Any = None, lock_manager: Any = None, isolation_level: Any = None) -> Self:
        """A copy with these; what is None stays as it is. Sums and differences keep it."""
        given = {"key_storage": key_storage, "lock_manager": lock_manager, "isolation_level": isolation_level}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """
        A policy with the parts of both.

        Raises:
            ValueError: They are configured differently.
        """
        if not isinstance(other, CachePolicy):
            return NotImplemented
        if isinstance(other, NoCache):
            return self
        if isinstance(self, NoCache):
            return other
        return _joined([*_parts(self), *_parts(other)], _united([self, other]))

    def __sub__(self, excluded: str) -> CachePolicy:
        if not isinstance(excluded, str):
            raise TypeError(f"Can only subtract strings from key policies: the name of a parameter, not {excluded!r}.")
        if isinstance(self, NoCache):
            return self
        return _joined([part.without(excluded) for part in _parts(self)], _united([self]))

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
        return replace(self, exclude=self.exclude | {name})


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
        own = _united([self, *policies])
        for name, value in own.items():
            force_setattr(self, name, value)
        force_setattr(self, "policies", tuple(_merged(part for policy in policies for part in _parts(policy))))


_DIFFERENT: Final = {
    "key_storage": "storage locations",
    "isolation_level": "isolation levels",
    "lock_manager": "lock implementations",
}


def _united(policies: Iterable[CachePolicy]) -> dict[str, Any]:
    """How several policies are configured together."""
    made: dict[str, Any] = {}
    for policy in policies:
        for name, words in _DIFFERENT.items():
            value = getattr(policy, name)
            if value is None:
                continue
            if made.setdefault(name, value) != value:
                raise ValueError(f"Cannot add CachePolicies with different {words}: {made[name]!r} and {value!r}.")
    return made


def _parts(policy: CachePolicy) -> tuple[CachePolicy, ...]:
    if isinstance(policy, CompoundCachePolicy):
        return policy.policies
    return () if isinstance(policy, NoCache) else (policy,)


def _merged(parts: Iterable[CachePolicy]) -> list[CachePolicy]:
    """Each once, with one INPUTS whose exclusions are united. What they are configured with stands at their sum."""
    made: list[CachePolicy] = []
    for part in parts:
        if isinstance(part, Inputs):
            place = next((i for i, known in enumerate(made) if isinstance(known, Inputs)), None)
            if place is not None:
                known = made[place]
                assert isinstance(known, Inputs)
                made[place] = Inputs(known.exclude | part.exclude)
                continue
        plain = replace(part, **dict.fromkeys(_DIFFERENT))
        if plain not in made:
            made.append(plain)
    return made


def _joined(parts: Iterable[CachePolicy], configured: dict[str, Any]) -> CachePolicy:
    """One policy of several: flat, and as simple as it can be said."""
    made = _merged(parts)
    if not made:
        return NO_CACHE
    return replace(made[0], **configured) if len(made) == 1 else CompoundCachePolicy(tuple(made), **configured)


INPUTS: Final = Inputs()
TASK_SOURCE: Final = TaskSource()
RUN_ID: Final = RunId()
FLOW_PARAMETERS: Final = FlowParameters()
NO_CACHE: Final = NoCache()
NONE: Final = NO_CACHE
DEFAULT: Final = INPUTS + TASK_SOURCE + RUN_ID

"""Which recorded result answers a call: ``cache_for``, ``cache_validator``, ``cache_key`` and ``target``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ...digests import Undigestible, digest
from ...hooks import CacheKey
from ...states import usable
from ..engine import cache_validators
from ..engine.state import Cached
from .asking import Inert
from .calls import calling, filled, log_here

if TYPE_CHECKING:
    from ...transitions import Run
    from .task import Task

__all__ = ["Keeper"]


class Keeper(Inert):
    """The option ``classic_cache`` of a task."""

    def __init__(self, task: Task) -> None:
        self.task: Task = task

    def __call__(self, run: Run, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> CacheKey | None:
        """The key of a call. Where the kept result may not answer it, it is not looked up, and replaced."""
        task, call = self.task, calling.get()
        known = {} if call is None else call.known
        index = "" if run.birth.map_index is None else f"[{run.birth.map_index}]"
        if task.target is not None:
            try:
                target = filled(task.target, {"task_loop_count": 1, "task_run_count": 1, **known}, inputs)
            except Exception as error:
                return CacheKey(None, why=f"the target cannot be made: {type(error).__name__}: {error}")
            return CacheKey(_key("target", target), {"target": target})
        if task.cache_for is None:
            return None
        name = f"{task.cache_key or task.name}{index}"
        key, parts = _key("cache", name), {"cache_key": name}
        if task.cache_validator is cache_validators.never_use:
            return CacheKey(None, parts, "the validator is never_use")
        keep = task.cache_for.total_seconds()
        answers = self._answers(key, run, inputs, parameters, keep)
        return CacheKey(key, parts, refresh=not answers, expiration=keep)

    def _answers(
        self, key: str, run: Run, inputs: Mapping[str, Any], parameters: Mapping[str, Any], keep: float
    ) -> bool:
        """Whether the kept result may answer: it comes from an earlier flow run, and the validator agrees."""
        log = log_here()
        log.log.settle_key(key)
        cell = log.log.cached(key, log.clock.now())
        if cell is None:
            return True
        source = log.load(cell.run)
        if source.birth.root == run.birth.root:
            return False  # results are kept for later runs: in this one, each call is made
        root = log.load(source.birth.root)
        own = self.task.cache_validator.__module__ == cache_validators.__name__
        state = Cached(
            cached_inputs=_kept(source, log, own=own),
            cached_parameters=_kept(root, log, own=own),
            cached_result_expiration=datetime.fromtimestamp(source.updated, UTC) + timedelta(seconds=keep),
        )
        return bool(self.task.cache_validator(state, dict(inputs), dict(parameters)))


def _key(kind: str, name: str) -> str:
    return f"classic-{kind}-{sha256(name.encode(errors='surrogatepass')).hexdigest()[:32]}"


def _kept(run: Run, log: Any, *, own: bool) -> dict[str, Any]:
    """The recorded inputs by name: as values for a validator of the user, else by their digests."""
    found: dict[str, Any] = {}
    for given in run.birth.inputs:
        by_value = not own and usable(given.value)
        found[given.name] = log.unpack(given.value) if by_value else _Digested(given.digest)
    return found


class _Digested:
    """Equal to every value with this digest."""

    __slots__ = ("_digest",)

    def __init__(self, known: bytes | None) -> None:
        self._digest = known

    def __eq__(self, other: object) -> bool:
        if self._digest is None:
            return False
        try:
            return digest(other) == self._digest
        except Undigestible:
            return False

    def __hash__(self) -> int:
        return hash(self._digest)

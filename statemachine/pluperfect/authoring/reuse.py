"""A result that is on record already, in the place of a call: from a cache, or from an earlier attempt of the caller."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from ..errors import PluginError, RedactedValue
from ..hooks import CacheKey
from ..states import Cached, Completed, usable
from ..transitions import NO_FACTS, Facts, Run

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["cached", "look_up", "stored_under_key"]

_log: Final = logging.getLogger("pluperfect.engine")


def look_up(frame: Frame, facts: Facts, at: float) -> Facts:
    """
    Look for a result in the place of this call: first among the caller's earlier attempts, then under its key.

    Returns:
        The facts with the hit, or with the key that was computed, or why there is none.

    Raises:
        PluginError: A plugin's ``cache_key()`` gave something else than a key.
    """
    if frame.terms.generates:
        return facts  # its items are not on record: it can only be led again
    parent = frame.parent
    if parent is not None and parent.run.generation > parent.run.since and _may_replay(frame):
        source = _earlier(parent, frame)
        if source is not None and _take(frame, source):
            return replace(facts, hit=source)
    ask = frame.attending.cache_key
    if ask is None:
        return facts
    if frame.run.state is not None:
        frame.log.show(frame.run.state, frame.run)
    flow = frame.flow
    key = ask(frame.run, frame.definition, frame.arguments, {} if flow is None else flow.arguments)
    if key is None:
        return facts
    if not isinstance(key, CacheKey):
        raise PluginError(f"A plugin's cache_key() returned {key!r}; it must return a CacheKey or None.")
    if key.key is None:
        return replace(facts, parts=key.parts, uncached=key.why)
    frame.cache_key = key
    facts = replace(facts, key=key.key, parts=key.parts)
    if not key.refresh:
        frame.log.log.settle_key(key.key)
        cell = frame.log.log.cached(key.key, at)
        if cell is not None and _take(frame, (cell.run, cell.seq)):
            return replace(facts, hit=(cell.run, cell.seq))
    return facts


def _may_replay(frame: Frame) -> bool:
    options = frame.definition.options
    policy = options.get("cache_policy")
    return options.get("persist_result") is not False and getattr(policy, "replays", True)


def _take(frame: Frame, source: tuple[bytes, int]) -> bool:
    """Decode the result that a hit names; False where it cannot be decoded, so that the body runs."""
    data = frame.log.recorded_data(*source)
    if not usable(data):
        return False
    try:
        frame.hit = (data, frame.log.unpack(data))
    except RedactedValue:
        return False  # somebody took it away on purpose: it is computed anew
    except Exception:
        _log.exception("the cached result of %s cannot be decoded; the call is made", frame.run.birth.run_name)
        return False
    return True


def cached(frame: Frame, state: Cached) -> Cached:
    """The state as it is recorded, with the result of the hit: a large one is kept once, and stays while either run does."""
    assert frame.hit is not None
    data, value = frame.hit
    state = replace(state, data=data)
    state.carry(value)
    return state


def stored_under_key(frame: Frame, to: Completed, at: float) -> Facts:
    """The facts that put this result under the key of its call; none where it cannot be read back."""
    assert frame.cache_key is not None
    if not usable(to.data):
        return NO_FACTS
    after = frame.cache_key.expiration
    return Facts(key=frame.cache_key.key, expires=None if after is None else at + after)


def _earlier(frame: Frame, child: Frame) -> tuple[bytes, int] | None:
    """The k-th recorded success, in the attempts before this one, of the k-th call like this child's."""
    with frame.lock:
        if frame.replay is None:
            frame.replay = _successes(frame)
        waiting = frame.replay.get(_likeness(child.run))
        return waiting.popleft() if waiting else None


def _successes(frame: Frame) -> dict[tuple[Any, ...], deque[tuple[bytes, int]]]:
    frame.log.log.flush()
    newest: dict[tuple[Any, ...], tuple[int, deque[tuple[bytes, int]]]] = {}
    called = [(run.birth.generation, run) for _, _, run in frame.log.each_called(frame.run.id) if run.spec is not None]
    if frame.shared is not None:
        called += [(generation, run) for _, generation, run in frame.shared.earlier()]
    for generation, run in called:
        state = run.state
        if not frame.run.since <= generation < frame.run.generation or not isinstance(state, Completed | Cached):
            continue
        source = (run.id, run.seq) if isinstance(state, Completed) or state.source is None else state.source
        likeness = _likeness(run)
        last, found = newest.get(likeness, (-1, deque[tuple[bytes, int]]()))
        if generation > last:
            newest[likeness] = (generation, deque([source]))
        elif generation == last:
            found.append(source)
    return {likeness: found for likeness, (_, found) in newest.items()}


def _likeness(run: Run) -> tuple[Any, ...]:
    """What makes two calls the same work: the task, its code, its inputs."""
    spec = run.birth
    return (spec.key, spec.code, *((i.name, i.digest) for i in spec.inputs))

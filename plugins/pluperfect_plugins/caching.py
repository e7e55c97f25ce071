"""Caching: a call whose key is known is answered without its body."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct

from pluperfect.cache_policies import (
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    FlowParameters,
    Inputs,
    NoCache,
    RunId,
    TaskSource,
)
from pluperfect.digests import Undigestible, digest
from pluperfect.errors import PluginError
from pluperfect.hooks import CacheKey, Definition, Option, hookimpl
from pluperfect.rules import Proposal, Verdict
from pluperfect.states import Cached, Pending, Running
from pluperfect.transitions import Run

__all__ = ["cache_key", "options", "review"]

_log: Final = logging.getLogger("pluperfect.plugins")


def _policy(value: Any) -> CachePolicy | None:
    if value is not None and not isinstance(value, CachePolicy):
        raise TypeError(
            f"cache_policy is made of INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS or NO_CACHE, not {value!r}."
        )
    return value


def _key_fn(value: Any) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise TypeError(f"cache_key_fn is called with (context, arguments); {value!r} is not callable.")
    return value


def _expiration(value: Any) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"cache_expiration is a timedelta or a number of seconds, not {value!r}.")
    if not seconds > 0:
        raise ValueError(f"cache_expiration must be longer than 0 seconds, not {value!r}.")
    return float(seconds)


@hookimpl
def options(kind: str) -> Sequence[Option] | None:
    """The options of caching, for tasks."""
    if kind != "task":
        return None
    return [
        Option("cache_policy", None, "which parts of a call make its key", _policy),
        Option("cache_key_fn", None, "makes the key of (context, arguments); None: no caching", _key_fn),
        Option("cache_expiration", None, "for how long a result answers", _expiration),
        Option("refresh_cache", None, "make the call, and replace the entry"),
    ]


class KeyContext(Struct, frozen=True):
    """What a ``cache_key_fn`` is given beside the arguments."""

    task: Any
    task_run: Run
    parameters: Mapping[str, Any]


@hookimpl
def cache_key(
    run: Run, definition: Definition, arguments: Mapping[str, Any], flow_inputs: Mapping[str, Any]
) -> CacheKey | None:
    """The key of a call, with the parts that it was made of."""
    given = definition.options
    policy: CachePolicy | None = given.get("cache_policy")
    fn = given.get("cache_key_fn")
    if fn is not None:
        policy = CacheKeyFnPolicy(fn)
    if policy is None or isinstance(policy, NoCache):
        return None
    if given.get("persist_result") is False:
        return CacheKey(None, why="persist_result=False: there is no result to store")
    refresh, expiration = bool(given.get("refresh_cache")), given.get("cache_expiration")
    if isinstance(policy, CacheKeyFnPolicy):
        key = policy.cache_key_fn(KeyContext(definition.owner, run, arguments), dict(arguments))
        if key is None:
            return CacheKey(None, why="cache_key_fn gave None")
        if not isinstance(key, str):
            raise PluginError(
                f"cache_key_fn of {definition.name} gave {key!r}; it must give a string, or None for no caching."
            )
        return CacheKey(key, {"cache_key_fn": key}, refresh=refresh, expiration=expiration)
    parts: dict[str, str] = {}
    for part in policy.policies if isinstance(policy, CompoundCachePolicy) else (policy,):
        problem = _add(part, parts, run, definition, arguments, flow_inputs)
        if problem:
            _log.warning("a call of %s is not cached: %s", definition.name, problem)
            return CacheKey(None, parts, problem)
    if not parts:
        return CacheKey(None, why="there are no inputs to make a key of")
    text = "\0".join(f"{name}={value}" for name, value in sorted(parts.items()))
    return CacheKey(sha256(text.encode()).hexdigest()[:32], parts, refresh=refresh, expiration=expiration)


def _add(
    policy: CachePolicy,
    parts: dict[str, str],
    run: Run,
    definition: Definition,
    arguments: Mapping[str, Any],
    flow_inputs: Mapping[str, Any],
) -> str:
    """Add what one policy contributes; returns why it cannot, or an empty string."""
    if isinstance(policy, Inputs):
        return _digests("input", {n: v for n, v in arguments.items() if n not in policy.exclude}, parts)
    if isinstance(policy, FlowParameters):
        return _digests("flow parameter", flow_inputs, parts)
    if isinstance(policy, TaskSource):
        parts["source"] = source_digest(definition)
    elif isinstance(policy, RunId):
        parts["run"] = (run.birth.parent or run.id).hex()
    elif isinstance(policy, CacheKeyFnPolicy):
        return "a cache_key_fn cannot be one part of several"
    return ""


def _digests(what: str, values: Mapping[str, Any], parts: dict[str, str]) -> str:
    for name, value in values.items():
        try:
            parts[f"{what} {name}"] = digest(value).hex()
        except Undigestible as error:
            return f"{what} {name!r} cannot be hashed: {error}. Leave it out (INPUTS - {name!r}) or give a cache_key_fn"
        except RecursionError:
            return f"{what} {name!r} is nested in itself. Leave it out (INPUTS - {name!r}) or give a cache_key_fn"
    return ""


_sources: Final[dict[int, tuple[Any, str]]] = {}


def source_digest(definition: Definition) -> str:
    """
    A digest of the function's source text (its byte code, where there is no source), name and closure.

    It is taken once for each function: what it closes over counts as it was at its first call.
    """
    fn = definition.fn
    known = _sources.get(id(fn))
    if known is None or known[0] is not fn:
        if len(_sources) > 4096:  # functions made by the thousand: begin anew rather than keep them all
            _sources.clear()
        known = _sources[id(fn)] = (fn, _digest_source(fn))
    return known[1]


def _digest_source(fn: Callable[..., Any]) -> str:
    import inspect

    try:
        text = inspect.getsource(fn).encode()
    except (OSError, TypeError):
        code = getattr(fn, "__code__", None)
        text = b"" if code is None else code.co_code + repr(code.co_names).encode()
    state = sha256(text)
    state.update(f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', '')}".encode())
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            state.update(digest(cell.cell_contents))
        except (Undigestible, RecursionError, ValueError):
            # What cannot be hashed cannot be told apart; the text and the name still are.
            state.update(b"?")
    return state.hexdigest()[:32]


@hookimpl
def review(run: Run, proposal: Proposal) -> Verdict | None:
    """
    Pending -> Running with a hit becomes Cached; the engine puts the result in.

    The hit may come from the cache index, whoever made the key, or from an earlier attempt of the caller.
    """
    facts = proposal.facts
    if facts.hit is None or not isinstance(proposal.to, Running) or not isinstance(run.state, Pending):
        return None
    if facts.key is None:
        return Verdict(to=Cached(source=facts.hit), why="an earlier attempt of the caller has this result")
    return Verdict(to=Cached(source=facts.hit, key=facts.key), why=f"the key {facts.key} is known")

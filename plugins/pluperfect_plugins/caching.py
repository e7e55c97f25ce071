"""Caching: a call whose key is known is answered without its body."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from hashlib import sha256
from types import CodeType, CoroutineType, FunctionType, MethodType
from typing import Any, Final, NamedTuple, cast

from msgspec import Struct

from pluperfect.ambient import Body, current_body
from pluperfect.cache_policies import (
    NO_CACHE,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    FlowParameters,
    Inputs,
    NoCache,
    RunId,
    TaskSource,
)
from pluperfect.client.schemas.objects import TaskRun
from pluperfect.digests import Undigestible, digest, place_of
from pluperfect.histories import id_text
from pluperfect.hooks import CacheKey, Definition, Option, hookimpl
from pluperfect.rules import Proposal, Verdict
from pluperfect.settings import get_current_settings
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
    if not 0 < seconds < math.inf:
        raise ValueError(f"cache_expiration must be longer than 0 seconds, and finite, not {value!r}.")
    return float(seconds)


def _storage_key(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(
            f"result_storage_key is a text, a template over parameters, flow_run and task_run, not {value!r}."
        )
    return value or None


def _policy_by_default(value: CachePolicy | None, given: Mapping[str, Any]) -> CachePolicy | None:
    """Where a setting says so, a task that names no policy has none, and no attempt answers another."""
    named = value is not None or given.get("cache_key_fn") is not None or given.get("result_storage_key") is not None
    return NO_CACHE if not named and get_current_settings().tasks_default_no_cache else value


def _refresh(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"refresh_cache is True, False or None, not {value!r}.")
    return value


_KEYS: Final = ("cache_key",)
"""The hook that is asked only for calls that may have a key; what answers them may also be an attempt of the caller."""


@hookimpl
def options(kind: str) -> Sequence[Option] | None:
    """The options of caching, for tasks."""
    if kind != "task":
        return None
    return [
        Option(
            "cache_policy",
            None,
            "which parts of a call make its key",
            _policy,
            complete=_policy_by_default,
            wakes=_KEYS,
        ),
        Option("cache_key_fn", None, "makes the key of (context, arguments); None: no caching", _key_fn, wakes=_KEYS),
        Option(
            "result_storage_key",
            None,
            "the key itself, or a template of it; beats the others",
            _storage_key,
            wakes=_KEYS,
        ),
        Option("cache_expiration", None, "for how long a result answers", _expiration),
        Option("refresh_cache", None, "make the call, and replace the entry", _refresh),
    ]


class KeyContext(Struct, frozen=True):
    """What a ``cache_key_fn`` is given beside the arguments."""

    task: Any
    task_run: TaskRun
    parameters: Mapping[str, Any]


@hookimpl
def cache_key(
    run: Run, definition: Definition, arguments: Mapping[str, Any], flow_inputs: Mapping[str, Any]
) -> CacheKey | None:
    """The key of a call, with the parts that it was made of."""
    given = definition.options
    policy: CachePolicy | None = given.get("cache_policy")
    fn, template = given.get("cache_key_fn"), given.get("result_storage_key")
    if fn is not None:
        if policy is not None and not isinstance(policy, NoCache):
            _once(definition, "both cache_key_fn and cache_policy are set: cache_key_fn counts")
        policy = CacheKeyFnPolicy(fn)
    if template is None and (policy is None or isinstance(policy, NoCache)):
        return None
    body = current_body.get()
    settings = get_current_settings() if body is None else body.settings
    if settings.tasks_disable_caching:
        return CacheKey(None, why="TASKS_DISABLE_CACHING: no call is cached")
    if given.get("persist_result") is False:
        _once(definition, "persist_result=False, so that there is no result to store: nothing is cached")
        return CacheKey(None, why="persist_result=False: there is no result to store")
    call = _Call(run, definition, arguments, flow_inputs)
    parts: dict[str, str] = {}
    key = None
    try:
        if template is not None:
            key = parts["result_storage_key"] = _from_template(template, call)
        elif isinstance(policy, CacheKeyFnPolicy):
            key = parts["cache_key_fn"] = _asked(policy, call)
        elif policy is not None:
            for part in policy.policies if isinstance(policy, CompoundCachePolicy) else (policy,):
                _add(part, parts, call)
    except _NoKey as problem:
        if problem.loud:
            _log.warning("a call of %s is not cached: %s", definition.name, problem)
        return CacheKey(None, parts, str(problem))
    if not parts:
        return CacheKey(None, why="there are no inputs to make a key of")
    if template is None and policy is not None and policy.key_storage is not None:
        parts["storage"] = str(policy.key_storage)
        key = None if key is None else f"{policy.key_storage}/{key}"
    if key is None:
        text = "\0".join(f"{name}={value}" for name, value in sorted(parts.items()))
        key = sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
    refresh = given.get("refresh_cache")
    return CacheKey(
        key,
        parts,
        refresh=settings.tasks_refresh_cache if refresh is None else refresh,
        expiration=given.get("cache_expiration"),
    )


class _Call(NamedTuple):
    run: Run
    definition: Definition
    arguments: Mapping[str, Any]
    flow_inputs: Mapping[str, Any]


class _NoKey(Exception):
    """Why there is no key."""

    def __init__(self, why: str, *, loud: bool = True) -> None:
        super().__init__(why)
        self.loud = loud


def _add(policy: CachePolicy, parts: dict[str, str], call: _Call) -> None:
    """
    Add what one policy contributes.

    Raises:
        _NoKey: It cannot say, so that no key is better than half of one.
    """
    if isinstance(policy, Inputs):
        _digests("input", {n: v for n, v in call.arguments.items() if n not in policy.exclude}, parts)
    elif isinstance(policy, FlowParameters):
        _digests("flow parameter", call.flow_inputs, parts)
    elif isinstance(policy, TaskSource):
        parts["source"] = source_digest(call.definition)
    elif isinstance(policy, RunId):
        parts["run"] = (call.run.birth.parent or call.run.id).hex()
    elif isinstance(policy, CacheKeyFnPolicy):
        with contextlib.suppress(_NoneGiven):  # in a sum, a policy with nothing to say is left out
            parts["cache_key_fn"] = _asked(policy, call)
    elif callable(compute := getattr(policy, "compute_key", None)):
        with contextlib.suppress(_NoneGiven):
            parts[f"policy {type(policy).__name__}"] = _text_of(
                "compute_key",
                call,
                lambda: compute(
                    task_ctx=_context(call), inputs=dict(call.arguments), flow_parameters=dict(call.flow_inputs)
                ),
            )
    else:
        raise _NoKey(f"the policy {type(policy).__name__} is not known here: it has no method compute_key")


class _NoneGiven(_NoKey):
    pass


def _context(call: _Call) -> KeyContext:
    return KeyContext(call.definition.owner, TaskRun(call.run), call.arguments)


def _asked(policy: CacheKeyFnPolicy, call: _Call) -> str:
    """The key as a function of the user makes it."""
    return _text_of("cache_key_fn", call, lambda: policy.cache_key_fn(_context(call), dict(call.arguments)))


def _text_of(what: str, call: _Call, ask: Callable[[], Any]) -> str:
    """
    What the user's code gives for a key.

    Raises:
        _NoKey: It gives None or something else than a text, or raises.
    """
    name = call.definition.name
    try:
        key = ask()
    except Exception as error:
        _log.exception("%s of %s raised; the call is made and its result is not cached", what, name)
        raise _NoKey(f"{what} raised {type(error).__name__}: {error}", loud=False) from error
    if key is None:
        raise _NoneGiven(f"{what} gave None", loud=False)
    _not_awaited(key)
    if not isinstance(key, str) or not key:
        _log.error(
            "%s of %s gave %r, which is no string; the call is made and its result is not cached", what, name, key
        )
        raise _NoKey(f"{what} gave {key!r}; it must give a string, or None for no caching", loud=False)
    return key


def _not_awaited(answer: object) -> None:
    """A coroutine is no key. It is closed, since it need not warn of that as well."""
    if isinstance(answer, CoroutineType):
        cast("CoroutineType[Any, Any, Any]", answer).close()


class _Told:
    """A run as a template of keys sees it: the names that `pluperfect.runtime` has."""

    def __init__(self, run: Run, parameters: Mapping[str, Any]) -> None:
        birth = run.birth
        self.id, self.name, self.tags, self.run_count = id_text(run.id), birth.run_name, list(birth.tags), run.attempt
        self.flow_name = self.task_name = birth.name
        self.flow_version, self.root_flow_run_id = birth.version, id_text(birth.root)
        self.parameters = parameters


def _from_template(template: str, call: _Call) -> str:
    around: Body | None = current_body.get()
    flow = None if around is None else around.flow
    try:
        return template.format(
            parameters=call.arguments,
            task_run=_Told(call.run, call.arguments),
            flow_run=None if flow is None else _Told(flow.run, call.flow_inputs),
        )
    except Exception as error:
        raise _NoKey(
            f"result_storage_key {template!r} cannot be filled in ({type(error).__name__}: {error}); it may name"
            " {parameters[x]}, {flow_run.x} and {task_run.x}"
        ) from error


def _digests(what: str, values: Mapping[str, Any], parts: dict[str, str]) -> None:
    for name, value in values.items():
        try:
            parts[f"{what} {name}"] = digest(value).hex()
        except Undigestible as error:
            raise _NoKey(
                f"{what} {name!r} cannot be hashed: {error}. Leave it out (INPUTS - {name!r}) or give a cache_key_fn"
            ) from error


# --- what is known of a function ------------------------------------------------------------------------

_sources: Final[dict[int, tuple[Any, str]]] = {}
_warned: Final[dict[tuple[int, str], Any]] = {}
_MANY: Final = 4096
"""Functions that are made by the thousand are forgotten by and by, and looked at again."""


def _once(definition: Definition, text: str) -> None:
    """Warn, the first time for each function."""
    if _warned.get((id(definition.fn), text)) is definition.fn:
        return
    if len(_warned) >= _MANY:
        _warned.clear()
    _warned[id(definition.fn), text] = definition.fn
    _log.warning("task %s: %s", definition.name, text)


def source_digest(definition: Definition) -> str:
    """
    A digest of the function's source text (its byte code, where there is no source), name, defaults and closure.

    It is taken once for each function: what it closes over counts as it was at its first call.
    """
    fn = definition.fn
    known = _sources.get(id(fn))
    if known is None or known[0] is not fn:
        if len(_sources) >= _MANY:
            _sources.clear()
        known = _sources[id(fn)] = (fn, _digest_source(fn))
    return known[1]


def _digest_source(fn: Any) -> str:
    state = sha256()
    for piece in _source(fn, {}):
        state.update(b"%d:%b" % (len(piece), piece))
    return state.hexdigest()[:32]


def _source(fn: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """What makes a function what it is, piece by piece; the functions that it wraps or closes over included."""
    if id(fn) in seen:
        return
    seen[id(fn)] = fn
    yield f"{place_of(getattr(fn, '__module__', ''))}.{getattr(fn, '__qualname__', type(fn).__qualname__)}".encode()
    if isinstance(fn, partial):
        made = cast("partial[Any]", fn)
        for part in (made.func, *made.args, *(item for pair in sorted(made.keywords.items()) for item in pair)):
            yield from _held(part, seen)
        return
    if isinstance(fn, MethodType):
        yield from _held(fn.__self__, seen)
        fn = fn.__func__
    code = getattr(fn, "__code__", None)
    if isinstance(code, CodeType):
        yield _text(code)
        by_name: dict[str, Any] = fn.__kwdefaults__ or {}
        defaults: list[Any] = [*(fn.__defaults__ or ()), *by_name.items()]
        for held in defaults:
            yield from _held(held, seen)
        for cell in fn.__closure__ or ():
            try:
                yield from _held(cell.cell_contents, seen)
            except ValueError:  # not filled yet
                yield b"?"
    elif callable(fn) and not isinstance(fn, type):  # an object that is called
        yield from _held(vars(fn) if hasattr(fn, "__dict__") else None, seen)
        yield from _source(type(fn).__call__, seen)
    wrapped = getattr(fn, "__wrapped__", None)
    if wrapped is not None:
        yield from _source(wrapped, seen)


def _held(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """A value that a function holds: a function by its source, others by their digest, else by their class alone."""
    if isinstance(value, FunctionType | MethodType | partial):
        yield from _source(value, seen)
        return
    try:
        yield digest(value)
    except Undigestible as error:
        # What cannot be hashed cannot be told apart; its class, the text and the name still are.
        yield f"{error.type.__module__}.{error.type.__qualname__}".encode()


def _text(code: CodeType) -> bytes:
    import inspect

    text = b""
    if code.co_filename != "<string>":  # what all of `exec` and `python -c` is called: its lines may be another one's
        with suppress(OSError, TypeError):
            text = inspect.getsource(code).encode(errors="surrogatepass")
    if text and code.co_name != "<lambda>":
        return text
    return text + repr([*_bytecode(code)]).encode()  # several lambdas can share a line


def _bytecode(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames)).encode(errors="surrogatepass")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytecode(constant)
        else:
            yield digest(constant)


@hookimpl
def review(run: Run, proposal: Proposal, definition: Definition | None) -> Verdict | None:
    """
    Pending -> Running with a hit becomes Cached; the engine puts the result in.

    The hit may come from the cache index, whoever made the key, or from an earlier attempt of the caller. It is asked about every
    state of every task, and takes all arguments of its hook, since then it is called as it is.
    """
    facts = proposal.facts
    if facts.hit is None or type(proposal.to) is not Running or type(run.state) is not Pending:
        return None
    if facts.key is None:
        return Verdict(to=Cached(source=facts.hit), why="an earlier attempt of the caller has this result")
    return Verdict(to=Cached(source=facts.hit, key=facts.key), why=f"the key {facts.key} is known")

"""Recorded outcomes in the place of calls: what tests that are made of histories are written with."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ..authoring.bodies import finish_awaitable
from ..authoring.flows import Flow
from ..authoring.logs import nearest_log
from ..authoring.resuming import load_flow
from ..authoring.sharing import current_stubs, stubbed
from ..histories import RecordedRun
from ..places import calls
from ..states import Error, Packed
from ..values import codec_of

__all__ = ["calls", "error", "find", "play", "recorded", "stubs"]

_CODES: Final = {codec_of(Packed(code, b"")): code for code in range(1, 7)}


@contextmanager
def stubs(outcomes: Mapping[str, Any], *, live: Iterable[str] = ()) -> Iterator[None]:
    """
    Answer the calls of tasks with these outcomes: no body of a task is called in the runs that begin inside.

    They are recorded as what they are, outcomes that were set beforehand (``by`` is ``override``).

    Args:
        outcomes: By the place of a call, such as ``"fetch:2"``: a value, an exception, a final state, or what `recorded` or
            `error` give.
        live: The places of calls that are carried out.

    Raises:
        Divergence: From the flow: it makes a call that has no stub.
    """
    token = current_stubs.set(stubbed(nearest_log(), outcomes, live=live))
    try:
        yield
    finally:
        current_stubs.reset(token)


def recorded(codec: str, text: str) -> Packed:
    """
    A value as a log keeps it, from the base 64 of its bytes.

    Args:
        codec: Its codec, as ``specs/records.md`` lists them.
        text: The bytes in base 64.

    Raises:
        ValueError: There is no such codec.
    """
    if codec not in _CODES:
        raise ValueError(f"There is no codec {codec!r}. There are: {', '.join(_CODES)}.")
    return Packed(_CODES[codec], base64.b64decode(text))


def error(type: str, message: str, text: str = "") -> Error:
    """
    An exception as a log keeps it.

    Args:
        type: The qualified name of its class.
        message: What it says.
        text: The pickled exception in base 64, where it is on record.
    """
    return Error(type, message, "", recorded("pickle", text) if text else None)


def find(entry: str) -> Flow[..., Any]:
    """
    The flow at ``file.py:name`` or ``module:name``; a file is looked for from the working folder.

    Raises:
        PluperfectError: It is not there, or is no flow.
    """
    return load_flow(entry)


def play(
    flow: Flow[..., Any], parameters: Mapping[str, Any], outcomes: Mapping[str, Any], *, live: Iterable[str] = ()
) -> RecordedRun:
    """
    Call a flow, sync or async, with `stubs` in the place of its tasks.

    Args:
        flow: The flow.
        parameters: By name; what `recorded` gives is decoded.
        outcomes: As for `stubs`.
        live: As for `stubs`.

    Returns:
        Its run, whether it completed or failed.

    Raises:
        Divergence: It makes a call that has no stub.
    """
    log = nearest_log()
    flow = getattr(flow, "__pluperfect_flow__", flow)
    given = {name: log.unpack(one) if isinstance(one, Packed) else one for name, one in parameters.items()}
    args, kwargs = flow.binder.arguments(given)
    with stubs(outcomes, live=live):
        state: Any = flow(*args, return_state=True, **kwargs)
        if flow.is_async:
            state = finish_awaitable(state)
    log.flush()
    return RecordedRun(log, state.of_run)

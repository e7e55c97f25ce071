"""Going on with a recorded run from outside of the program that began it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from ..digests import SCRIPT
from ..errors import PluperfectError, UntrustedValue
from ..histories import RecordedRun
from ..states import ABSENT, usable
from .bodies import finish_awaitable
from .flows import Flow
from .logs import OpenLog

__all__ = ["find_flow", "flow_of", "load_flow", "parameters_of", "resume"]


def resume(log: OpenLog, run_id: str) -> RecordedRun:
    """
    Go on with a root flow run that has not ended, in this process; a run that has ended is left as it is.

    Raises:
        UnknownRun: There is no such run.
        PluperfectError: It is no root flow run, its function is not found, or a parameter is not on record.
    """
    recorded = log.run(run_id)
    run = recorded.folded
    spec = run.birth
    if spec.kind != "flow" or spec.parent is not None:
        above = f" It belongs to {recorded.parent!r}: resume that one." if recorded.parent is not None else ""
        raise PluperfectError(
            f"{recorded!r} is no flow that was called from outside, so it cannot be resumed by itself.{above}"
        )
    if run.final:
        return recorded
    if not log.trusts(run.id):
        raise UntrustedValue(
            f"{recorded!r} was imported, and resuming it imports the module that its history names. If you trust whoever made the"
            " file: pluperfect --trust-imported resume RUN."
        )
    flow = find_flow(spec.entry, spec.name)
    parameters = parameters_of(log, recorded, "resumed")
    options: dict[str, Any] = {} if spec.idempotency_key is None else {"idempotency_key": spec.idempotency_key}
    chosen = flow.with_options(**options)
    try:
        outcome = chosen.resume(run.id, parameters)
        if chosen.is_async:
            finish_awaitable(outcome)
    except PluperfectError:
        if not recorded.folded.final:
            raise
    except Exception:  # the run has failed, and its record says how
        if not recorded.folded.final:
            raise
    return recorded


def parameters_of(log: OpenLog, recorded: RecordedRun, what: str) -> dict[str, Any]:
    """
    The parameters that a flow run was called with, decoded.

    Raises:
        PluperfectError: One is not on record, so that the run cannot be ``what``: resumed, or replayed.
    """
    parameters: dict[str, Any] = {}
    for given in recorded.folded.birth.inputs:
        if not usable(given.value):
            why = given.value.data.decode() if getattr(given.value, "code", None) == ABSENT else "too large"
            advice = " Call the flow again in the program that has the value, with the same idempotency_key."
            raise PluperfectError(
                f"{recorded!r} cannot be {what} from here: its parameter {given.name!r} is not on record ({why})."
                f"{advice if what == 'resumed' else ''}"
            )
        parameters[given.name] = log.unpack(given.value)
    return parameters


def flow_of(log: OpenLog, recorded: RecordedRun, given: Any, refusal: str) -> Flow[..., Any]:
    """
    The flow that made a root flow run: the one that is handed in, or else the one that its record names.

    Args:
        log: Where the run is.
        recorded: The run.
        given: The flow, where it is (``module:flow``), or None.
        refusal: Of an imported run: what is not done, and how it may be done all the same.

    Raises:
        UntrustedValue: The run was imported, and nobody has said that the module it names may be imported.
        PluperfectError: The flow is not there, or is another one.
        TypeError: What is handed in is no flow.
    """
    spec = recorded.folded.birth
    if isinstance(given, str):
        given = load_flow(given)
    elif given is None:
        if not log.trusts(recorded.folded.id):
            raise UntrustedValue(f"{recorded!r} was imported, and {refusal}")
        given = find_flow(spec.entry, spec.name)
    found = getattr(given, "__pluperfect_flow__", given)
    if not isinstance(found, Flow):
        raise TypeError(f"flow is the flow that made {recorded!r}, not {found!r}.")
    if found.name != spec.name:
        raise PluperfectError(
            f"{recorded!r} is a run of flow {spec.name!r}; the flow {found.name!r} was given. If the flow was renamed, give it the"
            f" name that is on record: with_options(name={spec.name!r})."
        )
    return found  # type: ignore[reportUnknownVariableType]


def find_flow(entry: str, name: str) -> Flow[..., Any]:
    """
    Import the flow that a record names by ``module:qualname`` or ``file.py:qualname``.

    Raises:
        PluperfectError: It is not there, or is no flow.
    """
    place, _, qualname = entry.rpartition(":")
    if not place or "<locals>" in qualname:
        raise PluperfectError(
            f"Flow {name!r} was defined inside of a function or a shell ({entry or 'no place recorded'}), so it cannot be"
            " imported. Call it again in its own program, with the same idempotency_key."
        )
    try:
        found: Any = _attribute(place, qualname)
    except (ImportError, OSError, AttributeError) as error:
        raise PluperfectError(
            f"Flow {name!r} was recorded as {entry}, which cannot be imported: {error}. Run this where the program is"
            " importable, for instance in its folder."
        ) from error
    found = getattr(found, "__pluperfect_flow__", found)  # the classic room's flows are built when they are run
    if not isinstance(found, Flow):
        raise PluperfectError(f"{entry} is a {type(found).__name__}, not the flow {name!r} that the record names.")
    return found  # type: ignore[reportUnknownVariableType]


def load_flow(place: str) -> Any:
    """
    Import the flow that somebody names as ``module:flow`` or ``file.py:flow``.

    Raises:
        PluperfectError: It is not there, or is no flow.
    """
    module, _, qualname = place.rpartition(":")
    if not module or not qualname:
        raise PluperfectError(f"{place!r} names no flow. Write module:flow or file.py:flow.")
    try:
        found = _attribute(os.path.abspath(module) if module.endswith(".py") else module, qualname)  # noqa: PTH100
    except Exception as error:  # a module may raise anything while it is imported
        raise PluperfectError(
            f"{place} cannot be imported: {type(error).__name__}: {error}. Run this where it is importable, for instance in its"
            " folder."
        ) from error
    found = getattr(found, "__pluperfect_flow__", found)
    if not isinstance(found, Flow):
        raise PluperfectError(f"{place} is a {type(found).__name__}, and no flow.")
    return found  # type: ignore[reportUnknownVariableType]


def _attribute(place: str, qualname: str) -> Any:
    found: Any = _module(place)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(place)
    # A script: loaded under a name of its own, so that its `if __name__ == "__main__":` does not run.
    running = getattr(sys.modules.get("__main__"), "__file__", None)
    if running is not None and str(Path(running).absolute()) == place:
        return sys.modules["__main__"]  # it is that script which asks
    name = f"{SCRIPT}{Path(place).stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(Path(place)):
        return known  # and not a script of the same name in another folder
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module can be loaded from {place}")
    sys.path.insert(0, str(Path(place).parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

"""Forks: new runs that share the beginning of a recorded one, and go another way from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from ..errors import PluperfectError
from ..histories import RecordedRun, id_text
from ..places import any_generation, places
from ..values import Forked
from .bodies import finish_awaitable
from .clock import new_run_id
from .context import current_frame, current_log
from .resuming import flow_of, parameters_of
from .sharing import packed_override

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["fork"]

_log: Final = logging.getLogger("pluperfect.engine")


def fork(log: OpenLog, recorded: RecordedRun, at: int | None, overrides: Mapping[str, Any], flow: Any) -> RecordedRun:
    """Begin a fork and carry it out; see `RecordedRun.fork`."""
    log.flush()
    parent = recorded.folded
    spec = parent.birth
    if spec.kind != "flow" or spec.parent is not None:
        raise PluperfectError(
            f"{recorded!r} is no flow that was called from outside, and only such a run is forked. Fork run"
            f" {id_text(spec.root)}; a call in it is overridden by its place, such as part:0/fetch:2."
        )
    tree = recorded.tree
    number = len(tree.events) if at is None else at
    tree.at(number)  # refused where there is none
    set_for = tuple(packed_override(log, place, given) for place, given in overrides.items())
    flow = flow_of(
        log,
        recorded,
        flow,
        "forking it imports the module that its history names. Hand the flow in as flow=..., or, if you trust whoever made the"
        " file, open the log with trust_imported=True.",
    )
    parameters = parameters_of(log, recorded, "forked")
    forked = Forked(parent.id, number, tree.digest(number), set_for)
    made = RecordedRun(log, new_run_id(log.clock.now()))
    chosen = flow.with_options(idempotency_key=None)

    def carry_out() -> None:
        current_log.set(log)
        current_frame.set(None)  # a run of its own, wherever it is asked for
        outcome = chosen.fork(made._run, forked, parameters)
        if chosen.is_async:
            finish_awaitable(outcome)

    try:
        copy_context().run(carry_out)
    except Exception:  # the fork has failed, and its record says how
        log.flush()
        head = log.log.head(made._run)
        if head is None or not made.folded.final:
            raise
    log.flush()
    _warn_of_the_unused(made)
    return made


def _warn_of_the_unused(fork: RecordedRun) -> None:
    forked = fork.folded.birth.forked
    assert forked is not None
    made = {any_generation(place) for place in places(fork.at(len(fork.events)))}
    unused = [one.place for one in forked.overrides if any_generation(one.place) not in made]
    if unused:
        _log.warning(
            "no call was made at %s: %s had no effect on run %s",
            ", ".join(unused),
            "this override" if len(unused) == 1 else "these overrides",
            fork.name,
        )

"""What became of runs whose process died: which they are, what is in doubt, and how they go on or are repaired."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from .. import course
from ..errors import Fenced, PausedRun, PluperfectError, Refused
from ..histories import RecordedRun
from ..hooks import Part
from ..rules import Proposal, Question, settle
from ..states import KINDS, Completed, Retrying, Running, State
from ..transitions import Ruling, Transition

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["Recovered", "in_doubt", "interrupted", "recover", "repair"]

Repair = Literal["retry", "fail", "skip", "result"]

REPAIRED: Final = "repair"
"""Who recorded an entry that a person asked for: the ``by`` of the entry."""


class Recovered(Struct, frozen=True):
    """
    What `recover` did with one run.

    Attributes:
        run: The run.
        outcome: ``ended`` (see its state), ``paused``, ``held`` (somebody else carries it out), ``given up`` (too many
            processes died of it), or ``not resumed``.
        why: For those that were not resumed, the reason.
    """

    run: RecordedRun
    outcome: str
    why: str = ""


def interrupted(log: OpenLog) -> list[RecordedRun]:
    """The flows that were left behind; see `OpenLog.interrupted`."""
    log.flush()
    open_ones = [run for kind in KINDS if not kind.final for run in log.log.find(state=kind.code, roots=True)]
    return sorted(
        (run for run in map(partial(RecordedRun, log), open_ones) if run.interrupted), key=lambda run: run.folded.born
    )


def in_doubt(log: OpenLog) -> list[RecordedRun]:
    """The calls in doubt; see `OpenLog.in_doubt`."""
    log.flush()
    begun = map(partial(RecordedRun, log), log.log.find(state=Running.code))
    return [run for run in begun if run.folded.birth.kind == "task" and run.interrupted][::-1]


def recover(log: OpenLog, *, limit: int = 3, only: Iterable[str] | None = None) -> list[Recovered]:
    """Go on with them; see `OpenLog.recover`."""
    if limit < 1:
        raise ValueError(f"limit is how many processes may have died of a run: 1 or more, not {limit!r}.")
    from .resuming import resume

    wanted = None if only is None else set(only)
    done: list[Recovered] = []
    for run in interrupted(log):
        if wanted is not None and run.folded.birth.name not in wanted:
            continue
        deaths = _deaths(run)
        if deaths >= limit:
            why = f"{deaths} processes died of it, and the limit is {limit}. Find out why, then `pluperfect resume {run.id}`"
            done.append(Recovered(run, "given up", why))
            continue
        try:
            resume(log, run.id)
        except Fenced as error:
            done.append(Recovered(run, "held", str(error)))
        except PausedRun as pause:
            done.append(Recovered(run, "paused", str(pause)))
        except PluperfectError as error:
            done.append(Recovered(run, "ended" if run.folded.final else "not resumed", str(error)))
        else:
            done.append(Recovered(run, "ended"))
    return done


def _deaths(run: RecordedRun) -> int:
    """How many processes died while they carried a run out, the last one included."""
    entries = run.transitions
    marked = sum(isinstance(entry.to, Retrying) and entry.to.cause == "interrupted" for entry in entries)
    return marked + isinstance(entries[-1].to, Running)


def repair(
    log: OpenLog,
    run_id: str,
    action: Repair,
    *,
    result: Any = None,
    why: str = "",
) -> RecordedRun:
    """Say what became of a call in doubt; see `OpenLog.repair`."""
    if action not in ("retry", "fail", "skip", "result"):
        raise ValueError(f"A repair is 'retry', 'fail', 'skip' or 'result', not {action!r}.")
    recorded = log.run(run_id)
    run = recorded.folded
    root = run.birth.root
    if not isinstance(run.state, Running):
        raise ValueError(
            f"{recorded!r} is in no doubt: it is {run.state}. Only a call that began and has no end can be repaired."
        )
    epoch = log.log.claim(root, log.clock.now())
    try:
        run = recorded.folded  # what it is now that nobody else can change it
        if not isinstance(run.state, Running):
            raise ValueError(f"{recorded!r} has gone on meanwhile: it is {run.state}. Nothing was changed.")
        proposal = Proposal(_repaired(log, action, result, why), log.clock.now())
        verdict, by = log.hooks.awake(None).review(run, proposal, None)
        entry = settle(run, proposal, verdict, by, epoch)
        if isinstance(entry, Question):
            raise PluperfectError(
                f"Rule {by!r} wants to ask the function behind the option {entry.option!r}, which is not at hand here. Resume"
                f" the flow in its program instead: `pluperfect resume {root.hex()}`."
            )
        if isinstance(entry, Transition) and not entry.by:
            entry = replace(entry, by=REPAIRED, why=why or f"somebody said {action}")
        log.log.append((Part(run.id, root, run.seq, (entry,)),), epoch=epoch).wait()
    finally:
        log.log.release(root, epoch)
        log.flush()
    if isinstance(entry, Ruling):
        raise Refused(
            f"{proposal.to.kind} was refused for {recorded!r} by {entry.by}: {entry.why}.",
            run=run.id.hex(),
            by=entry.by,
            why=entry.why,
        )
    return recorded


def _repaired(log: OpenLog, action: str, result: Any, why: str) -> State:
    if action == "retry":
        return Retrying(why or "it is called again", "interrupted", log.clock.now())
    if action == "fail":
        return course.in_doubt(why)
    if action == "skip":
        return Completed("", log.hooks.pack(None), "Skipped")
    return Completed("", log.hooks.pack(result))

"""A flow that is run again answers its calls from the attempt before, where that had their results."""

from __future__ import annotations

from pluperfect.hooks import hookimpl
from pluperfect.rules import Proposal, Verdict
from pluperfect.states import Cached, Pending, Running
from pluperfect.transitions import Run

__all__ = ["review"]


@hookimpl
def review(run: Run, proposal: Proposal) -> Verdict | None:
    """Pending -> Running with a hit that has no key becomes Cached: the earlier attempt's result."""
    if proposal.facts.hit is None or proposal.facts.key is not None:
        return None
    if not isinstance(proposal.to, Running) or not isinstance(run.state, Pending):
        return None
    return Verdict(to=Cached(source=proposal.facts.hit), why="an earlier attempt of the caller has this result")

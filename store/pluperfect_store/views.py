"""
What a record makes of the views: pure functions, used by live appends, by rebuild and by compare alike.

Two kinds of rows follow from the log. Some say what a run is *now* (its place among the runs of a state,
its timer): they are a function of its head, `standing`, and go when the head moves on. The others say what
*happened* (a name, a tag, a child, a cached result): they follow from one entry, `lasting`, and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from pluperfect.hooks import Cell, Head
from pluperfect.states import KINDS, Completed, Pending, Retrying, Spec, usable
from pluperfect.transitions import Entry, Ruling

from .layout import cache_key, child_key, due_ms, encode_value, state_key, text_key, timer_key

__all__ = ["Gist", "View", "birth_of", "evolve", "gist", "lasting", "standing"]

View = tuple[str, bytes, bytes]
"""A table, a key and a value."""


_UNBORN: Final = Head(0, 0, 0, 0, b"")
_NO_ROWS: Final[list[View]] = []


class Gist(Struct, frozen=True, gc=False):
    """
    All that the views need of one entry.

    Appends that wait for their commit keep it in the place of their entries: those are many objects each, over which the garbage
    collector would walk again and again. It refers to nothing that could refer to it, and is none of its business.

    Attributes:
        state: The code of the state that the run moved to; 0 where it stayed.
        final: Whether nothing can follow.
        due: When the run goes on, in milliseconds since the epoch; 0: at no set time; None: as before.
        root: Of a birth, what it was born under.
        name: Of a birth, the name of the flow or task.
        tags: Its tags.
        parent: The run that called it.
        key: The cache key under which it stores a result; None where it stores none.
        expires: When that stops answering, UTC seconds since the epoch.
    """

    state: int = 0
    final: bool = False
    due: int | None = None
    root: bytes | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    parent: bytes | None = None
    key: str | None = None
    expires: float | None = None


_MOVED: Final = {kind: Gist(kind.code, kind.final, 0) for kind in KINDS}
"""Of most states it says no more than which they are."""

_UNKNOWN: Final = Gist()
"""Of what this release does not know: the state stays."""


def gist(entry: Entry | None) -> Gist:
    """What the views need of an entry; None is one of a type that this release does not know."""
    if entry is None:
        return _UNKNOWN
    to = entry.to
    if to is None:
        until = entry.until if type(entry) is Ruling else None
        return Gist(0, False, None if until is None else due_ms(until))
    if type(to) is Completed:
        key = entry.facts.key
        if key is not None and usable(to.data):
            expires = entry.facts.expires
            # As float, which is how it comes back from the log: a projection of either gives the same bytes.
            expires = None if expires is None else float(expires)
            return Gist(to.code, True, 0, None, None, (), None, key, expires)
    elif type(to) is Pending or type(to) is Retrying:
        spec = to.spec if type(to) is Pending else None
        due = 0 if to.due is None else due_ms(to.due)
        if spec is None:
            return Gist(to.code, False, due)
        return Gist(to.code, False, due, spec.root, spec.name, spec.tags, spec.parent)
    return _MOVED[type(to)]


def birth_of(entry: Entry | None) -> Spec | None:
    """The Spec that a first entry carries."""
    state = None if entry is None else entry.to
    return state.spec if type(state) is Pending else None


def evolve(
    before: Head | None, run: bytes, places: Sequence[int], gists: Sequence[Gist], leaf: bytes, epoch: int
) -> Head:
    """
    The head after some more records; it takes whatever was recorded.

    Args:
        before: The head so far; None at birth.
        run: The run.
        places: Where the records stand in the log.
        gists: What they say.
        leaf: The hash of the last.
        epoch: The term of their writer. Only the head of a root keeps it; see `Head.epoch`.
    """
    if before is None:
        root = gists[0].root
        before, born, root = _UNBORN, places[0], None if root == run else root
    else:
        born, root = before.born, before.root
    state, outcome, due = before.state, before.outcome, before.due
    nth = 0
    for told in gists:  # counted by hand: most are two or three, and `enumerate` costs as much as all of this
        if told.state:
            state = told.state
            if told.final:
                outcome = places[nth]
        nth += 1  # noqa: SIM113
        if told.due is not None:
            due = told.due
    seen = 0 if root is not None else max(before.epoch, epoch)
    return Head(before.seq + len(gists), places[-1], born, state, leaf, root, outcome, seen, due, before.imported)


def standing(run: bytes, head: Head) -> list[View]:
    """The rows that say what a run is now."""
    rows: list[View] = []
    if head.state:
        rows.append(("by_state", state_key(head.state, head.root, head.born), run))
    if head.due:
        rows.append(("timer", timer_key(head.due, run), b""))
    return rows


def lasting(run: bytes, position: int, seq: int, told: Gist) -> list[View]:
    """The rows that say what one entry brought about."""
    if told.name is not None and seq == 1:
        rows: list[View] = [("by_name", text_key(told.name, position), run)]
        if told.tags:
            for tag in dict.fromkeys(told.tags):
                rows.append(("by_tag", text_key(tag, position), run))
        if told.parent is not None:
            rows.append(("child", child_key(told.parent, position), run))
        return rows
    if told.key is not None:
        return [("cache", cache_key(told.key), encode_value(Cell(run, seq, told.expires)))]
    return _NO_ROWS

"""
What a record makes of the views: pure functions, used by live appends, by rebuild and by compare alike.

Two kinds of rows follow from the log. Some say what a run is *now* (its place among the runs of a state,
its timer): they are a function of its head, `standing`, and go when the head moves on. The others say what
*happened* (a name, a tag, a child, a cached result): they follow from one entry, `lasting`, and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pluperfect.hooks import Cell, Head
from pluperfect.states import Completed, Pending, Retrying, Spec, usable
from pluperfect.transitions import Entry, Ruling

from .layout import cache_key, child_key, due_ms, encode_value, state_key, text_key, timer_key

__all__ = ["View", "birth_of", "evolve", "key_of", "lasting", "root_of", "standing"]

View = tuple[str, bytes, bytes]
"""A table, a key and a value."""


_WAITING: Final = (Pending, Retrying)
_UNBORN: Final = Head(0, 0, 0, 0, b"")


_NO_ROWS: Final[list[View]] = []


def birth_of(entry: Entry | None) -> Spec | None:
    """The Spec that a first entry carries."""
    state = None if entry is None else entry.to
    return state.spec if type(state) is Pending else None


def root_of(run: bytes, entry: Entry | None) -> bytes | None:
    """The root that a run is born under; None where it is its own."""
    spec = birth_of(entry)
    return None if spec is None or spec.root == run else spec.root


def evolve(
    before: Head | None, run: bytes, places: Sequence[int], entries: Sequence[Entry | None], leaf: bytes, epoch: int
) -> Head:
    """
    The head after some more records; it takes whatever was recorded.

    Args:
        before: The head so far; None at birth.
        run: The run.
        places: Where the records stand in the log.
        entries: What they hold; None where this release does not know the type of one: the state stays.
        leaf: The hash of the last.
        epoch: The term of their writer. Only the head of a root keeps it; see `Head.epoch`.
    """
    if before is None:
        before, born, root = _UNBORN, places[0], root_of(run, entries[0])
    else:
        born, root = before.born, before.root
    state, outcome, due = before.state, before.outcome, before.due
    for place, entry in zip(places, entries, strict=True):
        if entry is None:
            continue
        to = entry.to
        if to is None:
            if type(entry) is Ruling and entry.until is not None:
                due = due_ms(entry.until)
        else:
            state = to.code
            if to.final:
                outcome = place
            until = to.due if isinstance(to, _WAITING) else None
            due = 0 if until is None else due_ms(until)
    seen = 0 if root is not None else max(before.epoch, epoch)
    return Head(before.seq + len(entries), places[-1], born, state, leaf, root, outcome, seen, due, before.imported)


def standing(run: bytes, head: Head) -> list[View]:
    """The rows that say what a run is now."""
    rows: list[View] = []
    if head.state:
        rows.append(("by_state", state_key(head.state, head.root, head.born), run))
    if head.due:
        rows.append(("timer", timer_key(head.due, run), b""))
    return rows


def lasting(run: bytes, position: int, seq: int, entry: Entry | None) -> list[View]:
    """The rows that say what one entry brought about."""
    to = None if entry is None else entry.to
    if type(to) is Completed:
        key = key_of(entry)
        if key is not None:
            assert entry is not None
            expires = entry.facts.expires
            # As float, which is how it comes back from the log: a projection of either gives the same bytes.
            cell = Cell(run, seq, None if expires is None else float(expires))
            return [("cache", cache_key(key), encode_value(cell))]
    elif type(to) is Pending and seq == 1 and to.spec is not None:
        return _born(run, position, to.spec)
    return _NO_ROWS


def key_of(entry: Entry | None) -> str | None:
    """The cache key under which this entry stores a result; None where it stores none."""
    if entry is None or type(entry.to) is not Completed or entry.facts.key is None:
        return None
    return entry.facts.key if usable(entry.to.data) else None


def _born(run: bytes, position: int, spec: Spec) -> list[View]:
    rows: list[View] = [("by_name", text_key(spec.name, position), run)]
    rows.extend(("by_tag", text_key(tag, position), run) for tag in dict.fromkeys(spec.tags))
    if spec.parent is not None:
        rows.append(("child", child_key(spec.parent, position), run))
    return rows

"""Two texts side by side, as the commands that compare things print them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import zip_longest

__all__ = ["columns"]

_BETWEEN = " | "
_MARKED, _UNMARKED = "> ", "  "
_NARROWEST = 12


def columns(
    left: Sequence[str],
    right: Sequence[str],
    *,
    heads: tuple[str, str],
    mark: int | None = None,
    width: int | None = None,
) -> list[str]:
    """
    Two aligned columns of text under two heads.

    A row stands in as many lines as its longer side needs; nothing is cut off. The shorter column is filled up with empty rows.
    A column is no wider than its longest row, so that short texts stand close together.

    Args:
        left: The rows of the left column; a line break within one begins a new line of the same row.
        right: Those of the right column.
        heads: What stands above each.
        mark: The row that is pointed out, from 0; where left out, none.
        width: How many cells of a terminal a line may have; the terminal's where left out, 120 where there is none.

    Raises:
        IndexError: There is no row ``mark``.
    """
    rows = list(zip_longest(left, right, fillvalue=""))
    if mark is not None and not 0 <= mark < len(rows):
        raise IndexError(f"There is no row {mark} to mark; there are {len(rows)}, counted from 0.")
    room = (shutil.get_terminal_size((120, 24)).columns if width is None else width) - len(_BETWEEN) - len(_MARKED)
    wide, other = _widths(_widest(left, heads[0]), _widest(right, heads[1]), max(room, 2 * _NARROWEST))
    lines = [*_row(*heads, _UNMARKED, wide, other), _UNMARKED + "-" * wide + "-+-" + "-" * other]
    for number, (one, another) in enumerate(rows):
        lines += _row(one, another, _MARKED if number == mark else _UNMARKED, wide, other)
    return lines


def _widest(texts: Sequence[str], head: str) -> int:
    return max(_cells(line) for text in (*texts, head) for line in _lines(text))


def _widths(one: int, other: int, room: int) -> tuple[int, int]:
    """What each of two columns gets of the room: what it needs, and where that is too much, the half or what the other leaves."""
    half = room // 2
    if one + other <= room:
        return one, other
    if one <= half:
        return one, room - one
    if other <= half:
        return room - other, other
    return half, half


def _row(one: str, another: str, margin: str, wide: int, other: int) -> Iterator[str]:
    for number, (a, b) in enumerate(zip_longest(_wrapped(one, wide), _wrapped(another, other), fillvalue="")):
        before = margin if number == 0 else _UNMARKED
        yield f"{before}{a}{' ' * (wide - _cells(a))}{_BETWEEN}{b}".rstrip()


def _lines(text: str) -> list[str]:
    return text.expandtabs(4).splitlines() or [""]


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most so many cells, broken at a space where there is one in the second half of the line."""
    found: list[str] = []
    for line in _lines(text):
        rest = line
        while _cells(rest) > width:
            end = _fitting(rest, width)
            space = rest.rfind(" ", end // 2, end + 1)
            end = end if space <= 0 else space
            found.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        found.append(rest)
    return found


def _fitting(text: str, width: int) -> int:
    """How many characters fit into so many cells; at least one, so that there is an end."""
    used = 0
    for number, sign in enumerate(text):
        used += _cells(sign)
        if used > width:
            return max(number, 1)
    return len(text)


def _cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)

"""Two columns: aligned, whole, within the width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pluperfect_plugins.columns import columns

TEXTS = st.lists(
    st.text(st.characters(min_codepoint=32, max_codepoint=0x9FFF, exclude_categories=("C", "Z", "M"))), max_size=6
)


def test_two_columns_stand_under_their_heads_and_one_row_is_marked():
    shown = columns(
        ["load()", "train(x=1)"], ["load()", "train(x=2)", "save()"], heads=("recorded", "replayed"), mark=1
    )
    assert shown == [
        "  recorded   | replayed",
        "  -----------+-----------",
        "  load()     | load()",
        "> train(x=1) | train(x=2)",
        "             | save()",
    ]


@given(TEXTS, TEXTS, st.integers(30, 90))
def test_nothing_is_cut_off_and_no_line_is_wider_than_it_may_be(left, right, width):
    shown = columns(left, right, heads=("a", "b"), width=width)
    assert all(cell_len(line) <= width for line in shown)
    place = shown[1].index("+")
    halves = [(_until(line, place - 3), _after(line, place)) for line in shown[2:]]
    assert "".join(h[0] for h in halves) == "".join(left)
    assert "".join(h[1] for h in halves) == "".join(right)


def _until(line: str, cells: int) -> str:
    kept = ""
    for sign in line[2:]:
        if cell_len(kept + sign) > cells:
            break
        kept += sign
    return kept.strip()


def _after(line: str, cells: int) -> str:
    seen = 0
    for number, sign in enumerate(line):
        if seen > cells:
            return line[number:].strip()
        seen += cell_len(sign)
    return ""


def test_a_row_that_is_too_long_goes_on_in_the_next_line_and_the_next_row_waits():
    shown = columns(["one two three four five", "x"], ["1", "2"], heads=("l", "r"), width=30)
    assert shown[2:] == ["  one two three four five | 1", "  x                       | 2"]
    long = columns(["one two three four five six", "x"], ["1 2 3 4 5 6 7", "2"], heads=("l", "r"), width=30)
    assert long[2:] == [
        "  one two      | 1 2 3 4 5 6",
        "  three four   | 7",
        "  five six     |",
        "  x            | 2",
    ]


def test_a_line_break_in_a_row_is_kept():
    assert columns(["a\nb", "c"], ["1", "2"], heads=("l", "r"))[2:] == ["  a | 1", "  b |", "  c | 2"]


def test_a_mark_on_no_row_is_refused():
    with pytest.raises(IndexError, match="no row 2 to mark; there are 1"):
        columns(["a"], [], heads=("l", "r"), mark=2)

"""Equal values have equal digests; values that differ, in kind too, have others."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import itertools
import pathlib
import subprocess
import sys
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.digests import Undigestible, digest


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


DIFFERENT = [
    None, True, False, 0, 1, -1, 1.0, 0.0, "", "1", b"1", [], [1], [[1]], (), (1,), {1}, frozenset({1}), {}, {"1": 1}, {1: 1},
    {"a": {"b": 1}}, 2**70, 1j, decimal.Decimal(1), uuid.UUID(int=1), datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1),
    datetime.timedelta(1), pathlib.PurePosixPath("1"), Colour.RED, Colour.BLUE, Point(1), Point(1, 1), range(3), [0, 1, 2],
    bytearray(b"1"), Point, len, ["a", "b"], ["ab"], {"a": "b"}, ..., [None], "None",
]  # fmt: skip

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.dates() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_values_of_other_kinds_have_other_digests():
    for (i, one), (j, other) in itertools.combinations(enumerate(DIFFERENT), 2):
        assert digest(one) != digest(other), (i, j, one, other)


@given(values)
def test_a_copy_has_the_same_digest(value):
    import copy

    assert digest(copy.deepcopy(value)) == digest(value)
    assert len(digest(value)) == 16


@given(st.dictionaries(st.text(), values, min_size=2, max_size=5))
def test_the_order_of_a_dict_does_not_count(value):
    assert digest(dict(reversed(value.items()))) == digest(value)
    assert digest(Point(dict(reversed(value.items())))) == digest(Point(value))


@given(st.lists(st.integers(), min_size=2, unique=True))
def test_the_order_of_a_list_counts(value):
    assert digest(value[::-1]) != digest(value)


def test_digests_are_the_same_in_another_process():
    value = "({'b', 'a'}, {'x': frozenset([1, 2])}, 1.5)"
    code = f"from pluperfect.digests import digest; print(digest({value}).hex())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == digest(eval(value)).hex()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), r"^\$ is a _thread.lock"),
        ({"rows": [1, object()]}, r"^\$\['rows'\]\[1\]"),
        (Point(object()), r"^\$\.x"),
    ],
)
def test_what_has_no_structure_is_named_by_its_path(value, path):
    with pytest.raises(Undigestible, match=path):
        digest(value)


def test_a_value_nested_in_itself_is_refused():
    value = []
    value.append(value)

    with pytest.raises((Undigestible, RecursionError)):
        digest(value)

"""What is packed comes back equal and of the same types, with the safest codec that can."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import math
import sys
import threading
import types
import uuid
from typing import ClassVar, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.errors import UnpackableValue
from pluperfect.states import PICKLE, PLAIN, RESULT, TYPED, Packed
from pluperfect_plugins.results import pack, unpack


@dataclasses.dataclass
class Point:
    x: int
    label: str = ""
    inner: Point | None = None


class Box(msgspec.Struct):
    items: list[int]


class Pair(NamedTuple):
    a: int
    b: str


@dataclasses.dataclass
class Loose:
    anything: object


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
anything = st.recursive(
    st.one_of(
        plain,
        st.integers(),
        st.datetimes(),
        st.dates(),
        st.timedeltas(),
        st.uuids(),
        st.decimals(allow_nan=False),
        st.complex_numbers(allow_nan=False),
        st.builds(Point, st.integers(0, 9)),
        st.builds(Pair, st.integers(), st.text()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.integers() | st.text(), inner, max_size=3),
        st.builds(Loose, inner),
    ),
    max_leaves=10,
)


def same(one, other):
    """Equal, and of the same types all the way down; NaN is itself."""
    assert type(one) is type(other)
    if isinstance(one, float):
        assert one == other or (math.isnan(one) and math.isnan(other))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for (key, a), (twin, b) in zip(one.items(), other.items(), strict=True):
            same(key, twin)
            same(a, b)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


@given(plain)
def test_plain_values_are_msgpack_and_come_back_the_same(value):
    packed = pack(value)

    assert packed.code == PLAIN
    same(unpack(packed).value, value)


@given(anything)
def test_whatever_is_packed_comes_back_equal_and_of_the_same_types(value):
    same(unpack(pack(value)).value, value)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ((1, 2), TYPED),
        ({1, 2}, TYPED),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), TYPED),
        (uuid.UUID(int=5), TYPED),
        (decimal.Decimal("1.50"), TYPED),
        (Point(1, "a", Point(2)), TYPED),
        (Box([1]), TYPED),
        (Pair(1, "x"), TYPED),
        (Loose((1, 2)), PICKLE),
        ([(1, 2)], PICKLE),
        (2**70, PICKLE),
        (ValueError("x"), PICKLE),
        (Point, PICKLE),
    ],
)
def test_the_codec_is_the_safest_that_gives_the_value_back(value, code):
    assert pack(value).code == code


@dataclasses.dataclass
class Hinted:
    x: NotThere  # noqa: F821 - an annotation that cannot be resolved


@dataclasses.dataclass
class Counted:
    x: int
    made: ClassVar[int] = 0

    def __post_init__(self):
        Counted.made += 1


@dataclasses.dataclass
class Quarrelsome:
    x: object

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


class Roomy(Pair):
    """A named tuple that also takes attributes."""


@pytest.mark.parametrize(
    "value", ["\ud800", ["\ud800"], {"\ud800": 1}, {1: [2**64]}, -(2**63) - 1, {None: 1}, {b"k": 1.5}]
)
def test_builtins_that_msgpack_does_not_take_come_back_too(value):
    same(unpack(pack(value)).value, value)


def test_a_dataclass_whose_annotations_name_nothing_is_packed_all_the_same():
    assert unpack(pack(Hinted(3))).value == Hinted(3)


def test_packing_does_not_make_a_second_object_where_making_one_has_effects():
    value = Counted(1)
    before = Counted.made

    assert unpack(pack(value)).value == value
    assert Counted.made == before


def test_a_value_that_cannot_be_compared_is_packed_all_the_same():
    assert unpack(pack(Quarrelsome({1}))).value.x == {1}


def test_what_hangs_on_a_named_tuple_beside_its_fields_is_not_lost():
    value = Roomy(1, "x")
    value.note = "kept"

    assert unpack(pack(value)).value.note == "kept"


def test_a_deep_value_is_packed_or_refused_by_name():
    for depth in (100, 300, 5000):
        value = 1
        for _ in range(depth):
            value = [value]
        try:
            found = unpack(pack(value)).value
        except UnpackableValue as error:
            assert "$[0]" in str(error)
            assert depth == 5000
        else:
            for _ in range(depth):
                (found,) = found
            assert found == 1


def test_classes_of_a_script_go_by_value_since_nobody_can_import_it(monkeypatch):
    script = types.ModuleType("pluperfect_script_deploy")
    monkeypatch.setitem(sys.modules, script.__name__, script)
    exec("import dataclasses\n@dataclasses.dataclass\nclass Order:\n    n: int\n", script.__dict__)
    packed = pack(script.Order(3))
    monkeypatch.delitem(sys.modules, script.__name__)

    assert packed.code == PICKLE
    assert unpack(packed).value.n == 3


def test_local_classes_and_lambdas_go_by_value():
    class Local:
        def __init__(self, x):
            self.x = x

    assert unpack(pack(Local(3))).value.x == 3
    assert unpack(pack(lambda: 7)).value() == 7


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), r"\$ is a _thread.lock"),
        ({"a": [1, threading.Lock()]}, r"\$\['a'\]\[1\] is a _thread.lock"),
        (Loose(threading.Lock()), r"\$\.anything"),
        (Box([threading.Lock()]), r"\$\.items\[0\] is a _thread.lock"),
    ],
)
def test_what_cannot_be_packed_is_named_by_its_path(value, path):
    with pytest.raises(UnpackableValue, match=path):
        pack(value)


def test_a_value_nested_in_itself_is_packed_or_refused_but_does_not_crash():
    value = []
    value.append(value)

    assert unpack(pack(value)).value[0] is not None


def test_codecs_of_others_are_left_to_others():
    assert unpack(Packed(RESULT, b"")) is None

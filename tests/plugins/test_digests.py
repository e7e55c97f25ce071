"""Equal values have equal digests; values that differ, in kind too, have others."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import http
import itertools
import pathlib
import subprocess
import sys
import threading
import types
import typing
import uuid
import zoneinfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.digests import Undigestible, digest
from pluperfect.states import Error


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0

    def shifted(self):
        """A method of an object: two objects have two."""


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Mood(enum.Flag):
    GLAD = 1
    LOUD = 2


class Pair(typing.NamedTuple):
    x: object
    y: object


class Box(msgspec.Struct):
    x: object
    y: object


class Model:
    """As pydantic has them."""

    def __init__(self, x):
        self.x = x

    def model_dump(self):
        return {"x": self.x}


class Obliging:
    """Has whatever attribute one asks for, as clients of services have."""

    def __getattr__(self, name):
        return lambda *_: {}


class BrokenModel:
    def model_dump(self):
        raise RuntimeError


DIFFERENT = [
    None, True, False, 0, 1, -1, 1.0, 0.0, "", "1", b"1", [], [1], [[1]], (), (1,), {1}, frozenset({1}), {}, {"1": 1}, {1: 1},
    {"a": {"b": 1}}, 2**70, 1j, decimal.Decimal(1), uuid.UUID(int=1), datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1),
    datetime.timedelta(1), pathlib.PurePosixPath("1"), Colour.RED, Colour.BLUE, Point(1), Point(1, 1), range(3), [0, 1, 2],
    bytearray(b"1"), Point, len, ["a", "b"], ["ab"], {"a": "b"}, ..., [None], "None", "\ud800", ["\ud800"], [2**70], (2**70,),
    str.upper, [1].append, [2].append, list[int], list[str], int | str, typing.Literal[1], sys, functools.partial(len, 1),
    functools.partial(len, 2), collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), collections.Counter("a"),
    collections.deque([1]), collections.defaultdict(list, a=1), Mood(0), Mood.GLAD, Mood.GLAD | Mood.LOUD, Mood.LOUD,
    Point(1).shifted, Point(2).shifted, datetime.timezone(datetime.timedelta(hours=1), "x"), Pair(1, 0), Box(1, 0), Model(1), Model(2),
    datetime.timezone(datetime.timedelta(hours=2), "x"), zoneinfo.ZoneInfo("Europe/Paris"), zoneinfo.ZoneInfo("Europe/Rome"),
    ((1,),), ([1],), {1: (2,)}, {1: [2]}, types.MappingProxyType({"a": 1}), fractions.Fraction(1),
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


GOLDEN = [
    (1, "1f2e6d00279b4659b6d6f1ad57e12568"),
    ("a", "31792013bfe5abf854c54add02ba3965"),
    ({"b": [1, 2.5], "a": None}, "b54ae815fbe3d38232e2be2e080c33e8"),
    ((1, "x"), "57d8f007989e9857305620f0f780ec53"),
    ({3, 1, 2}, "ba675a55dd417babec344fd1a225558d"),
    ({1: (2,)}, "f4551e2f8abd13fd6e862f40acb329c7"),
    (2**80, "d4362949893ebedac37ce9b86af71967"),
    ("\ud800", "96f39632b2cf6f05a00d578539e25193"),
    (pathlib.PurePosixPath("/a"), "975552318c8020767ff40108b9c901da"),
    (decimal.Decimal("1.0"), "80d441e953479626388bf7b38178b7c6"),
    (uuid.UUID(int=3), "4a2872715bca26822f02fd9866f308a5"),
    (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "b4fae5af4b2752c141cfd9e86fcb91d8"),
    (functools.partial(len, [1]), "599fd11352b767d4e5e4033a6d847814"),
    (pathlib.Path, "88ecbb428f4382a7a214f54eb74337a6"),
    (http.HTTPStatus.OK, "6f2321264c90884b19ff6689d1e0cbc1"),
    (Error("a", "b"), "335033131f0c292bfe3f38c35fae99c2"),
]


@pytest.mark.parametrize(("value", "expected"), GOLDEN)
def test_digests_stand_in_logs_so_that_their_form_is_for_ever(value, expected):
    """On all versions of Python. Where this fails, runs recorded before would be found to diverge."""
    assert digest(value).hex() == expected


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
        ((1, {object()}), r"^\$\[1\]\{\.\.\.\}"),
        ({object(): 1}, r"^\$\.keys\(\)"),
        (Obliging(), r"^\$ is a .*Obliging"),
        (BrokenModel(), r"^\$ is a .*BrokenModel, whose model_dump raised RuntimeError"),
        ([lambda: 1], r"^\$\[0\] is a builtins.function"),
        (functools.partial(len, [object()]), r"^\$\.args\[0\]\[0\]"),
        (object().__str__, r"^\$\.__self__ is a builtins.object"),
    ],
)
def test_what_has_no_structure_is_named_by_its_path(value, path):
    with pytest.raises(Undigestible, match=path):
        digest(value)


def nested(depth, make=lambda inner: [inner]):
    value = 1
    for _ in range(depth):
        value = make(value)
    return value


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (inner,)])
def test_depth_has_a_limit_that_does_not_depend_on_the_stack(make):
    assert digest(nested(150, make))
    for depth in (250, 2000):
        with pytest.raises(Undigestible, match="nested more than 200 deep"):
            digest(nested(depth, make))


@pytest.mark.parametrize("make", [list, dict, lambda: [(1,)]])
def test_a_value_nested_in_itself_is_refused(make):
    value = make()
    if isinstance(value, dict):
        value["self"] = value
    else:
        value.append(value)

    with pytest.raises(Undigestible, match="or in itself"):
        digest(value)


def test_a_missing_attribute_of_a_dataclass_is_a_value_of_its_own():
    bare = Point(1)
    del bare.x

    assert digest(bare) != digest(Point(1))
    assert digest(bare) != digest(Point(None))


def test_a_script_gives_the_same_digests_whether_it_was_started_or_is_loaded_to_be_resumed():
    digests = []
    for module in ("__main__", "pluperfect_script_deploy"):
        kind = dataclasses.make_dataclass("Order", ["n"])
        kind.__module__ = module
        digests.append((digest(kind(1)), digest(kind)))

    assert digests[0] == digests[1]


def test_an_error_names_path_class_and_reason():
    with pytest.raises(Undigestible) as caught:
        digest({"rows": [threading.Lock()]})

    assert (caught.value.path, caught.value.type) == ("$['rows'][0]", type(threading.Lock()))

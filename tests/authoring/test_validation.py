"""What fits a parameter is passed on as the very object; what does not is converted, or named in one error."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import inspect
import os
import re
import subprocess
import sys
import typing
import uuid
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, NewType, Protocol, TypeVar, runtime_checkable

import msgspec
import numpy as np
import pydantic
import pytest
import typing_extensions
from hypothesis import given, settings
from hypothesis import strategies as st

from pluperfect.authoring.validation import Validator
from pluperfect.errors import ParameterTypeError, PluperfectError

if typing.TYPE_CHECKING:
    from nowhere import Missing


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GLAD = "glad"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"
    HALF = 0.5


@dataclasses.dataclass
class Item:
    a: int
    where: Path | None = None


@dataclasses.dataclass
class Special(Item):
    more: str = ""


@dataclasses.dataclass
class Order:
    items: list[Item]
    notes: dict[str, int] = dataclasses.field(default_factory=dict)


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Far(Point):
    z: int = 0


class Pair(NamedTuple):
    left: int
    right: str


class Shape(typing_extensions.TypedDict):
    size: int


class Model(pydantic.BaseModel):
    size: int


@runtime_checkable
class Closes(Protocol):
    def close(self): ...


class Opens(Protocol):
    def open(self): ...


class Custom:
    pass


class Sub(Custom):
    pass


Count = NewType("Count", int)
Bound = TypeVar("Bound", bound=int)
Either = TypeVar("Either", int, bytes)
Free = TypeVar("Free")
Tree = dict[str, "Tree"] | int


def taking(annotation, **options):
    """A function of one value that is validated against the annotation."""

    def fn(x): ...

    parameter = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    validator = Validator(fn, inspect.Signature([parameter]), name="fn", **options)

    def one(value, *, strict=False):
        args, kwargs = validator((value,), {}, strict=strict)
        assert kwargs == {}
        (made,) = args
        by_name = validator((), {"x": value}, strict=strict) if not isinstance(value, Iterator) else ((), {"x": made})
        assert by_name[0] == ()
        assert type(by_name[1]["x"]) is type(made)
        return made

    return one


def refused(annotation, value, **options):
    with pytest.raises(ParameterTypeError) as caught:
        taking(annotation)(value, **options)
    return str(caught.value)


def lax(annotation, value):
    """pydantic's answer, or None where it has none."""
    try:
        adapter = pydantic.TypeAdapter(annotation, config={"arbitrary_types_allowed": True})
    except pydantic.PydanticUserError:
        adapter = pydantic.TypeAdapter(annotation)
    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError:
        return None


def identical(made, expected):
    return type(made) is type(expected) and made == expected


# --- the table of what differs from pydantic ------------------------------------------------------------

AGREED = [
    (int, "5", 5),
    (int, "5.0", 5),
    (int, 5.0, 5),
    (int, "-7", -7),
    (float, 5, 5.0),
    (float, "2.5", 2.5),
    (bool, "true", True),
    (bool, "0", False),
    (bool, 1, True),
    (int, np.int64(5), 5),
    (float, np.float32(0.5), 0.5),
    (list[int], range(3), [0, 1, 2]),
    (list[int], (1, 2), [1, 2]),
    (list[int], {1: "x"}.keys(), [1]),
    (list[int], ["1", 2.0], [1, 2]),
    (set[int], [1, 1], {1}),
    (tuple[int, ...], [1, "2"], (1, 2)),
    (tuple[int, str], ["1", "b"], (1, "b")),
    (frozenset[str], ["a"], frozenset("a")),
    (deque[int], ["1"], deque([1])),
    (dict[str, int], {"a": "1"}, {"a": 1}),
    (dict[int, float], MappingProxyType({"1": 2}), {1: 2.0}),
    (Path, "a/b", Path("a/b")),
    (PurePosixPath, "a/b", PurePosixPath("a/b")),
    (bytes, "ü", "ü".encode()),
    (dt.datetime, "2026-01-01T10:00:00", dt.datetime(2026, 1, 1, 10)),
    (dt.date, "2026-01-01", dt.date(2026, 1, 1)),
    (dt.time, "10:30:00", dt.time(10, 30)),
    (dt.timedelta, "P1D", dt.timedelta(days=1)),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (uuid.UUID, "12345678123456781234567812345678", uuid.UUID("12345678123456781234567812345678")),
    (Colour, "red", Colour.RED),
    (Level, 2, Level.HIGH),
    (Level, "2", Level.HIGH),
    (Mood, "glad", Mood.GLAD),
    (int | None, "5", 5),
    (Item, {"a": "1"}, Item(1)),
    (list[Item], ({"a": 1},), [Item(1)]),
    (Pair, ["1", "b"], Pair(1, "b")),
    (Shape, {"size": "3"}, {"size": 3}),
    (type[Custom], Sub, Sub),
]


def named(value):
    """An id that is the same in every process: no addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))[:40]


@pytest.mark.parametrize(("annotation", "given", "expected"), AGREED, ids=named)
def test_where_the_table_agrees_with_pydantic_both_give_the_same(annotation, given, expected):
    made = taking(annotation)(given)

    assert identical(made, expected)
    assert identical(lax(annotation, given), expected)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, "five"),
        (int, 5.5),
        (int, None),
        (int, "null"),
        (float, "x"),
        (str, 5),
        (str, None),
        (bool, 2),
        (bool, "maybe"),
        (int | None, "null"),
        (list[int], "12"),
        (list[str], "ab"),
        (list[str], b"ab"),
        (Sequence[str], "ab"),
        (tuple[str, ...], "ab"),
        (list[int], {"a": 1}),
        (list[int], [1, None]),
        (dict[str, int], [("a", 1)]),
        (dict[str, int], {"a": "x"}),
        (tuple[int, str], (1,)),
        (tuple[int, str], (1, "a", 2)),
        (Path, 5),
        (bytes, 5),
        (Colour, "green"),
        (Literal["a", "b"], "c"),
        (Item, {"b": 1}),
        (Item, 5),
        (Shape, {"size": "x"}),
        (Custom, object()),
        (type[Custom], int),
        (Closes, 5),
        (Callable[[], int], 5),
        (Iterable[int], 5),
        (None, 0),
    ],
    ids=named,
)
def test_what_pydantic_refuses_is_refused(annotation, given):
    assert lax(annotation, given) is None
    refused(annotation, given)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, " 5 "),
        (int, True),
        (float, True),
        (bool, "yes"),
        (bool, "on"),
        (str, b"abc"),
        (dt.datetime, dt.date(2026, 1, 1)),
        (dt.datetime, "2026-01-01"),
    ],
    ids=named,
)
def test_what_only_pydantic_would_bend_is_refused(annotation, given):
    assert lax(annotation, given) is not None
    refused(annotation, given)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 10**30),
        (str, "x" * 50),
        (bool, True),
        (float, 1.5),
        (float, np.float64(1.5)),
        (list[int], [1, 2]),
        (list, ["anything", None]),
        (dict[str, int], {"a": 1}),
        (dict, {1: None}),
        (set[str], {"a"}),
        (Sequence[int], (1, 2)),
        (Sequence[int], [1, 2]),
        (Sequence[int], range(5)),
        (MutableSequence[int], deque([1])),
        (AbstractSet[int], frozenset([1])),
        (Mapping[str, int], MappingProxyType({"a": 1})),
        (MutableMapping[str, int], OrderedDict(a=1)),
        (defaultdict[str, int], defaultdict(int, a=1)),
        (collections.Counter[str], collections.Counter("aab")),
        (deque[int], deque([1], 3)),
        (tuple[int, str], (1, "a")),
        (tuple[()], ()),
        (tuple[int, ...], Pair(1, 2)),
        (tuple, (1, "a")),
        (Colour, Colour.RED),
        (Level, Level.LOW),
        (Mood, Mood.GLAD),
        (Mixed, Mixed.HALF),
        (int, Level.LOW),
        (Item, Item("bad", 5)),
        (Item, Special(1)),
        (list[Item], [Special(1), Item("bad")]),
        (Point, Far(1)),
        (Pair, Pair("bad", None)),
        (Path, Path("a")),
        (bytes, b"a"),
        (dt.date, dt.date(2026, 1, 1)),
        (dt.date, dt.datetime(2026, 1, 1)),
        (np.ndarray, np.zeros(3)),
        (Custom, Sub()),
        (Callable[[int], str], str),
        (Closes, open(os.devnull)),
        (Opens, 5),
        (Iterable[int], ["not looked at"]),
        (Literal["a", 1, None], "a"),
        (Literal[1.5], 1.5),
        (Literal[Colour.RED], Colour.RED),
        (int | None, None),
        (list[int] | None, [1]),
        (Any, object()),
        (object, object()),
        (Free, object()),
        (complex, 1j),
        (type[int | str], bool),
        (type, int),
        (type[Any], int),
        (type[Bound], bool),
        (Model, Model(size=1)),
    ],
    ids=named,
)
def test_what_fits_comes_back_as_the_very_object(annotation, value):
    validator = taking(annotation)

    assert validator(value) is value
    assert validator(value, strict=True) is value


def test_generators_are_taken_up_for_lists_and_left_alone_for_iterables():
    def numbers():
        yield from (1, "2")

    assert taking(list[int])(numbers()) == [1, 2]
    assert taking(list[int])(iter([1])) == [1]
    for annotation in (Iterable[int], Iterator[int], Any, Iterable[int] | None):
        once = numbers()
        assert taking(annotation)(once) is once
        assert list(once) == [1, "2"]


def test_a_generator_is_not_used_up_by_the_first_member_of_a_union():
    def words():
        yield from "ab"

    assert taking(list[int] | list[str])(words()) == ["a", "b"]
    once = words()
    refused(int | str, once)
    assert list(once) == ["a", "b"]


def test_numpy_scalars_become_pythons_own_and_times_do_not_pass_for_numbers():
    assert identical(taking(int)(np.uint8(7)), 7)
    assert identical(taking(bool)(np.bool_(True)), True)
    assert identical(taking(list[int])([np.int32(1), 2]), [1, 2])
    assert identical(taking(int | None)(np.int64(5)), 5)
    for annotation, value in [
        (int, np.float64(5.5)),
        (int, np.bool_(True)),
        (int, np.timedelta64(5, "ns")),
        (dt.datetime, np.datetime64(5, "ns")),
        (int, np.zeros(3)),
    ]:
        refused(annotation, value)


def test_a_list_that_fits_is_not_copied_and_its_neighbours_are_not_either():
    def fn(a: list[int], b: dict[str, list[int]], c: int): ...

    validator = Validator(fn, inspect.signature(fn))
    args = ([1], {"a": [2]}, 3)
    kwargs = {}
    same_args, same_kwargs = validator(args, kwargs)
    assert same_args is args
    assert same_kwargs is kwargs

    (a, b, c), _ = validator(([1], args[1], "3"), {})
    assert (a, b, c) == ([1], {"a": [2]}, 3)
    assert b is args[1]


def test_only_the_containers_with_a_changed_item_are_rebuilt():
    inner = [1, 2]
    given_ = {"same": inner, "other": ["3"]}

    made = taking(dict[str, list[int]])(given_)

    assert made == {"same": [1, 2], "other": [3]}
    assert made["same"] is inner
    assert given_ == {"same": [1, 2], "other": ["3"]}


# --- the table of annotations ---------------------------------------------------------------------------


def test_containers_are_rebuilt_as_what_they_were():
    assert identical(taking(Sequence[int])(("1",)), (1,))
    assert identical(taking(Sequence[int])({"1"}), [1])
    assert identical(taking(AbstractSet[int])(frozenset("1")), frozenset([1]))
    assert identical(taking(AbstractSet[int])(["1"]), {1})
    assert taking(deque[int])(deque(["1"], 4)).maxlen == 4
    assert identical(taking(Mapping[str, int])(OrderedDict(a="1")), OrderedDict(a=1))
    assert identical(taking(OrderedDict[str, int])({"a": "1"}), OrderedDict(a=1))
    assert identical(taking(collections.Counter[str])({"a": "1"}), collections.Counter(a=1))
    grown = taking(defaultdict[str, list[int]])({"a": ["1"]})
    assert grown["a"] == [1]
    assert grown["b"] == []
    assert taking(defaultdict[str, int])(defaultdict(lambda: 7, a="1"))["b"] == 7


def test_what_cannot_be_an_item_or_a_key_is_told():
    assert "unhashable" in refused(set[list[int]], [[1]])
    assert "unhashable" in refused(dict[list[int], int], {(1,): 1})
    assert "x[2]: expected `int`" in refused(dict[int, int], {1: 1, 2: "b"})
    assert "x['a']: as a key: expected `int`" in refused(dict[int, int], {"a": 1})


def test_a_name_for_an_annotation_is_as_the_annotation():
    assert taking(Count)("5") == 5
    assert taking(Bound)("5") == 5
    assert taking(Either)("5") == 5
    assert taking(Either)("five") == b"five"
    assert taking(Annotated[int, "a remark", 5])("5") == 5
    assert taking(NewType("Names", list[str]))(("a",)) == ["a"]
    assert taking(Annotated[list[Annotated[int, object()]], "x"])(["1"]) == [1]
    refused(Count, "x")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in 3.12")
def test_a_type_statement_may_speak_of_itself_and_take_parameters():
    scope = {}
    exec("type Json = dict[str, Json] | list[Json] | int\ntype Two[T] = tuple[T, T]\ntype Nil = None", scope)

    value = {"a": [1, {"b": 2}]}
    assert taking(scope["Json"])(value) is value
    assert taking(scope["Json"])({"a": ("1",)}) == {"a": [1]}
    refused(scope["Json"], {"a": [None]})
    assert taking(scope["Two"][int])(["1", 2]) == (1, 2)
    assert taking(scope["Nil"])(None) is None
    refused(scope["Nil"], 1)


def test_a_name_in_quotes_inside_an_annotation_is_found_in_the_functions_module():
    def fn(x: list["Colour"], y: "Tree"): ...  # noqa: UP037

    validator = Validator(fn, inspect.signature(fn))
    assert validator((["red"], {"a": {"b": "1"}}), {})[0] == ([Colour.RED], {"a": {"b": 1}})
    value = {"a": {"b": 1}}
    assert taking(Tree)(value) is value
    told = refused(list[Tree], [{"a": None}])
    assert "x[0]: expected `dict` and expected `int` at ['a'] and expected `int`, given dict {'a': None}" in told


def test_annotations_are_read_as_text_and_those_of_type_checkers_alone_stay_unchecked():
    def fn(a: int, b: Missing, c: list[Missing], d: Missing | None = None): ...

    assert fn.__annotations__["a"] == "int"
    validator = Validator(fn, inspect.signature(fn))
    anything = object()
    assert validator(("1", anything, anything, anything), {}) == ((1, anything, anything, anything), {})
    with pytest.raises(ParameterTypeError, match="a: expected `int`"):
        validator(("x", 1, 2), {})


def test_names_are_found_through_partials_methods_wrappers_and_closures():
    class Local:
        def method(self, n: int): ...

        def __call__(self, n: int): ...

    def plain(n: int, other: Local): ...

    @functools.wraps(plain)
    def wrapper(*args, **kwargs): ...

    def remembers(n: Local):
        return Local, later

    for fn, args in [
        (Local().method, ("1",)),
        (Local(), ("1",)),
        (functools.partial(plain), ("1", 5)),
        (wrapper, ("1", 5)),
    ]:
        assert Validator(fn, inspect.signature(fn))(args, {})[0][0] == 1
    with pytest.raises(ParameterTypeError):
        Validator(remembers, inspect.signature(remembers))((5,), {})
    assert Validator(len, inspect.signature(len))((5,), {}) == ((5,), {})
    later = None


def test_constraints_of_msgspec_hold_for_what_is_passed_on_and_not_only_for_what_is_given():
    natural = Annotated[int, msgspec.Meta(ge=0)]
    assert taking(natural)("5") == 5
    assert taking(natural)(np.int64(5)) == 5
    assert ">= 0" in refused(natural, -1)
    assert ">= 0" in refused(natural, "-1")
    assert "x[1]" in refused(list[natural], [1, -1])
    short = Annotated[list[int], msgspec.Meta(max_length=2)]
    value = [1, 2]
    assert taking(short)(value) is value
    assert taking(short)(range(2)) == [0, 1]
    assert "length <= 2" in refused(short, range(3))
    assert taking(Annotated[str, msgspec.Meta(pattern="^a")])("abc") == "abc"
    refused(Annotated[str, msgspec.Meta(pattern="^a")], "b")
    refused(Annotated[dict[str, int], msgspec.Meta(min_length=1)], {})
    refused(Annotated[dt.datetime, msgspec.Meta(tz=True)], dt.datetime(2026, 1, 1))
    assert taking(Annotated[int, msgspec.Meta(title="only a title")])("5") == 5
    assert taking(Annotated[natural | None, "x"])(None) is None
    refused(Annotated[int | None, msgspec.Meta(ge=0)], "null")
    assert taking(Annotated[natural, msgspec.Meta(ge=1)])(Level.LOW) is Level.LOW


def test_constraints_of_pydantic_hold_at_any_depth():
    natural = Annotated[int, pydantic.Field(ge=0)]
    assert "greater than or equal to 0" in refused(natural, -1)
    refused(pydantic.PositiveInt, 0)
    told = refused(dict[str, list[natural]], {"a": [1, -1]})
    assert "x.a[1]: input should be greater" in told
    assert taking(natural)("5") == 5
    refused(Annotated[str, pydantic.StringConstraints(min_length=3)], "a")
    assert taking(Model | None)({"size": "5"}) == Model(size=5)
    assert "x.size" in refused(Model, {"size": "x"})
    assert taking(list[Model])([Model(size=1)]) == [Model(size=1)]
    assert taking(dict[str, Model | Custom])({"a": Custom()})
    refused(NewType("Natural", natural), -1)


def test_a_class_that_pydantic_cannot_validate_is_asked_for_instances():
    class Shy:
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            raise RuntimeError("not today")

    value = Shy()
    assert taking(Shy)(value) is value
    refused(Shy, 5)


def test_literals_are_equal_and_of_the_same_type_or_converted_by_their_types():
    both = Literal[1, "a", True]
    assert taking(Literal[1, 2])("2") == 2
    assert identical(taking(both)(True), True)
    assert identical(taking(Literal[1])(1.0), 1)
    assert taking(Literal[Colour.RED])("red") is Colour.RED
    assert taking(Literal[b"x"])("x") == b"x"
    refused(Literal[1], True)
    refused(Literal[Colour.RED], "blue")
    assert "one of 1, 'a', True" in refused(both, 2.5)
    assert "19, ..., given str 'x'" in refused(Literal[tuple(range(30))], "x")
    assert "expected 'only'" in refused(Literal["only"], 1)


def test_enums_take_members_then_values_then_converted_values_and_list_them_in_the_error():
    assert taking(Mixed)(0.5) is Mixed.HALF
    assert taking(Mixed)("1") is Mixed.ONE
    assert taking(Colour)(Colour.BLUE, strict=True) is Colour.BLUE
    assert "one of 'red', 'blue'" in refused(Colour, "green")
    refused(Level, True)
    refused(Colour, ["unhashable"])
    refused(Colour, "red", strict=True)


def test_a_union_prefers_the_member_that_fits_to_an_earlier_one_that_converts():
    value = "5"
    assert taking(int | str)(value) is value
    assert identical(taking(int | str)(5.0), 5)
    assert identical(taking(float | str)(5), 5.0)
    assert identical(taking(str | bool | int)(1), 1)
    items = ["a"]
    assert taking(list[int] | list[str])(items) is items
    assert taking(list[int] | list[str])(["1", "2"]) == ["1", "2"]
    assert taking(list[int] | set[int])(("1",)) == [1]
    told = refused(int | list[int] | None, ["x"])
    assert "expected `int` and expected `int` at [0] and expected None" in told
    assert taking(int | Any)(value) is value
    assert taking(typing.Union[Point, Item])({"a": 1}) == Item(1)  # noqa: UP007
    assert taking(typing.Optional[Shape])({"size": 1}) == {"size": 1}  # noqa: UP045


def test_a_tuple_has_the_length_that_is_written():
    assert "a tuple of 2 items, not 3" in refused(tuple[int, int], (1, 2, 3))
    assert "a tuple of 1 item, not 0" in refused(tuple[int], [])
    assert "a tuple of 0 items, not 1" in refused(tuple[()], (1,))
    told = refused(tuple[int, str, Any], ["x", 5, 6])
    assert "x[0]: expected `int`, given str 'x'" in told
    assert "x[1]: expected `str`, given int 5" in told
    assert taking(tuple[int, *tuple[str, ...]])((1, 2, 3)) == (1, 2, 3)
    refused(tuple[int, *tuple[str, ...]], [1])


def test_paths_and_bytes_come_from_text():
    assert taking(Path)(PurePosixPath("a")) == Path("a")
    assert taking(list[Path])(["a", Path("b")]) == [Path("a"), Path("b")]
    assert identical(taking(bytearray)("a"), bytearray(b"a"))
    refused(bytes, "\ud800")
    refused(Path, b"a")

    class Bytes(os.PathLike):
        def __fspath__(self):
            return b"a"

    refused(Path, Bytes())
    refused(bytes, bytearray(b"a"))
    refused(Path, "a", strict=True)
    refused(bytes, "a", strict=True)
    item = taking(Item)({"a": 1, "where": "b"})
    assert item == Item(1, Path("b"))
    assert taking(Item)({"a": 1, "where": Path("b")}).where == Path("b")


def test_a_complex_number_takes_the_numbers_that_it_contains():
    assert identical(taking(complex)(1), 1 + 0j)
    assert identical(taking(complex)(np.complex64(1j)), 1j)
    refused(complex, True)
    refused(complex, "1")


def test_protocols_that_cannot_be_asked_and_annotations_that_are_no_types_pass_everything():
    value = object()
    P = typing.ParamSpec("P")
    for annotation in (Opens, Free, P, 5, "no such name", "1 +", typing.Never, typing.Self, [int]):
        assert taking(annotation)(value) is value


def test_a_class_that_decides_itself_who_its_instances_are_is_asked():
    class Even(type):
        def __instancecheck__(cls, value):
            return type(value) is int and value % 2 == 0

    class Evens(metaclass=Even):
        pass

    assert taking(Evens)(2) == 2
    refused(Evens, 3)
    refused(list[Evens], [2, 3])


# --- what msgspec refuses outright ----------------------------------------------------------------------


@dataclasses.dataclass
class Hard:
    path: Path | str


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (Path | str, "a", "a"),
        (Custom | Item | int, "5", 5),
        (dt.datetime | str, "2026-01-01T00:00:00", "2026-01-01T00:00:00"),
        (dt.date | dt.datetime, "2026-01-01", dt.date(2026, 1, 1)),
        (str | bytes, b"a", b"a"),
        (int | Level, 2, 2),
        (bool | Level | dt.timedelta, "2", Level.HIGH),
        (list[int] | tuple[int, ...], ("1",), [1]),
        (Point | Far, {"x": "1"}, Point(1)),
        (Item | Point, {"x": 1}, Point(1)),
        (dict[str, int] | Item, {"a": "1"}, {"a": 1}),
        (Mixed, 0.5, Mixed.HALF),
        (Literal[1.5, 2.5], "2.5", 2.5),
        (list[dict[str, Path | str]], [{"a": "b"}], [{"a": "b"}]),
        (dict[str, dt.datetime | str], {"a": "b"}, {"a": "b"}),
    ],
    ids=named,
)
def test_annotations_that_msgspec_refuses_are_validated_all_the_same(annotation, given, expected):
    assert identical(taking(annotation)(given), expected)


def test_a_record_that_msgspec_refuses_is_asked_for_instances():
    with pytest.raises(TypeError):
        msgspec.convert({"path": "a"}, Hard)

    value = Hard("a")
    assert taking(Hard)(value) is value
    assert "x: expected `Hard`" in refused(Hard, {"path": "a"})
    assert taking(typing.TypedDict("Odd", {"path": Path | str}))({"path": "a"}) == {"path": "a"}


# --- the report -----------------------------------------------------------------------------------------


def test_all_bad_parameters_stand_in_one_error_with_all_that_helps():
    def fn(count: int, items: list[Item], *rest: int, key: Colour = Colour.RED, fine: str = "", **more: bool): ...

    validator = Validator(fn, inspect.signature(fn), name="orders")
    with pytest.raises(ParameterTypeError) as caught:
        validator(("five", [{"a": 1}, {"a": "x"}], 1, None), {"key": "green", "fine": "a", "extra": "no"})

    assert not isinstance(caught.value, TypeError)
    assert isinstance(caught.value, PluperfectError)
    assert str(caught.value).splitlines() == [
        "Flow run received invalid parameters: orders() was given what does not fit:",
        "  count: expected `int`, given str 'five' (annotation: int)",
        "  items[1].a: expected `int`, given str 'x' (annotation: list[Item])",
        "  rest[1]: expected `int`, given NoneType None (annotation: int)",
        "  key: expected one of 'red', 'blue', given str 'green' (annotation: Colour)",
        "  extra: expected `bool`, given str 'no' (annotation: bool)",
        "Fix the value, loosen the annotation, or switch the check off with validate_parameters=False.",
    ]


def test_paths_lead_through_records_keys_and_what_is_missing():
    assert "x.items[1].a: expected `int`, given str 'b'" in refused(Order, {"items": [{"a": 1}, {"a": "b"}]})
    assert "x.items[0]: object missing required field `a`, given dict {}" in refused(Order, {"items": [{}]})
    assert "x.notes[...]: expected `int`, got `str`, given dict" in refused(Order, {"items": [], "notes": {"a": "b"}})
    assert "x['k'][0].where: expected `Path`, given int 5" in refused(
        dict[str, list[Item]], {"k": [{"a": 1, "where": 5}]}
    )
    keyed = dataclasses.make_dataclass("Keyed", [("k", dict[int, int])])
    assert "x.k: as a key: expected `int`, got `str`" in refused(keyed, {"k": {"a": 1}})


def test_a_value_is_shown_shortened_and_a_column_of_problems_too():
    told = refused(list[int], ["x" * 10_000] * 1000)

    assert len(told) < 1200
    assert "x: 995 more" in told

    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Rude" in refused(int, Rude())
    assert "\n" not in refused(int, "a\nb").splitlines()[1]
    assert len(refused(str, list(range(100_000)))) < 500


@pytest.mark.parametrize("annotation", [int, dt.date, Item, Shape], ids=named)
def test_text_that_cannot_be_encoded_is_a_problem_like_any_other(annotation):
    value = {"a": "\ud800", "size": "\ud800"} if annotation in (Item, Shape) else "\ud800"
    assert "expected text that UTF-8 can encode" in refused(annotation, value)


def test_the_errors_of_users_own_code_pass_through_as_they_are():
    class Bomb(Exception):
        pass

    def numbers():
        yield 1
        raise Bomb

    @dataclasses.dataclass
    class Explodes:
        a: int

        def __post_init__(self):
            raise Bomb if self.a else ValueError("a is nothing")

    with pytest.raises(Bomb):
        taking(list[int])(numbers())
    with pytest.raises(Bomb):
        taking(Explodes)({"a": 1})
    assert "a is nothing" in refused(Explodes, {"a": 0})


def test_the_function_is_called_by_its_qualified_name_where_no_name_is_given():
    def fn(x: int): ...

    with pytest.raises(ParameterTypeError, match=r": test_the_function.*<locals>\.fn\(\) was given"):
        Validator(fn, inspect.signature(fn))(("x",), {})


# --- how arguments arrive -------------------------------------------------------------------------------


def test_each_of_args_and_kwargs_is_validated_alone_and_by_its_own_annotation():
    def fn(a: int, /, b: int, *args: int, c: int, **kwargs: float): ...

    validator = Validator(fn, inspect.signature(fn))
    assert validator(("1", "2", "3", 4), {"c": "5", "a": "6", "d": 7}) == ((1, 2, 3, 4), {"c": 5, "a": 6.0, "d": 7.0})
    args, kwargs = (1, 2), {"c": 3, "z": 1.0}
    assert validator(args, kwargs)[0] is args
    assert validator(args, kwargs)[1] is kwargs
    assert validator((1,), {"b": "2", "c": 3})[1] == {"b": 2, "c": 3}


def test_keywords_that_a_typeddict_describes_are_validated_by_key():
    def fn(**options: typing.Unpack[Shape]): ...

    validator = Validator(fn, inspect.signature(fn))
    assert validator((), {"size": "3"}) == ((), {"size": 3})
    with pytest.raises(ParameterTypeError, match="size: expected `int`"):
        validator((), {"size": "x"})


def test_keywords_of_a_typeddict_keep_its_constraints_and_those_that_cannot_be_read_stay_unchecked():
    class Options(typing.TypedDict, total=False):
        size: typing.Required[Annotated[int, msgspec.Meta(ge=0)]]
        name: typing.NotRequired[str]

    class Unknown(typing.TypedDict):
        size: Missing

    def known(**options: typing.Unpack[Options]): ...

    def unknown(**options: typing.Unpack[Unknown]): ...

    known.__annotations__["options"] = typing.Unpack[Options]
    unknown.__annotations__["options"] = typing.Unpack[Unknown]
    Options.__annotations__["size"] = typing.Required[Annotated[int, msgspec.Meta(ge=0)]]
    validator = Validator(known, inspect.signature(known))
    assert validator((), {"size": "3", "name": "a"})[1] == {"size": 3, "name": "a"}
    with pytest.raises(ParameterTypeError, match="size: expected `int` >= 0.*\\n.*name: expected `str`"):
        validator((), {"size": -1, "name": 5})
    assert Validator(unknown, inspect.signature(unknown))((), {"size": "x"}) == ((), {"size": "x"})


def test_defaults_are_never_validated():
    def fn(x: int = "not a number"): ...

    assert Validator(fn, inspect.signature(fn))((), {}) == ((), {})


def test_parameters_without_annotation_are_passed_by():
    class Owner:
        def method(self, a, b=1, *c, **d): ...

    validator = Validator(Owner.method, inspect.signature(Owner.method))
    args, kwargs = (5, "x", None), {"e": object()}
    assert validator(args, kwargs)[0] is args
    assert validator(args, kwargs)[1] is kwargs


def test_nothing_is_compiled_before_the_first_call():
    asked = []
    fn = lambda x: x
    fn.__annotations__["x"] = int
    validator = Validator(fn, inspect.signature(fn), converters=lambda annotation: asked.append(annotation))

    assert asked == []
    validator((1,), {})
    validator((1,), {})
    assert asked == [int]


def test_what_is_given_is_never_altered():
    def fn(a: list[int], **more: int): ...

    given_, kwargs = ["1"], {"k": "2"}
    made_args, made_kwargs = Validator(fn, inspect.signature(fn))((given_,), kwargs)

    assert (made_args, made_kwargs) == (([1],), {"k": 2})
    assert (given_, kwargs) == (["1"], {"k": "2"})


# --- modes, converters, schemas, warnings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, "5"),
        (int, np.int64(5)),
        (list[int], (1, 2)),
        (list[int], ["1"]),
        (dict[str, int], MappingProxyType({"a": 1})),
        (Colour, "red"),
        (Literal[1], "1"),
        (int | None, "5"),
        (Annotated[int, pydantic.Field(ge=0)], "5"),
        (Annotated[int, msgspec.Meta(ge=0)], "5"),
        (Item, {"a": "5"}),
        (Item, {"a": 5, "where": "b"}),
        (complex, 1),
    ],
    ids=named,
)
def test_the_strict_mode_refuses_what_the_lax_one_converts(annotation, given):
    assert taking(annotation)(given) is not given
    refused(annotation, given, strict=True)


def test_the_strict_mode_leaves_to_msgspec_and_pydantic_what_they_allow_strictly():
    assert taking(Item)({"a": 5}, strict=True) == Item(5)
    assert taking(dt.date)("2026-01-01", strict=True) == dt.date(2026, 1, 1)
    assert identical(taking(float)(5, strict=True), 5.0)
    assert taking(list[Model])([Model(size=1)], strict=True) == [Model(size=1)]


def test_a_converter_is_asked_first_about_every_annotation_at_any_depth():
    def parsed(value):
        if value == "broken":
            raise ValueError("cannot be parsed")
        return value if isinstance(value, Custom) else Sub()

    seen = []

    def converters(annotation):
        seen.append(annotation)
        return parsed if annotation is Custom else None

    assert isinstance(taking(list[Custom], converters=converters)(["x"])[0], Sub)
    assert seen == [list[Custom], Custom]
    value = Custom()
    assert taking(Custom, converters=converters)(value) is value
    assert taking(Custom | None, converters=converters)(None) is None
    assert taking(Custom | str, converters=converters)("x") == "x"
    assert type(taking(Custom | int, converters=converters)("x")) is Sub
    items = [value]
    assert taking(list[Custom], converters=converters)(items) is items
    with pytest.raises(ParameterTypeError, match=r"x\[0\]: cannot be parsed, given str 'broken'"):
        taking(list[Custom], converters=converters)(["broken"])


def test_schemas_come_from_msgspec_or_pydantic_and_are_empty_where_neither_can():
    def fn(a: int, b: list[Item], c: Model, d: Path | str, e: Custom, f, *g: int, h: Annotated[int, pydantic.Field(ge=0)], **i: str): ...  # fmt: skip

    schemas = Validator(fn, inspect.signature(fn)).schema()

    assert schemas["a"] == {"type": "integer"}
    assert schemas["b"]["type"] == "array"
    assert schemas["b"]["$defs"]["Item"]["required"] == ["a"]
    assert schemas["c"]["properties"]["size"]["type"] == "integer"
    assert {"type": "string"} in schemas["d"]["anyOf"]
    assert schemas["e"] == schemas["f"] == {}
    assert schemas["g"] == {"type": "array", "items": {"type": "integer"}}
    assert schemas["h"] == {"type": "integer", "minimum": 0}
    assert schemas["i"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert list(schemas) == list("abcdefghi")
    fn.__annotations__["e"] = Annotated[Custom, pydantic.Field(title="no schema")]
    assert Validator(fn, inspect.signature(fn)).schema()["e"] == {}


WITHOUT_PYDANTIC = """
import inspect, sys, warnings
from typing import Annotated
import annotated_types
from pluperfect.authoring.validation import Validator

def fn(x: Annotated[int, annotated_types.Ge(0)], y: list[Annotated[int, annotated_types.Le(0)]], z: int = 1): ...

validator = Validator(fn, inspect.signature(fn), name="fn")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert validator(("-5", ["5"]), {}) == ((-5, [5]), {})
    validator((1, [1]), {})
(warning,) = caught
assert warning.category is UserWarning
assert "fn()" in str(warning.message) and "(x, y)" in str(warning.message), warning.message
assert warning.filename == "<string>", warning.filename
assert validator.schema()["z"] == {"type": "integer"}
loaded = {"pydantic", "numpy"} & set(sys.modules)
assert not loaded, loaded
"""


def test_without_pydantic_its_constraints_are_warned_of_once_and_nothing_loads_it_or_numpy():
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYDANTIC], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_with_pydantic_constraints_of_annotated_types_hold_without_a_warning():
    import annotated_types

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(Annotated[int, annotated_types.Ge(0)], -1)


# --- properties -----------------------------------------------------------------------------------------

LEAVES = st.sampled_from(
    [int, str, bool, float, bytes, type(None), dt.date, dt.datetime, uuid.UUID, Colour, Level, Path]
)
HASHABLE = st.sampled_from([int, str, bool, bytes, Colour])
ANNOTATIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda a: list[a]),
        inner.map(lambda a: tuple[a, ...]),
        st.tuples(inner, inner).map(lambda p: tuple[p[0], p[1]]),
        HASHABLE.map(lambda a: set[a]),
        st.tuples(HASHABLE, inner).map(lambda p: dict[p[0], p[1]]),
        st.tuples(inner, inner).map(lambda p: typing.Union[p[0], p[1]]),  # noqa: UP007
    ),
    max_leaves=4,
)
LOOSE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-50, 50),
        st.floats(allow_nan=False),
        st.sampled_from(["1", "2.0", "true", "red", "null", "a", "", "2026-01-01"]),
        st.sampled_from([b"a", Path("a"), Colour.RED, Level.LOW, dt.date(2026, 1, 1)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "1", 2]), inner, max_size=3),
    ),
    max_leaves=6,
)


def of(annotation):
    if annotation is Path:
        return st.sampled_from([Path("a"), Path("b/c")])
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return st.lists(of(args[0]), max_size=3)
    if origin is set:
        return st.sets(of(args[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(of(args[0]), of(args[1]), max_size=3)
    if origin is typing.Union:
        return st.one_of(*map(of, args))
    if origin is tuple:
        return st.lists(of(args[0]), max_size=3).map(tuple) if args[-1] is ... else st.tuples(*map(of, args))
    return st.from_type(annotation)


@settings(deadline=None)
@given(st.data())
def test_a_value_of_the_annotated_type_comes_back_as_the_very_object(data):
    annotation = data.draw(ANNOTATIONS)
    value = data.draw(of(annotation))

    assert taking(annotation)(value) is value
    assert taking(annotation)(value, strict=True) is value


@settings(deadline=None)
@given(ANNOTATIONS, LOOSE)
def test_what_a_conversion_gives_fits(annotation, value):
    with contextlib.suppress(ParameterTypeError):
        made = taking(annotation)(value)
        assert taking(annotation)(made) is made
        assert taking(annotation)(made, strict=True) is made


@settings(deadline=None)
@given(ANNOTATIONS, LOOSE)
def test_what_the_strict_mode_accepts_the_lax_one_accepts_too(annotation, value):
    try:
        made = taking(annotation)(value, strict=True)
    except ParameterTypeError:
        return
    assert identical(taking(annotation)(value), made)


@settings(deadline=None)
@given(st.sampled_from([int, float, bool, list[int], dict[str, int], tuple[int, ...], Level]), LOOSE)
def test_what_is_converted_is_what_pydantic_would_give(annotation, value):
    with contextlib.suppress(ParameterTypeError):
        made = taking(annotation)(value)
        if made is not value:
            assert made == lax(annotation, value)


UNFOLDED = """
from typing import TYPE_CHECKING

from pluperfect import flow, task

if TYPE_CHECKING:
    from decimal import Decimal as Known


@task(task_run_name=lambda parameters: f"of {parameters['one']}")
def never(one: Known, many: list[Known] | None = None, *rest: Known) -> Known:
    return one


@flow
def later(node: Node, count: int, nodes: list[Node] = []) -> Known:
    return never(node.value), count


def local():
    class Inner:
        pass

    @flow
    def within(inner: Inner, count: int, other: Known = None):
        return count

    return within, Inner


class Node:
    value = 1
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before Python 3.14 such a function cannot be defined")
def test_annotations_may_name_what_is_not_there_or_not_yet(log):
    """Python 3.14 evaluates them when it is asked to. What can be told by the first call is checked, the rest is taken as it comes."""
    names = {"__name__": "unfolded"}
    exec(compile(UNFOLDED, "unfolded.py", "exec", dont_inherit=True), names)
    later, node = names["later"], names["Node"]()

    assert later(node, "2") == (1, 2)
    for wrong in ((5, 2), (node, "two"), (node, 2, [5])):
        with pytest.raises(ParameterTypeError, match="annotation: "):
            later(*wrong)
    within, inner = names["local"]()
    assert within(inner(), "3") == 3
    with pytest.raises(ParameterTypeError, match="Inner"):
        within(5, 3)
    assert "Known" in str(names["never"].binder.signature)

"""Results: serializers, stores of results, and what stays in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import uuid

import pytest

import pluperfect
from pluperfect import flow, task
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import SerializationError
from pluperfect.results import ResultStore
from pluperfect.serializers import CompressedSerializer, JSONSerializer, PickleSerializer, Serializer, resolve
from pluperfect.states import codec_of


@dataclasses.dataclass
class Point:
    x: int
    name: str


VALUES = [
    1,
    "text",
    None,
    {"a": [1, 2.5]},
    b"bytes",
    uuid.UUID("a53e3495-d681-4a53-84b8-9d9542f7237c"),
    dt.datetime(2027, 1, 15, 8, tzinfo=dt.UTC),
    Point(1, "one"),
    [Point(1, "one"), {"p": Point(2, "two")}],
]
SERIALIZERS = [
    PickleSerializer(),
    PickleSerializer(picklelib="pickle"),
    JSONSerializer(),
    CompressedSerializer(serializer="pickle"),
    CompressedSerializer(serializer="json", compressionlib="zlib"),
    CompressedSerializer(serializer=JSONSerializer(), compressionlib="bz2"),
]


@pytest.mark.parametrize("value", VALUES, ids=[type(v).__name__ for v in VALUES])
@pytest.mark.parametrize("serializer", SERIALIZERS, ids=[str(i) for i in range(len(SERIALIZERS))])
def test_a_serializer_gives_back_what_it_took(serializer, value):
    data = serializer.dumps(value)
    assert type(data) is bytes
    again = serializer.loads(data)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=[str(i) for i in range(len(SERIALIZERS))])
def test_a_serializer_takes_exceptions(serializer):
    again = serializer.loads(serializer.dumps(ValueError("no")))
    assert (type(again), str(again)) == (ValueError, "no")


@pytest.mark.parametrize(
    ("word", "kind", "type"),
    [
        ("pickle", PickleSerializer, "pickle"),
        ("json", JSONSerializer, "json"),
        ("compressed/pickle", CompressedSerializer, "compressed"),
        ("compressed/json", CompressedSerializer, "compressed"),
    ],
)
def test_a_serializer_has_a_word(word, kind, type):
    made = resolve(word)
    assert isinstance(made, kind)
    assert isinstance(Serializer(type=word), kind)
    assert made.type == type
    assert made.loads(made.dumps({"a": 1})) == {"a": 1}


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=[str(i) for i in range(len(SERIALIZERS))])
def test_a_serializer_is_found_again_by_its_reference(serializer):
    again = resolve(serializer.reference)
    assert again == serializer
    assert again.loads(serializer.dumps("x")) == "x"


def test_json_is_json():
    assert json.loads(JSONSerializer().dumps({"a": [1, None]})) == {"a": [1, None]}
    assert json.loads(JSONSerializer(dumps_kwargs={"indent": 1}).dumps([1])) == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: PickleSerializer(picklelib="no_such_library"),
        lambda: PickleSerializer(picklelib="json_"),
        lambda: CompressedSerializer(serializer="pickle", compressionlib="math"),
        lambda: JSONSerializer(loads_kwargs={"object_hook": 1}),
        lambda: JSONSerializer(dumps_kwargs={"default": 1}),
    ],
)
def test_a_serializer_that_cannot_work_is_refused(make):
    with pytest.raises(ValueError):
        make()


def test_a_word_that_nobody_has_is_refused_with_the_nearest(log):
    with pytest.raises(ValueError, match="Did you mean 'json'"):
        task(result_serializer="jsonn")(lambda: 1)
    with pytest.raises(TypeError, match="result_serializer"):
        task(result_serializer=5)(lambda: 1)


def test_what_a_serializer_cannot_take_is_a_serialization_error():
    with pytest.raises(SerializationError):
        JSONSerializer().dumps(object())
    with pytest.raises(SerializationError):
        JSONSerializer().loads(b"{")


# --- in runs


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("word", ["pickle", "json", "compressed/pickle", "compressed/json"])
def test_a_result_is_recorded_by_the_serializer_that_is_asked_for(log, decorate, word):
    decorate(lambda: {"a": 1}, name="one", result_serializer=word)()

    run = log.runs()[0]
    assert run.result() == {"a": 1}
    assert codec_of(run.state.data) == "foreign"


def test_an_async_call_records_by_its_serializer_too(log):
    @task(result_serializer=JSONSerializer())
    async def one():
        return [1]

    assert asyncio.run(one()) == [1]
    assert log.runs()[0].result() == [1]


def test_a_hit_is_decoded_by_the_serializer_of_its_source(log):
    calls = []

    @task(cache_policy=INPUTS, result_serializer="compressed/json")
    def one(x):
        calls.append(x)
        return [x]

    assert one(1) == one(1) == [1]
    assert calls == [1]


def test_tasks_take_over_the_serializer_of_their_flow(log):
    one = task(lambda: 1, name="one")
    own = task(lambda: 1, name="own", result_serializer="pickle")

    @flow(result_serializer="json")
    def whole():
        one()
        own()

    whole()
    assert b"json" in log.runs(name="one")[0].state.data.data
    assert b"pickle" in log.runs(name="own")[0].state.data.data


def test_a_setting_names_the_serializer_of_those_that_name_none(log, setting):
    setting(RESULTS_DEFAULT_SERIALIZER="json")
    task(lambda: [1], name="one")()
    run = log.runs()[0]
    assert b"json" in run.state.data.data
    assert run.result() == [1]


def test_a_result_that_its_serializer_cannot_take_completes_with_a_warning(log, caplog):
    value = object()
    assert task(lambda: value, name="one", result_serializer="json")() is value
    assert "not recorded" in caplog.text
    with pytest.raises(pluperfect.errors.MissingResult, match="json"):
        log.runs()[0].result()


def test_a_serializer_of_ones_own_is_found_by_its_type(log):
    class Shouting(Serializer):
        type = "shouting"

        def dumps(self, obj):
            return str(obj).upper().encode()

        def loads(self, blob):
            return blob.decode()

    task(lambda: "quiet", name="one", result_serializer=Shouting())()
    task(lambda: "quiet", name="two", result_serializer="shouting")()
    assert [run.result() for run in log.runs()] == ["QUIET", "QUIET"]


# --- what stays in memory


@pytest.mark.parametrize("keep", [True, False])
def test_a_result_that_is_not_kept_in_memory_is_decoded_from_the_record(log, keep):
    value = [1]
    one = task(lambda: value, name="one", cache_result_in_memory=keep)

    state = one(return_state=True)
    assert state.result() == [1]
    assert (state.result() is value) is keep


def test_what_is_not_recorded_stays_in_memory_whatever_is_asked(log):
    value = [1]
    one = task(lambda: value, name="one", cache_result_in_memory=False, persist_result=False)
    assert one() is value


def test_a_result_storage_is_taken_and_kept(log):
    from pathlib import Path

    for storage in ("block/name", Path("somewhere")):
        made = task(lambda: 1, name="one", result_storage=storage)
        assert made() == 1
        assert made.given["result_storage"] == storage
    assert flow(lambda: 2, name="two", result_storage="x")() == 2


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("bad", ["yes", 1, None])
def test_cache_result_in_memory_is_true_or_false(decorate, bad):
    with pytest.raises(TypeError, match="cache_result_in_memory"):
        decorate(cache_result_in_memory=bad)(lambda: 1)


# --- stores of results


def test_a_store_writes_and_reads_under_a_key(log):
    store = ResultStore()
    assert not store.exists("k")
    store.write({"a": 1}, key="k")
    assert store.exists("k")
    assert store.read("k").result == {"a": 1}
    assert store.read("k").key == "k"


def test_what_a_task_has_stored_under_a_key_is_read_and_the_other_way_round(log):
    calls = []

    @task(result_storage_key="shared")
    def one():
        calls.append(1)
        return [1]

    one()
    assert ResultStore().read("shared").result == [1]
    ResultStore().write([2], key="shared")
    assert one() == [2]
    assert calls == [1]


def test_a_store_reads_nothing_under_an_unknown_or_expired_key(log, clock):
    store = ResultStore()
    with pytest.raises(ValueError, match="nobody"):
        store.read("nobody")
    store.write(1, key="brief", expiration=dt.datetime.fromtimestamp(clock.now() + 60, dt.UTC))
    assert store.read("brief").result == 1
    clock.advance(60)
    assert not store.exists("brief")


def test_a_store_makes_a_key_where_none_is_given(log):
    store = ResultStore()
    record = store.write("x")
    assert store.read(record.key).result == "x"


def test_a_store_can_be_awaited(log):
    async def inside():
        store = ResultStore()
        await store.awrite(1, key="k")
        return await store.aexists("k"), (await store.aread("k")).result

    assert asyncio.run(inside()) == (True, 1)


def test_what_a_store_writes_stands_in_the_log_as_a_run(log):
    ResultStore().write(5, key="k")
    (run,) = log.runs()
    assert run.result() == 5

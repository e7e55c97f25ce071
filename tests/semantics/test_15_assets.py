"""Section 15: assets."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import pluperfect
from pluperfect import flow, task
from pluperfect.assets import Asset, AssetProperties, MaterializingTask, add_asset_metadata, materialize
from pluperfect.authoring.cli import main
from pluperfect.errors import MissingContextError


@pytest.mark.parametrize(
    "key", ["s3://bucket/a.csv", "postgres://db/table", "x://y", "file:///a/b", "s3://a/" + "b" * 505]
)
def test_a_key_is_a_uri(key):
    assert Asset(key).key == key


@pytest.mark.parametrize("key", ["bucket/a.csv", "S3://bucket/a", "s3:/a", "s3://", "", "://a", "s3://a/" + "b" * 506])
def test_what_is_no_uri_or_too_long_is_refused(key):
    with pytest.raises(ValueError, match="key of an asset"):
        Asset(key)


@given(st.sampled_from(" \t\n\"'`<>[]{}#?&%|\\^"), st.integers(0, 4))
def test_a_key_with_a_banned_character_is_refused(character, place):
    with pytest.raises(ValueError, match="key of an asset"):
        Asset("s3://" + "abcd"[:place] + character + "abcd"[place:])


@pytest.mark.parametrize("key", [3, None, b"s3://a/b"])
def test_a_key_that_is_no_string_is_a_type_error(key):
    with pytest.raises(TypeError, match="string"):
        Asset(key)


def test_materialize_needs_an_asset():
    with pytest.raises(TypeError, match="at least one asset"):
        materialize()
    with pytest.raises(TypeError, match="at least one asset"):
        materialize(print)
    with pytest.raises(ValueError, match="key of an asset"):
        materialize("nowhere")(print)


def test_a_materializing_task_is_a_task_with_its_options(log):
    properties = AssetProperties(name="rows", owners=["me"])

    @materialize(Asset("s3://a/rows", properties), "s3://a/more", by="duckdb", name="mine", retries=2, tags=["t"])
    def make():
        return 3

    assert isinstance(make, MaterializingTask)
    assert (make.name, make.retries, make.tags, make.materialized_by) == ("mine", 2, {"t"}, "duckdb")
    assert make() == 3
    assert make.assets[0].properties.owners == ["me"]
    one, two = log.assets()
    assert {one.key, two.key} == {"s3://a/rows", "s3://a/more"}
    (rows,) = log.assets("s3://a/rows")
    assert (rows.made.by, rows.made.properties) == ("duckdb", {"name": "rows", "owners": ["me"]})


def test_success_failure_and_a_cache_hit(log):
    from pluperfect.cache_policies import INPUTS

    @materialize("s3://a/b", cache_policy=INPUTS)
    def make(x):
        if x is None:
            raise ValueError
        return x

    make(1), make(1)
    make(None, return_state=True)
    assert [(m.succeeded, m.run.state.kind) for m in log.assets()] == [(False, "Failed"), (True, "Completed")]


def test_an_attempt_that_is_retried_makes_one_materialization(log):
    left = [1, 0]

    @materialize("s3://a/b", retries=1)
    def make():
        if left.pop(0):
            raise ValueError

    make()
    assert [m.succeeded for m in log.assets()] == [True]


def test_upstream_assets_are_inferred_through_tasks_futures_and_subflows(log):
    raw = materialize("s3://a/raw")(lambda: {"rows": 1})
    plain = task(lambda x: dict(x), name="plain")
    store = materialize("s3://a/store")(lambda x: x)

    @flow
    def inner(x):
        return store(x)

    @flow
    def outer():
        store(plain.submit(raw.submit()))
        inner(plain(raw()))

    outer()
    assert [m.made.upstream for m in log.assets("s3://a/store")][-1] == ("s3://a/raw",)


def test_declared_dependencies_count_besides_and_pass_through_plain_tasks(log):
    read = task(lambda: [1], name="read", asset_deps=["postgres://db/t"])
    store = materialize("s3://a/b", asset_deps=[Asset("s3://a/c")])(lambda x: x)
    flow(lambda: store(read()))()
    assert log.assets()[0].made.upstream == ("s3://a/c", "postgres://db/t")


def test_an_asset_is_never_its_own_source(log):
    store = materialize("s3://a/b")(lambda x: [x])
    flow(lambda: store(store(1)))()
    assert [m.made.upstream for m in log.assets()] == [(), ()]


def test_keys_change_by_with_options(log):
    store = materialize("s3://a/b")(lambda: 1)
    other = store.with_options(assets=["s3://a/c"])
    assert isinstance(other, MaterializingTask)
    other()
    assert [m.key for m in log.assets()] == ["s3://a/c"]


def test_metadata_is_taken_for_declared_assets_only(log):
    @materialize("s3://a/b", "s3://a/c")
    def make():
        add_asset_metadata("s3://a/b", {"rows": 3})
        Asset("s3://a/b").add_metadata({"size": 1.5, "rows": 4})
        with pytest.raises(ValueError, match="does not make 's3://a/x'"):
            add_asset_metadata("s3://a/x", {})

    make()
    assert {m.key: m.made.metadata for m in log.assets()} == {"s3://a/b": {"rows": 4, "size": 1.5}, "s3://a/c": {}}


def test_metadata_of_a_failed_attempt_is_forgotten(log):
    from pluperfect.runtime import task_run

    @materialize("s3://a/b", retries=1)
    def make():
        if task_run.run_count == 1:
            add_asset_metadata("s3://a/b", {"half": True})
            raise ValueError

    make()
    assert log.assets()[0].made.metadata == {}


def test_metadata_outside_of_a_materializing_task_is_an_error(log):
    with pytest.raises(MissingContextError, match="materialize"):
        add_asset_metadata("s3://a/b", {})
    with pytest.raises(MissingContextError, match="materialize"):
        task(lambda: add_asset_metadata("s3://a/b", {}))()


def test_async_and_methods(log):
    class Maker:
        @materialize("s3://a/b")
        async def make(self):
            return 1

    assert asyncio.run(Maker().make()) == 1
    assert len(log.assets()) == 1


def test_the_command_lists_what_made_each_asset_and_from_what(tmp_path):
    store = str(tmp_path / "runs")
    raw = materialize("s3://a/raw", by="duckdb", name="raw")(lambda: [1])
    make = materialize("s3://a/b", name="make")(lambda x: x)

    @flow
    def outer():
        make(raw())

    with pluperfect.open(store):
        outer(), outer()

    def cli(*words):
        done = CliRunner().invoke(main, ["--store", store, "assets", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert [row["key"] for row in json.loads(cli("--json"))] == ["s3://a/b", "s3://a/raw"]
    assert len(json.loads(cli("--all", "--json"))) == 4
    (row, _) = json.loads(cli("s3://a/b", "--json"))
    assert (row["task"], row["upstream"], row["succeeded"]) == ("make", ["s3://a/raw"], True)
    assert "from s3://a/raw" in cli()
    assert "with duckdb" in cli()
    assert "Nothing on record made s3://none/x" in cli("s3://none/x")

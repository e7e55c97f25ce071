"""``prefect.context``: what it holds, where, and that it is a dict and an object."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, context, task
from pluperfect.classic.utilities.context import context as same

KEYS = """
caches checkpointing config date today tomorrow yesterday today_nodash tomorrow_nodash yesterday_nodash flow_id flow_name
flow_run_id flow_run_name logger map_index parameters scheduled_start_time task_full_name task_id task_name task_run_count
task_run_id task_run_name task_slug task_tags task_loop_count
""".split()


def looked_at(flow_options=None, run_options=None, **options):
    seen = {}

    @task(name="looks", **options)
    def looks(x):
        seen.update(context.to_dict())

    with Flow("context", **(flow_options or {})) as flow:
        looks(Parameter("x"))
    flow.run(x=5, **(run_options or {}))
    return seen


def test_a_task_finds_all_keys(log):
    seen = looked_at(tags=["b", "a"])
    assert [key for key in KEYS if key not in seen] == []
    assert {key: seen[key] for key in ("flow_name", "task_name", "task_slug", "task_full_name", "map_index")} == {
        "flow_name": "context", "task_name": "looks", "task_slug": "looks-1", "task_full_name": "looks", "map_index": None,
    }  # fmt: skip
    assert (seen["parameters"], seen["task_tags"]) == ({"x": 5}, ["a", "b"])
    assert (seen["task_run_count"], seen["task_loop_count"]) == (1, 1)
    assert "task_loop_result" not in seen


def test_its_ids_are_those_on_record(log):
    seen = looked_at()
    (root,) = log.runs(roots=True)
    assert (seen["flow_run_id"], seen["flow_run_name"]) == (root.id, root.name)
    assert (seen["task_run_id"], seen["task_run_name"]) == (root.children[0].id, root.children[0].name)


def test_dates_are_those_of_the_clock_of_the_log(log, clock):
    seen = looked_at()
    now = datetime.fromtimestamp(clock.now(), UTC)
    assert (seen["date"].date(), seen["today"]) == (now.date(), now.strftime("%Y-%m-%d"))
    assert seen["today_nodash"] == now.strftime("%Y%m%d")
    assert seen["yesterday"] < seen["today"] < seen["tomorrow"]


def test_items_attributes_and_get_are_one(log):
    @task
    def looks():
        return context["task_name"], context.task_name, context.get("task_name"), context.get("missing", 5)

    with Flow("context") as flow:
        found = looks()
    assert flow.run().result[found].result == ("looks", "looks", "looks", 5)
    assert prefect.context is context is same
    with pytest.raises(KeyError):
        context["missing"]
    with pytest.raises(AttributeError, match="no 'missing' here"):
        _ = context.missing


def test_what_a_run_is_given_is_found_by_every_task(log):
    assert looked_at(run_options={"context": {"colour": "red"}})["colour"] == "red"
    assert "colour" not in context


def test_values_are_set_for_a_block():
    with context(colour="red", shape="round"):
        assert (context.colour, context["shape"]) == ("red", "round")
        with context({"colour": "blue"}):
            assert (context.colour, context.shape) == ("blue", "round")
        assert context.colour == "red"
    assert "colour" not in context


def test_what_one_task_sets_is_not_seen_by_another(log):
    @task
    def sets():
        context.colour = "red"
        return context.get("colour")

    @task
    def looks(_):
        return context.get("colour")

    with Flow("apart") as flow:
        first = sets()
        second = looks(first)
    state = flow.run()
    assert (state.result[first].result, state.result[second].result) == ("red", None)


def test_the_logger_of_the_context_and_of_the_task_is_that_of_the_run(log, caplog):
    class Says(prefect.Task):
        def run(self):
            self.logger.info("from self")
            context.logger.warning("from the context")
            context.get("logger").info("by get")

    with Flow("logs") as flow:
        Says()()
    with caplog.at_level(logging.INFO, "pluperfect"):
        flow.run()
    said = [record.getMessage() for record in caplog.records]
    assert {"from self", "from the context", "by get"} <= set(said)

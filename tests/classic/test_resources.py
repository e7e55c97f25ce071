"""Resources that are set up before some tasks, and cleaned up after them."""

from __future__ import annotations

import pytest

from pluperfect.classic import Flow, Parameter, resource_manager, task
from pluperfect.classic.engine.signals import SKIP


@pytest.fixture
def done():
    return []


@pytest.fixture
def manager(done):
    @resource_manager(name="cluster")
    class Cluster:
        def __init__(self, size):
            self.size = size

        def setup(self):
            done.append("setup")
            if self.size == 0:
                raise ValueError("nothing to set up")
            if self.size < 0:
                raise SKIP("not wanted", result=None)
            return ["cluster"] * self.size

        def cleanup(self, cluster):
            done.append(f"cleanup {len(cluster)}")

    return Cluster


def built(manager, done, breaks=False):
    @task
    def uses(cluster):
        done.append(f"use {len(cluster)}")
        if breaks:
            raise ValueError("broken")
        return len(cluster)

    @task
    def inside():
        done.append("inside")

    with Flow("resources") as flow:
        with manager(Parameter("size")) as cluster:
            flow.used = uses(cluster)
            flow.inside = inside()
    return flow


def test_tasks_inside_come_after_the_set_up_and_before_the_clean_up(log, manager, done):
    flow = built(manager, done)
    state = flow.run(size=2)
    assert state.is_successful()
    assert (done[0], sorted(done[1:3]), done[3:]) == ("setup", ["inside", "use 2"], ["cleanup 2"])
    assert {found.name for found in flow.tasks} >= {"cluster", "cluster.setup", "cluster.cleanup"}


def test_it_is_cleaned_up_where_a_task_failed_which_fails_the_run(log, manager, done):
    flow = built(manager, done, breaks=True)
    state = flow.run(size=2)
    assert state.is_failed()
    assert done[-1] == "cleanup 2"


def test_what_was_not_set_up_is_neither_used_nor_cleaned_up(log, manager, done):
    state = built(manager, done).run(size=0)
    assert (state.is_failed(), done) == (True, ["setup"])


def test_a_skipped_set_up_skips_all(log, manager, done):
    flow = built(manager, done)
    state = flow.run(size=-1)
    assert (state.is_successful(), done) == (True, ["setup"])
    assert state.result[flow.used].is_skipped()


def test_a_failed_clean_up_does_not_fail_the_run(log, done):
    @resource_manager
    class Fragile:
        def setup(self):
            return 1

        def cleanup(self, _):
            raise OSError("left behind")

    @task
    def uses(one):
        return one

    with Flow("fragile") as flow:
        with Fragile() as one:
            uses(one)
    state = flow.run()
    assert state.is_successful()
    (lost,) = [found for made, found in state.result.items() if made.name == "Fragile.cleanup"]
    assert isinstance(lost.result, OSError)


def test_a_class_without_its_methods_is_refused():
    with pytest.raises(TypeError, match="has no method setup"):
        resource_manager(int)

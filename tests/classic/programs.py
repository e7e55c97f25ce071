"""Tasks that are called in other processes: they are importable there."""

from __future__ import annotations

import os
from datetime import timedelta

import pluperfect.classic as prefect
from pluperfect.classic import task
from pluperfect.classic.engine import signals


@task
def where(_):
    return os.getpid()


@task(max_retries=1, retry_delay=timedelta(seconds=1))
def counts_to(last):
    count, payload = prefect.context.task_loop_count, prefect.context.get("task_loop_result", [])
    if count == 2 and prefect.context.task_run_count == 1:
        raise ConnectionError("once")
    if count < last:
        raise signals.LOOP(result=[*payload, count])
    return payload


@task
def looks(x):
    context = prefect.context
    return x, context.map_index, context.task_name, context.flow_name, context.parameters, context.task_loop_count


@task
def raises(what):
    if what == "skip":
        raise signals.SKIP("no", result=None)
    if what == "success":
        raise signals.SUCCESS("early", result=5)
    if what == "fail":
        raise signals.FAIL("bad", result={"code": 5})
    raise ValueError(what)


@task(trigger=prefect.triggers.all_failed)
def after(_):
    return "after a failure"


@task
def add(x, y):
    return x + y

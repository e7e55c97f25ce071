"""Tasks that workers import: the same programs for every runner."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time

from pluperfect import LOOP, get_run_logger, task
from pluperfect.runtime import flow_run, task_run


def note(path, text):
    """One line in a file, whichever process writes it."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


@task
def double(x):
    return 2 * x


@task
async def double_async(x):
    await asyncio.sleep(0)
    return 2 * x


@task
def where():
    return os.getpid()


class OddError(ValueError):
    pass


@task
def fails(x):
    raise OddError(f"no {x}")


@task(retries=2, retry_delay_seconds=[1, 2])
def flaky(path):
    note(path, task_run.run_count)
    if task_run.run_count < 3:
        raise ConnectionError(f"attempt {task_run.run_count}")
    return task_run.run_count


@task(retries=1)
def loops(path):
    n = (task_run.loop_result or {"n": 0})["n"] + 1
    note(path, f"{task_run.loop_count}/{task_run.run_count}")
    if n == 2 and task_run.run_count == 1:
        raise ConnectionError("once")
    if n < 4:
        raise LOOP(f"did {n}", result={"n": n})
    return n


@task
def about():
    return {
        "task": task_run.name,
        "flow": flow_run.name,
        "flow parameters": flow_run.parameters,
        "parameters": task_run.parameters,
        "tags": task_run.tags,
    }


@task
def speaks():
    get_run_logger().info("said %s", "so")


@task(log_prints=True)
def prints():
    print("printed")


@task(timeout_seconds=0.3)
def sleeps(path):
    note(path, os.getpid())
    for _ in range(600):  # in short pieces, so that a thread that is asked to stop can
        time.sleep(0.1)


@task(retries=1)
def dies(path, times):
    note(path, task_run.run_count)
    if task_run.run_count <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


@task
def calls_another():
    return double(1)


@task
def gives_a_lock():
    return threading.Lock()


@task
def takes(value):
    return value


@task
def lists():
    return (x * x for x in range(4))


@task
def yields():
    yield from range(3)


@task(persist_result=False)
def unrecorded():
    return "seen"


class Unpicklable(Exception):
    def __init__(self, lock, text):
        super().__init__(text)
        self.lock = lock


@task
def raises_what_cannot_travel():
    raise Unpicklable(threading.Lock(), "stuck")


@task
def warns():
    logging.getLogger("pluperfect.mine").warning("careful")


class Refusal(Exception):
    """An exception as libraries write them: its constructor takes other arguments than it hands on."""

    def __init__(self, reason, *, code):
        super().__init__(f"{reason} ({code})")
        self.code = code


class NotReached(OSError):
    def __init__(self, host, port):
        super().__init__(111, f"{host}:{port} is not reached")
        self.port = port


@task
def refuses():
    raise Refusal("no", code=7)


@task
def does_not_reach():
    raise NotReached("there", 25)

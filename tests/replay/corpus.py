"""
The mutation corpus: four programs, what somebody may do to their code, and what a replay has to say of it.

A mutant is a program with one thing changed that changes what a run does; a neutral edit changes nothing that a run does.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTANTS", "NEUTRAL", "PROGRAMS", "Mutant", "Neutral", "edited", "load"]

TASKS = """
import asyncio
from pluperfect import LOOP, flow, task, tags
from pluperfect.runtime import task_run

@task(retries=2, timeout_seconds=60, tags=["slow"])
def fetch(page, size=10):
    return page * size

@task(version="1")
def clean(value):
    return value + 1

@task
def audit(value):
    return value

@task
def store(value, label="t"):
    return f"{label}{value}"
"""

SYNC = (
    TASKS
    + """
@flow
def program(start=1):
    raw = fetch(start)
    neat = clean(raw)
    if neat > 5:
        audit(neat)
    else:
        store(0)
    done = store(neat, label="t")
    last = audit.submit(7)
    sent = store.submit(9, wait_for=[last])
    return [done, neat, sent.result()]
"""
)

ASYNC = """
import asyncio
from pluperfect import LOOP, flow, task, tags
from pluperfect.runtime import task_run

@task(retries=2, timeout_seconds=60, tags=["slow"])
async def fetch(page, size=10):
    await asyncio.sleep(0.01 * (3 - page % 3))
    return page * size

@task(version="1")
async def clean(value):
    return value + 1

@task
async def audit(value):
    return value

@task
async def store(value, label="t"):
    return f"{label}{value}"

@flow
async def program(start=1):
    async def strand(page):
        raw = await fetch(page)
        return await clean(raw)

    neat = await asyncio.gather(strand(start), strand(start + 1), strand(start + 2))
    if sum(neat) > 5:
        await audit(sum(neat))
    else:
        await store(0)
    done = await store(neat[0], label="t")
    last = audit.submit(7)
    sent = store.submit(9, wait_for=[last])
    return [done, neat, await sent]
"""

MAPPED = (
    TASKS
    + """
@flow
def program(start=1):
    raw = fetch.map(range(start, start + 4))
    neat = clean.map(raw)
    values = neat.result()
    if sum(values) > 5:
        audit(sum(values))
    else:
        store(0)
    done = store.map(values, label="t").result()
    last = audit.submit(7)
    sent = store.submit(9, wait_for=[last])
    return [done, len(values), sent.result()]
"""
)

LOOPING = (
    TASKS
    + """
@task
def fibonacci(limit):
    a, b = task_run.loop_result or (0, 1)
    if b > limit:
        return a
    raise LOOP(f"{b}", result=[b, a + b])

@flow
def program(start=1):
    total = fibonacci(20 * start)
    page = start
    while page < start + 3:
        raw = fetch(page)
        total += clean(raw)
        page += 1
    if total > 5:
        audit(total)
    else:
        store(0)
    done = store(total, label="t")
    last = audit.submit(7)
    sent = store.submit(9, wait_for=[last])
    return [done, total, sent.result()]
"""
)

PROGRAMS = {"sync": SYNC, "async": ASYNC, "mapped": MAPPED, "looping": LOOPING}
"""By their shape. A run of each is recorded with `start` as it is by default."""


class Mutant(NamedTuple):
    """
    One change to one program.

    Attributes:
        kind: What sort of change.
        shape: Which program.
        old: The text that is replaced, once.
        new: What stands there instead.
        part: In what the first divergence lies.
        recorded: How the recorded side of it begins.
        replayed: How the replayed side of it begins.
        bodies: Whether it lies in the body of a task, which only a replay with bodies calls.
    """

    kind: str
    shape: str
    old: str
    new: str
    part: str
    recorded: str
    replayed: str
    bodies: bool = False


class Neutral(NamedTuple):
    """One change to one program that changes nothing of what it does."""

    kind: str
    shape: str
    old: str
    new: str


def everywhere(kind, old, new, part, recorded, replayed, *, but=(), bodies=False, coroutine=True):
    """A mutant of each program in which this text stands."""
    for shape in PROGRAMS:
        if shape in but:
            continue
        wait = "await " if shape == "async" and coroutine else ""
        yield Mutant(kind, shape, old.replace("~", wait), new.replace("~", wait), part, recorded, replayed, bodies)


MUTANTS = [
    # arguments
    Mutant("argument changed", "sync", "fetch(start)", "fetch(start + 1)", "inputs", "fetch(page=1", "fetch(page=2"),
    Mutant("argument changed", "async", "strand(start + 1)", "strand(start + 5)", "inputs", "fetch(page=2", "fetch(page=6"),
    Mutant("argument changed", "mapped", "range(start, start + 4)", "range(start + 1, start + 5)", "inputs", "fetch[0](page=1", "fetch[0](page=2"),
    Mutant("argument changed", "looping", "raw = fetch(page)", "raw = fetch(page + 1)", "inputs", "fetch(page=1", "fetch(page=2"),
    *everywhere("argument changed", "audit.submit(7)", "audit.submit(8)", "inputs", "audit(value=7", "audit(value=8"),
    *everywhere("argument dropped", 'label="t")\n    last', 'label="u")\n    last', "inputs", "store(", "store(", but=("mapped",)),
    Mutant("constant argument of a map changed", "mapped", 'label="t").result()', 'label="u").result()', "inputs", "store[0](", "store[0]("),
    *everywhere("default changed", "size=10", "size=11", "inputs", "fetch", "fetch"),
    # options
    *everywhere("option changed", "retries=2", "retries=3", "options", "fetch", "fetch"),
    *everywhere("option dropped", "retries=2, ", "", "options", "fetch", "fetch"),
    *everywhere("option added", "@task\ndef audit", "@task(retries=1)\ndef audit", "options", "audit", "audit", but=("async",)),
    *everywhere("timeout changed", "timeout_seconds=60", "timeout_seconds=61", "options", "fetch", "fetch"),
    *everywhere("version changed", 'version="1"', 'version="2"', "version", "clean", "clean"),
    *everywhere("flow option changed", "@flow\n", "@flow(retries=1)\n", "options", "program", "program"),
    # calls
    Mutant("call dropped", "sync", "neat = clean(raw)", "neat = raw + 1", "call", "clean(value=10)", "nothing"),
    Mutant("call dropped", "async", "return await clean(raw)", "return raw + 1", "call", "clean(value=", "nothing"),
    Mutant("call dropped", "mapped", "        audit(sum(values))", "        pass", "call", "audit(value=104)", "store[0]"),
    Mutant("call dropped", "looping", "total += clean(raw)", "total += raw + 1", "call", "clean(value=10)", "nothing"),
    *everywhere("last call dropped", "last = audit.submit(7)\n    sent = store.submit(9, wait_for=[last])", "sent = store.submit(9)", "call", "audit(value=7)", "nothing"),
    *everywhere("call inserted", "    done = ", "    ~audit(1)\n    done = ", "call", "store", "audit(value=1)", but=("async",)),
    Mutant("call inserted", "async", "    done = ", "    await audit(1)\n    done = ", "call", "store(value=11", "audit(value=1)"),
    *everywhere("call inserted at the end", "    return [done", "    ~audit(1)\n    return [done", "call", "the end", "audit(value=1)"),
    *everywhere("call inserted that nobody waits for", "    return [done", "    audit.submit(1)\n    return [done", "call", "the end", "audit(value=1)"),
    Mutant("calls swapped", "sync", "    raw = fetch(start)\n    neat = clean(raw)", "    neat = clean(start * 10)\n    raw = fetch(start)", "order", "fetch(page=1", "clean(value=10)"),
    Mutant("calls swapped", "async", "strand(start), strand(start + 1)", "strand(start + 1), strand(start)", "order", "fetch(page=1", "fetch(page=2"),
    Mutant(
        "calls swapped", "mapped", '    done = store.map(values, label="t").result()\n    last = audit.submit(7)\n',
        '    last = audit.submit(7)\n    done = store.map(values, label="t").result()\n', "order", "store[0](", "audit(value=7)"),
    Mutant("calls swapped", "looping", '    done = store(total, label="t")\n    last = audit.submit(7)\n', '    last = audit.submit(7)\n    done = store(total, label="t")\n', "order", "store(", "audit(value=7)"),
    *everywhere("call no longer waits", ", wait_for=[last])", ")", "upstream", "store(value=9", "store(value=9"),
    # what surrounds the calls
    *everywhere("conditional flipped", "> 5:", "<= 5:", "call", "audit", "store"),
    *everywhere("comparison moved", "> 5:", "> 500:", "call", "audit", "store"),
    Mutant("map length changed", "mapped", "start + 4)", "start + 3)", "map length", "fetch.map of 4", "fetch.map of 3"),
    Mutant("map length changed", "mapped", "start + 4)", "start + 6)", "map length", "fetch.map of 4", "fetch.map of 6"),
    Mutant("number of iterations changed", "looping", "start + 3:", "start + 2:", "call", "fetch(page=3", "audit("),
    Mutant("number of iterations changed", "looping", "start + 3:", "start + 4:", "call", "audit(", "fetch(page=4"),
    Mutant("strand added", "async", "strand(start + 2))", "strand(start + 2), strand(start + 3))", "call", "", "fetch(page=4"),
    Mutant("strand dropped", "async", ", strand(start + 2))", ")", "call", "fetch(page=3", "nothing"),
    *everywhere("final result changed", "return [done, ", "return [done + done, ", "result", "Completed", "Completed"),
    *everywhere("final result turned into a failure", "    return [done", "    raise ValueError(done)\n    return [done", "state", "Completed", "Failed"),
    # bodies of tasks
    Mutant("loop payload changed", "looping", "result=[b, a + b]", "result=[b, a + b + 1]", "payload", "Looped", "Looped", bodies=True),
    Mutant("loop ended earlier", "looping", "if b > limit:", "if b >= limit // 2:", "state", "Looped", "Completed", bodies=True),
    *everywhere("result of a task changed", "return page * size", "return page * size + 0.5", "result", "Completed", "Completed", bodies=True),
    *everywhere("task fails", "return page * size", "raise KeyError(page)", "state", "Completed", "Failed", bodies=True),
]  # fmt: skip

# A renamed task is another task wherever it stands.
MUTANTS += [Mutant("call renamed", shape, "audit", "checked", "call", "audit(", "checked(") for shape in PROGRAMS]

NEUTRAL = [
    *(Neutral("variable renamed", shape, "done", "finished") for shape in PROGRAMS),
    *(Neutral("comment added", shape, "    return [done", "    # and that is all\n    return [done") for shape in PROGRAMS),
    *(
        Neutral(
            "log line added",
            shape,
            "    done = ",
            "    from pluperfect import get_run_logger\n    get_run_logger().info('so far')\n    print('so far')\n    done = ",
        )
        for shape in PROGRAMS
    ),
    *(
        Neutral("helper taken out", shape, "> 5:", "> threshold():")
        for shape in PROGRAMS
    ),
    *(Neutral("docstring added", shape, "(start=1):\n", "(start=1):\n    '''What it does.'''\n") for shape in PROGRAMS),
    *(Neutral("annotation added", shape, "(start=1)", "(start: int = 1)") for shape in PROGRAMS),
    *(Neutral("condition turned round", shape, "> 5:", "> 4 + 1:") for shape in PROGRAMS),
    *(Neutral("callback added", shape, "@flow\n", "@flow(on_completion=[lambda *told: None])\n") for shape in PROGRAMS),
    *(Neutral("keyword for position", shape, "store.submit(9,", "store.submit(value=9,") for shape in PROGRAMS),
    *(Neutral("default spelled out", shape, "audit.submit(7)", "audit.submit(*[7])") for shape in PROGRAMS),
    *(Neutral("task documented", shape, "    return value + 1", "    'Adds one.'\n    return 1 + value") for shape in PROGRAMS),
    Neutral("loop written otherwise", "looping", "    page = start\n    while page < start + 3:", "    for page in (start, start + 1, start + 2):"),
    Neutral("list for a generator", "mapped", "range(start, start + 4)", "[start + n for n in range(4)]"),
    Neutral("task group for gather", "async", "await asyncio.gather(strand(start), strand(start + 1), strand(start + 2))", "await grouped(strand(start), strand(start + 1), strand(start + 2))"),
]  # fmt: skip

HELPERS = """
def threshold():
    return 5

async def grouped(*strands):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(strand) for strand in strands]
    return [made.result() for made in tasks]
"""


def edited(edit):
    """
    The program with an edit made.

    Raises:
        ValueError: There is nothing in the program to be edited so.
    """
    text = PROGRAMS[edit.shape] + HELPERS
    if edit.kind.endswith(" renamed"):
        return text.replace(edit.old, edit.new)
    if edit.kind == "loop written otherwise":
        text = text.replace("        page += 1\n", "")
    if edit.old not in text:
        raise ValueError(f"{edit.kind}: {edit.old!r} does not stand in the program {edit.shape!r}")
    return text.replace(edit.old, edit.new, 1)


def load(source):
    """The flow that a program defines, under the same module name each time."""
    names = {"__name__": "shop", "__file__": ""}
    exec(compile(source, "shop.py", "exec"), names)
    return names["program"]

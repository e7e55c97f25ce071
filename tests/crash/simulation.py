"""
Several processes over one log, simulated in one thread of control: every crash falls where the seed says.

A process is an owner of its own over the tables of one log in memory. Between it and the tables stands `Disk`, which writes
what somebody waits for, and of the rest as much as the seed decides, always the beginning: what a crash leaves is a prefix. It
counts each append, wait, claim and call of a body as an event; at one of them the process dies, at another one a rival starts,
while this process lives or is only held to be dead.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from functools import cache
from itertools import islice

import checkers
from pluperfect import LOOP, flow, hookimpl, task
from pluperfect.authoring.logs import OpenLog
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import Fenced, PluperfectError
from pluperfect.exceptions import InDoubt
from pluperfect.manager import Hooks
from pluperfect.records import open_row
from pluperfect.runtime import flow_run, task_run
from pluperfect.states import Running
from pluperfect.testing import FakeClock
from pluperfect_store.leases import living
from pluperfect_store.memory import MemoryLog

SIZES = 8
"""A seed says how long its program is: its remainder by this, and one."""

CRASHES = 9  # of one history; then its processes live
ROUNDS = 40  # processes of one history, rivals apart; that is far more than can crash
LEVELS = ("effect", "effect", "result", "lazy")
STARTED = Running.code


class Crash(BaseException):
    """The end of a simulated process. What it would still do does not happen: its disk is gone."""


# --- the programs that the processes run


@task
def step(x):
    act()
    return x * 7 + 1


@task
async def waits(x):
    act()
    return x * 5


@task(retries=2, retry_delay_seconds=10)
def shaky(x, failures):
    act()
    if task_run.run_count <= failures:
        raise ConnectionError(x)
    return -x


@task(retries=1, retry_delay_seconds=[3])
def fails(x):
    act()
    raise ValueError(x)


@task(retries=1)
def loops(x, times):
    act()
    total = (task_run.loop_result or 0) + x
    if task_run.loop_count == 2 and task_run.run_count == 1:
        raise ConnectionError(x)
    if task_run.loop_count < times:
        raise LOOP(result=total)
    return total


@task(cache_policy=INPUTS)
def squares(x):
    act()
    return x * x


@task(on_interrupt="fail", durability="effect")
def once(x):
    act(once=True)


@flow(retries=1, task_runner="inline")
def inner(plan, falls):
    found = [play(node) for node in plan]
    if falls and flow_run.run_count == 1:
        raise ConnectionError
    return found


@flow(task_runner="inline")
def job(plan, ends):
    found = [play(node) for node in plan]
    if ends == "raise":
        raise ValueError(found)
    return found


@flow(task_runner="inline")
async def async_job(plan, ends):
    found = [await waits(node[1]) if node[0] == "step" else play(node) for node in plan]
    if ends == "raise":
        raise ValueError(found)
    return found


def play(node):
    """Carry out one part of a program."""
    word, *rest = node
    if word == "map":
        return step.map(rest[0]).result()
    if word == "inner":
        return inner(*rest)
    if word == "fails":
        try:
            return fails(*rest)
        except ValueError as error:
            return f"failed with {error}"
    if word == "once":
        try:
            once(*rest)
        except InDoubt:
            pass  # whether it was made is the world's to know
        return "once"
    return {"step": step, "shaky": shaky, "loops": loops, "squares": squares}[word](*rest)


def drawn(chance, size, depth=0):
    """A program of so many parts."""
    return [node(chance, size, depth) for _ in range(size)]


def node(chance, size, depth):
    x = chance.randrange(5)
    word = chance.choice(("step", "step", "shaky", "loops", "squares", "squares", "map", "fails", "once", "inner"))
    if word == "shaky":
        return [word, x, chance.randrange(3)]
    if word == "loops":
        return [word, x, chance.randrange(1, 5)]
    if word == "map":
        return [word, [chance.randrange(9) for _ in range(chance.randrange(1, 4))]]
    if word == "inner":
        plan = drawn(chance, chance.randrange(1, 3), depth + 1) if depth < 2 else [["step", x]]
        return [word, plan, chance.random() < 0.3]
    return [word, x]


acting = []  # the processes that are on their way, each in a moment of the one before it


def act(once=False):
    """Something that the world notices: the body of a task has begun."""
    acting[-1].acts(bytes.fromhex(task_run.id.replace("-", "")), task_run.loop_count, task_run.run_count, once=once)


# --- the machines that they run on


class Promise:
    """A ticket of the simulated disk."""

    def __init__(self, disk, write, entries):
        self._disk, self._write, self.entries = disk, write, entries
        self.done, self.answer, self._error = False, None, None

    def settle(self):
        """It is written now, or refused."""
        try:
            self.answer = self._write()
            if self._disk.robbed and self.entries:
                self._disk.world.lies.append("a process wrote on whose run was taken over")
        except Exception as error:
            self._error = error
        self.done = True

    def wait(self, timeout=None):
        self._disk.awaited(self)
        if self._error is not None:
            raise self._error
        self._disk.world.acknowledged |= self.entries

    def extend(self, part):
        return False

    def notify(self, callback):
        self._disk.awaited(self)
        callback()


class Disk:
    """The log as one process has it: reads see what is written, appends queue until somebody waits or the seed says so."""

    def __init__(self, world, fuse=0, rival=0):
        self.world, self.under, self.chance = world, world.log.beside(), world.chance
        self.events, self.fuse, self.rival = 0, fuse, rival
        self.dead, self.crashed_at, self.queue = False, "", []
        self.robbed = False  # a rival took its tree over while it was on its way

    def __getattr__(self, name):
        self.event("")
        return getattr(self.under, name)

    def event(self, what):
        """One moment at which a process may die, and another one come in between. Reads are moments of the dead only."""
        if self.dead:
            raise Crash
        if what:
            self.events += 1
            if self.events == self.fuse:
                self.die(what)
                raise Crash
            if self.events == self.rival:
                self.world.rivalry(self)

    def die(self, what):
        """From now on nothing of this process reaches the disk; of what was queued, a beginning has."""
        self.write(self.chance.randint(0, len(self.queue)))
        self.dead, self.crashed_at = True, what
        living.discard(self.under._owner)

    def write(self, count):
        """Write so much of what is queued."""
        for promise in self.queue[:count]:
            promise.settle()
        del self.queue[:count]

    def awaited(self, promise):
        """Somebody waits for this: it is written, with all before it, and maybe more."""
        self.event("before a wait")
        if not promise.done:
            upto = self.queue.index(promise) + 1
            self.write(self.chance.randint(upto, len(self.queue)))
        self.event("after a wait")

    def queued(self, write, entries=frozenset()):
        promise = Promise(self, write, entries)
        self.queue.append(promise)
        if self.chance.random() < 0.15:  # its hold is over
            self.write(self.chance.randint(1, len(self.queue)))
        return promise

    # --- those methods of a log that write

    def append(self, parts, *, epoch=0, hold=0.005, claim=False):
        self.event("before an append")
        entries = {(part.run, part.entries[-1].seq) for part in parts}
        promise = self.queued(lambda: self.under.append(parts, epoch=epoch, claim=claim).wait(), entries)
        self.event("after an append")
        return promise

    def claim(self, root, at):
        self.event("before a claim")
        self.write(len(self.queue))
        term = self.under.claim(root, at)
        self.event("after a claim")
        return term

    def release(self, root, epoch):
        self.event("before a release")
        self.queued(lambda: self.under.release(root, epoch))
        self.event("after a release")

    def flush(self):
        self.event("before a flush")
        self.write(len(self.queue))

    def settle_key(self, key):
        self.flush()

    def close(self):
        if not self.dead:
            self.write(len(self.queue))
            self.under.close()

    # --- what its bodies do

    def acts(self, run, loop, attempt, once):
        self.event("before a body")
        self.world.noticed(run, loop, attempt, once=once)
        self.event("in a body")


class Machine:
    """The plugin by which a simulated process has its disk, a runner without threads, and maybe somebody who is told."""

    @hookimpl
    def open_log(self, uri):
        return acting[-1] if uri == "sim:" else None

    @hookimpl
    def make_runner(self, name):
        return Inline() if name == "inline" else None


class Listener:
    """Is told of every transition, which has to be on record by then."""

    @hookimpl
    def recorded(self, run, transition, definition):
        world = acting[-1].world
        head = world.log.head(run.id)
        if head is None or head.seq < transition.seq:  # what a listener raises is only logged
            world.lies.append(f"a listener was told of what is not on record: {run.id.hex()} {transition}")


class Inline:
    """Calls at once what is submitted."""

    def submit(self, call):
        call()

    def close(self):
        pass


@cache
def plugins(*, listener):
    """The plugins of a simulated process, loaded once for all of them: that takes longer than most histories."""
    return Hooks([Machine(), *([Listener()] if listener else [])], entry_points=False)


class World:
    """
    One history: a program, and the processes that carry it out one after the other, or in between of one another.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.plan = drawn(self.chance, seed % SIZES + 1)
        self.level = self.chance.choice(LEVELS)
        self.ends = self.chance.choice(("return", "return", "return", "raise"))
        self.flow = self.chance.choice((job, job, async_job))
        self.listens = self.chance.random() < 0.2
        self.log, self.clock = MemoryLog(), FakeClock()
        self.acknowledged, self.acted, self.lies = set(), Counter(), []
        self.before = []
        self.crashes, self.rivals, self.fenced, self.checked = Counter(), Counter(), 0, 0

    # --- processes

    def process(self, fuse=0, rival=0, recovers=False):
        """One process from its start to its end. Returns its disk, and how it ended."""
        disk = Disk(self, fuse, rival)
        acting.append(disk)
        try:
            with OpenLog(plugins(listener=self.listens), "sim:", self.clock) as log:
                ended = self.recovered(log) if recovers else self.called()
                if self.chance.random() < 0.5 and not disk.dead:
                    disk.die("after its end")
        except Crash:
            ended = ("crash", disk.crashed_at)
        except Fenced:
            ended = ("fenced", "")
        finally:
            acting.pop()
        if disk.dead and disk.crashed_at != "after its end":
            ended = ("crash", disk.crashed_at)  # whatever its code made of that
        return disk, ended

    def called(self):
        """Call the flow as a program would."""
        keyed = self.flow.with_options(idempotency_key="k", durability=self.level)
        try:
            answer = keyed(self.plan, self.ends)
            return ("result", asyncio.run(answer) if self.flow is async_job else answer)
        except ValueError as error:
            return ("result", repr(error))

    def recovered(self, log):
        """Find what dead processes have left, and go on with it."""
        left = log.interrupted()
        doubtful = {run.id.replace("-", "") for run in log.in_doubt()}
        if left:
            assert doubtful == {run.hex() for run in self.open_calls()}
        done = log.recover(limit=1000)
        if not done:
            return self.called()
        if done[0].outcome == "held":
            return ("fenced", "")
        assert done[0].outcome == "ended", (done[0].outcome, done[0].why)
        return self.called()  # it is answered from the log

    def rivalry(self, disk):
        """Another process starts while this one is on its way: it may be alive, or only be held to be dead."""
        root = self.root()
        holder = self.log.holder(root) if root else None
        mine = holder is not None and holder.owner == disk.under._owner
        zombie = self.chance.random() < 0.6
        if zombie:
            disk.write(self.chance.randint(0, len(disk.queue)))
            living.discard(disk.under._owner)
        head = self.log.head(root) if root else None
        over = head is not None and head.outcome > 0
        fuse = self.chance.randint(1, 20) if zombie and self.chance.random() < 0.3 else 0
        ended = []

        def carry_out():
            ended.extend(self.process(fuse))

        thread = threading.Thread(target=carry_out)  # with a context of its own; this one waits meanwhile
        thread.start()
        thread.join()
        assert ended, "the rival fell over something else"
        how = ended[1][0]
        self.rivals[f"{'a zombie' if zombie else 'a living owner'}, {how}"] += 1
        if how == "crash":
            self.crashes[ended[1][1]] += 1
        if mine and not over and not zombie:
            assert how == "fenced", "of two that carry out one run the second goes on"
        elif how != "crash":
            assert ended[1] == self.expected, (ended[1], self.expected)
        now = self.log.holder(root) if root else None
        if mine and not over and (now is None or now.owner != holder.owner):
            disk.robbed = True

    # --- what is asked of them

    def root(self):
        """The run that the program is; None before its birth or its lease."""
        with self.log._rows() as rows:
            lease = rows.last("lease")
        return lease or next(iter(self.log.find(roots=True)), None)

    def open_calls(self):
        """The calls of tasks that began and have no end on record."""
        return {
            run
            for run, entries in checkers.histories(self.log).items()
            if self.log.head(run).state == STARTED and entries[0].to.spec.kind == "task"
        }

    def noticed(self, run, loop, attempt, *, once):
        """The body of a task has begun."""
        self.acted[run, loop, attempt] += 1
        if self.level != "effect" and not once:
            return
        entries = [open_row(row).entry(self.log.blob) for row in self.log.records(run)]
        starts = [(e.to.loop_count, e.to.attempt) for e in entries if isinstance(e.to, Running)]
        assert (loop, attempt) in starts, f"a body began whose Running is not on record: {run.hex()} {loop} {attempt}"
        assert self.acted[run, loop, attempt] == 1, f"one attempt began twice: {run.hex()} {loop} {attempt}"
        if once:
            made = sum(count for (other, _, _), count in self.acted.items() if other == run)
            assert made == 1, f"what may be made once at most was made {made} times: {run.hex()}"

    def check(self):
        """All promises, now."""
        self.checked += 1
        checkers.promise_2(self.log, self.acknowledged)
        checkers.check(self.log)
        rows = checkers.whole(self.log)
        assert rows[: len(self.before)] == self.before, "what was recorded has changed"
        self.before = rows
        assert self.lies == [], self.lies

    def play(self):
        """The whole history."""
        calm = World.__new__(World)
        calm.__dict__.update(self.__dict__, log=MemoryLog(), acted=Counter(), clock=FakeClock(), acknowledged=set())
        calm.chance = random.Random(0)
        quiet, self.expected = calm.process()
        calm.log.close()
        assert self.expected[0] == "result", self.expected
        most, chance = quiet.events, self.chance
        for _ in range(ROUNDS):
            fuse = chance.randint(1, most) if sum(self.crashes.values()) < CRASHES else 0
            rival = chance.randint(1, most) if chance.random() < 0.3 else 0
            recovers = chance.random() < 0.3
            disk, ended = self.process(fuse, rival, recovers)
            self.check()
            if ended[0] == "crash":
                self.crashes[ended[1]] += 1
                continue
            if ended[0] == "fenced":
                assert disk.robbed, "nobody had taken this run over"
                self.fenced += 1
                continue
            assert ended == self.expected, (ended, self.expected)
            assert all(self.log.head(run).outcome for run in islice(self.log.find(), 1000)), "a run was left open"
            self.log.close()
            return self
        raise AssertionError(f"the program does not end: {ended}")


def broken(seed):
    """Play the history of a seed. Returns it, and what of its promises was found broken, if anything."""
    world = World(seed)
    try:
        world.play()
    except (AssertionError, PluperfectError) as error:
        return world, f"{type(error).__name__}: {error}"
    return world, ""

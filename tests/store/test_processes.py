"""Forks, kills, exits and second processes: real ones."""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest

from pluperfect.errors import StoreForked
from pluperfect.records import GENESIS, leaf, open_record
from pluperfect_store.conformance import new_id, whole
from pluperfect_store.lmdb import LmdbLog

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def log(tmp_path):
    log = LmdbLog(tmp_path / "runs")
    yield log
    log.close()


def in_child(work):
    """Fork, do this in the child, and give what it returned, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


def assert_sound(log):
    """Positions without gaps, versions without gaps, an unbroken chain for each run, and views that equal the fold."""
    last = {}
    for number, (position, data) in enumerate(log.feed(0, 10**7), 1):
        record = open_record(data)
        seq, prev = last.get(record.run, (0, GENESIS))
        assert (position, record.seq, record.prev) == (number, seq + 1, prev)
        last[record.run] = (record.seq, leaf(data))
    assert log.compare() == []


# --- forks


@forks
def test_a_forked_child_and_its_parent_both_go_on(log):
    """42. After a fork both processes read and write, each with its own writer."""
    log.append([whole(new_id())], epoch=1).wait()

    def child():
        before = log.position()
        log.append([whole(new_id())], epoch=1).wait()
        unwaited = log.append([whole(new_id())], epoch=1)
        log.close()
        return before, unwaited.done

    assert in_child(child) == "(3, True)"
    log.append([whole(new_id())], epoch=1).wait()
    assert log.position() == 12
    assert_sound(log)


@forks
def test_what_was_queued_before_a_fork_is_written_once_by_the_parent(log):
    """43. A child neither writes nor waits for what its parent had queued."""
    tickets = [log.append([whole(new_id())], epoch=1, hold=30.0) for _ in range(5)]

    def child():
        try:
            tickets[0].wait(5)
        except StoreForked:
            log.flush()
            log.close()
            return "forked"
        return "?"

    assert in_child(child) == "forked"
    log.flush()
    assert log.position() == 15


@forks
def test_forks_while_threads_append_and_read_lose_nothing(log):
    """42. A fork waits until no transaction is open, so that it can happen at any time."""
    stop, wrong, counts = threading.Event(), [], [0] * 3

    def append(number):
        try:
            while not stop.is_set():
                log.append([whole(new_id())], epoch=1).wait()
                counts[number] += 1
                assert log.position() > 0
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()

    def child():
        log.append([whole(new_id())], epoch=1).wait()
        log.close()
        return "wrote"

    answers = [in_child(child) for _ in range(10)]
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert answers == ["wrote"] * 10
    assert log.position() == 3 * (sum(counts) + 10)
    assert_sound(log)


@forks
def test_a_child_of_a_reading_parent_is_refused_and_does_no_harm(log):
    """44. Forked beside a read that does not end, the child gets StoreForked; the parent's snapshot stays what it was."""
    log.append([whole(new_id())], epoch=1).wait()
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def read():
        with log._rows() as rows:
            seen.append(rows.last("log"))
            inside.set()
            leave.wait(20)
            seen.append(rows.last("log"))

    reader = threading.Thread(target=read)
    reader.start()
    inside.wait()
    answers = [in_child(log.position), in_child(lambda: log.append([whole(new_id())], epoch=1)), in_child(log.close)]
    for _ in range(10):
        log.append([whole(new_id())], epoch=1).wait()
    leave.set()
    reader.join()

    assert all(answer.startswith("StoreForked") and "spawn" in answer for answer in answers[:2])
    assert answers[2] == "None"
    assert seen[0] == seen[1]
    assert log.position() == 33


@forks
def test_a_closed_store_does_not_mind_a_fork(tmp_path):
    log = LmdbLog(tmp_path / "runs")
    log.close()

    def child():
        again = LmdbLog(tmp_path / "runs")
        again.append([whole(new_id())], epoch=1).wait()
        again.close()
        return "wrote"

    assert in_child(child) == "wrote"


# --- other processes

WRITES = """
    log = LmdbLog(path)
    print("ready"); sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        log.append([whole(new_id())], epoch=1).wait()
    log.close()
"""


def test_a_second_process_is_seen(log, program):
    """45. Reads show what other processes have committed, and await_position() notices it within moments."""
    other = program(WRITES, log.path, 1)
    assert other.line() == "ready"
    assert log.await_position(0, 0.01) is False
    other.say()

    assert log.await_position(0, 20.0)
    assert log.position() == 3
    other.end()


def test_processes_append_side_by_side(log, program):
    """45. Several processes write to one store, and every append of each is there once."""
    others = [program(WRITES, log.path, 100) for _ in range(3)]
    for other in others:
        assert other.line() == "ready"
    for other in others:
        other.say()
    for _ in range(100):
        log.append([whole(new_id())], epoch=1).wait()
    for other in others:
        other.end()

    assert log.position() == 1200
    assert_sound(log)


# --- ends


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError('oh')"])
def test_a_process_that_ends_without_closing_loses_nothing(tmp_path, program, end):
    """46. What was appended is committed when the interpreter exits, closed or not."""
    text = f"""
        log = LmdbLog(path)
        for _ in range(20): log.append([whole(new_id())], epoch=1, hold=60.0)
        {end}
    """
    one = program(text, tmp_path / "runs")
    one.process.communicate(timeout=60)
    log = LmdbLog(tmp_path / "runs")

    assert log.position() == 60
    log.close()


def test_an_interrupted_process_keeps_what_it_appended(tmp_path, program):
    """46. Ctrl-C, too, is an exit: the wait ends at once, and nothing appended is lost."""
    text = """
        log = LmdbLog(path)
        with log._store.writer.gate:
            ticket = log.append([whole(new_id())], epoch=1)
            print("waiting")
            ticket.wait()
    """
    one = program(text, tmp_path / "runs")
    assert one.line() == "waiting"
    _, err = one.kill(signal.SIGINT)
    log = LmdbLog(tmp_path / "runs")

    assert "KeyboardInterrupt" in err
    assert log.position() == 3
    log.close()


KILLED = """
    log = LmdbLog(path)
    acknowledged = open(sys.argv[2], "a", buffering=1)
    def work():
        while True:
            run = new_id()
            ticket = log.append([whole(run, tags=("x",))], epoch=1)
            log.append([whole(new_id())], epoch=1)
            ticket.wait()
            acknowledged.write(run.hex() + "\\n")
    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads: thread.start()
    log.await_position(50)
    print("busy")
    threads[0].join()
"""


def killed_appenders(tmp_path, program, rounds, seed):
    chance = random.Random(seed)
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    for _ in range(rounds):
        appenders = [program(KILLED, tmp_path / "runs", acknowledged) for _ in range(2)]
        for one in appenders:
            assert one.line() == "busy"
        threading.Event().wait(chance.random() * 0.1)
        for one in appenders:
            one.kill()
        log = LmdbLog(tmp_path / "runs")
        try:
            told = {bytes.fromhex(line) for line in acknowledged.read_text().split() if len(line) == 32}
            assert told
            assert [run.hex() for run in told if log.head(run) is None] == []
            assert_sound(log)
            log.append([whole(new_id())], epoch=1).wait()
        finally:
            log.close()


def test_what_was_acknowledged_survives_a_kill(tmp_path, program):
    """47. Whatever a ticket has acknowledged is there after kill -9, and the views equal the fold."""
    killed_appenders(tmp_path, program, 2, 1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_was_acknowledged_survives_many_kills(tmp_path, program):
    """47. Whatever a ticket has acknowledged is there after kill -9, and the views equal the fold."""
    for number in range(
        3
    ):  # each round looks at all that the rounds before it wrote: several stores, none of them long
        (tmp_path / str(number)).mkdir()
        killed_appenders(tmp_path / str(number), program, 10, 2 + number)

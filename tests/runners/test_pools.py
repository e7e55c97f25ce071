"""The threads of a runner: what blocks does not hold up the rest, and every call is made once."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from pluperfect.authoring.pools import Pool
from pluperfect_store.conformance import new_id, whole
from pluperfect_store.lmdb import LmdbLog
from waiting import until


class Written:
    """A call that appends to a log, and is over when that is committed."""

    def __init__(self, log):
        self._log, self.ticket, self.over, self.steps = log, None, False, 0

    def __call__(self):
        self.steps += 1
        if self.ticket is None:
            self.ticket = self._log.append([whole(new_id())], epoch=1, hold=3600)
            return self.ticket
        self.over = self.ticket.done
        return None


@pytest.fixture
def log(tmp_path):
    log = LmdbLog(tmp_path / "runs")
    yield log
    log.close()


@pytest.mark.parametrize("many", [1, 2, 64])
def test_calls_that_block_are_under_way_side_by_side(many):
    pool, together, ends = Pool(many, "test"), threading.Barrier(many + 1), []

    def block():
        together.wait(20)
        ends.append(threading.get_ident())

    for _ in range(many):
        pool.submit(block)
    together.wait(20)
    pool.close()
    assert len({*ends}) == many


def test_a_call_that_comes_while_another_one_blocks_is_made_meanwhile():
    pool, first, over = Pool(8, "test"), threading.Event(), threading.Event()

    def block():
        first.set()
        over.wait(20)

    pool.submit(block)
    assert first.wait(20)
    pool.submit(over.set)
    assert over.wait(20)
    pool.close()


def test_there_are_never_more_threads_than_may_be():
    pool, lock, now, most = Pool(3, "test"), threading.Lock(), 0, 0

    def call():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.002)  # long enough that others are sent for
        with lock:
            now -= 1

    for _ in range(60):
        pool.submit(call)
    pool.close()
    assert most <= 3


def test_calls_of_many_threads_are_each_made_once_and_closing_waits_for_them():
    pool, made = Pool(16, "test"), []

    def submit(first):
        for number in range(first, first + 500):
            pool.submit(lambda number=number: made.append(number))

    threads = [threading.Thread(target=submit, args=(500 * place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    assert sorted(made) == [*range(4000)]


def test_a_call_that_raises_is_told_and_the_others_are_made(caplog):
    pool, made = Pool(2, "test"), []
    pool.submit(lambda: 1 // 0)
    pool.submit(lambda: made.append(1))
    pool.close()
    assert made == [1]
    assert "ZeroDivisionError" in caplog.text


def test_calls_that_wait_for_a_commit_hold_no_thread_and_go_on_when_it_is_there(log):
    pool, calls = Pool(64, "test"), [Written(log) for _ in range(32)]
    with log._store.writer.gate:  # nothing is committed meanwhile
        for call in calls:
            pool.submit(call)
        until(lambda: all(call.ticket is not None for call in calls))
        assert len(pool._threads) < 32
        assert not any(call.over for call in calls)
    pool.close()
    assert all(call.over and call.steps == 2 for call in calls)


def test_no_more_calls_are_under_way_than_may_be_also_where_they_wait_for_a_commit(log):
    pool, calls = Pool(2, "test"), [Written(log) for _ in range(6)]
    with log._store.writer.gate:
        for call in calls:
            pool.submit(call)
        until(lambda: calls[1].ticket is not None)
        until(lambda: len(pool._idle) == len(pool._threads))
        assert [call.steps for call in calls] == [1, 1, 0, 0, 0, 0]
    pool.close()
    assert all(call.over and call.steps == 2 for call in calls)


def test_a_call_that_blocks_after_short_ones_holds_up_no_other():
    """The spare looks more and more rarely as long as calls are begun; one that blocks is noticed all the same."""
    pool, over, made = Pool(4, "test"), threading.Event(), []
    for number in range(5_000):
        pool.submit(partial(made.append, number))
    pool.submit(lambda: over.wait(20) and None)
    pool.submit(over.set)
    pool.close()

    assert over.is_set()
    assert made == [*range(5_000)]


def test_a_closed_pool_takes_no_calls():
    pool = Pool(2, "test")
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(lambda: None)
    assert not pool._calls


def test_a_call_that_comes_at_any_step_of_a_thread_that_looks_and_goes_to_sleep_is_made():
    """It is put down without a lock where a thread still looks; that one says that it looks no more, and looks once more."""
    codes = {Pool._work.__code__, Pool._straight_on.__code__}

    def third_at(step):
        """Make two calls, for which a second thread is sent, and another one as that takes this step."""
        pool, made, count, over, others = Pool(4, "test"), [], 0, False, []

        def come(frame, event, argument):
            nonlocal count
            if frame.f_code not in codes:
                return None
            if threading.current_thread().name == "test_1" and not over:
                if count < 3:
                    until(lambda: len(made) == 2)  # the first has made both; there is nothing left to do
                count += 1
                if count == step:
                    others.append(threading.Thread(target=pool.submit, args=(lambda: made.append(3),)))
                    others[0].start()
                    others[0].join(0.02)  # it waits for the lock, where this thread has it
            return come

        threading.settrace(come)
        try:
            pool.submit(lambda: made.append(1))
            pool.submit(lambda: made.append(2))
            until(lambda: len(made) >= 2 and len(pool._idle) == len(pool._threads) and (count < step or 3 in made))
        finally:
            threading.settrace(None)
        over = True
        pool.close()
        return count >= step

    met = 0
    for steps in range(1, 40):
        met += third_at(steps)
    assert met > 5


def test_a_call_for_which_no_thread_can_be_begun_takes_no_other_call_with_it(monkeypatch):
    pool, other = Pool(2, "test"), object()

    def refuse(thread):
        pool._calls.append(other)  # another thread puts down its own meanwhile
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="start"):
        pool.submit(lambda: None)
    assert [*pool._calls] == [other]

"""Locks that every call takes: whoever loses the interpreter while he holds one makes all others queue for it."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pluperfect
from pluperfect import flow, task
from pluperfect.authoring.children import Children
from pluperfect.authoring.futures import Future
from pluperfect_store.writer import Writer

CALLS = 300
HOLDERS = {
    Writer._put.__code__: lambda it: it["self"].mutex,
    Writer.extend.__code__: lambda it: it["self"].mutex,
    Children.place.__code__: lambda it: it["self"].lock,
    Children.count.__code__: lambda it: it["self"].lock,
    Future._begun.__code__: lambda it: it["self"].caller.lock,
    Future.settle.__code__: lambda it: it["self"].caller.lock,
}


def test_nothing_is_called_while_a_lock_is_held_that_every_call_takes(tmp_path):
    """A thread gives the interpreter away where it calls. Now and then may be: the first of a batch wakes the writer."""
    used, called = Counter(), Counter()

    def look(frame, event, arg):
        if event == "call" and frame.f_code in HOLDERS:
            used[frame.f_code.co_qualname] += 1
        holder = frame.f_back if event == "call" else frame if event == "c_call" else None
        if holder is None or holder.f_code not in HOLDERS or (event == "c_call" and arg.__name__ == "__exit__"):
            return
        if HOLDERS[holder.f_code](holder.f_locals)._is_owned():
            called[holder.f_code.co_qualname] += 1

    @task
    def same(number):
        return number

    @flow(durability="lazy")
    def many():
        threading.setprofile(look)
        try:
            return sum(same.map(range(CALLS)).result()) + sum(same.submit(n).result() for n in range(CALLS))
        finally:
            threading.setprofile(None)

    with pluperfect.open(f"lmdb:{tmp_path}/runs", entry_points=False):
        sys.setprofile(look)
        try:
            assert many() == 2 * sum(range(CALLS))
        finally:
            sys.setprofile(None)
    assert set(used) == {code.co_qualname for code in HOLDERS}
    often = {name: (count, used[name]) for name, count in called.items() if count > 2 * CALLS / 10}
    assert not often, f"calls while it was held, and how often it was taken, for {2 * CALLS} calls of tasks: {often}"

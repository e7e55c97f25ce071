"""Histories of several processes over one log, with their crashes where the seed says: every promise holds after each."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from crash.simulation import SIZES, Disk, World, broken
from pluperfect.errors import Conflict, Fenced
from pluperfect_store.ledger import Batch


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def crash_often(seed, crashes):
    """Histories until there were so many crashes; what is found broken is told with the shortest history that shows it."""
    died, rivals, histories, checked = Counter(), Counter(), 0, 0
    while died.total() < crashes:
        number = seed * 1_000_000 + histories
        world, wrong = broken(number)
        if wrong:
            shortest = the_shortest(number)
            pytest.fail(
                f"{wrong}\nPLUPERFECT_SEED={shortest} pytest tests/crash/test_simulation.py::test_one_history_keeps_its_promises"
            )
        histories += 1
        checked += world.checked
        died += world.crashes
        rivals += world.rivals
    assert all(rivals[how] for how in ("a living owner, fenced", "a zombie, result", "a zombie, crash"))
    moments = ", ".join(f"{count} {moment}" for moment, count in sorted(died.items()))
    print(
        f"simulated crashes: seed {seed}, {died.total()} crashes in {histories} histories ({moments}), {rivals.total()} rivals,"
        f" {checked} checks, 0 broken"
    )


def the_shortest(number):
    """A seed of the shortest history among some hundreds that breaks a promise, or this one."""
    for size in range(number % SIZES):
        for seed in range(size, size + 60 * SIZES, SIZES):
            if broken(seed)[1]:
                return seed
    return number


def test_one_history_keeps_its_promises(seed):
    assert broken(seed(1))[1] == ""


def test_the_same_seed_plays_the_same_history():
    def played():
        return [(world.crashes, world.rivals, len(world.before)) for world in (World(n).play() for n in range(8))]

    assert played() == played()


def test_after_hundreds_of_crashes_every_promise_holds(seed):
    crash_often(seed(1), 200)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_after_seven_thousand_crashes_every_promise_holds(seed):
    crash_often(seed(2), 7_000)


# --- controls: a safety is taken out, and the same checks have to find what follows


def found(seed, what, histories=50):
    """How many of so many histories break a promise."""
    wrong = [said for number in range(histories) if (said := broken(seed * 1_000_000 + number)[1])]
    print(f"control {what}: seed {seed}, {histories} histories, {len(wrong)} found broken")
    return wrong


def test_control_without_terms_a_replaced_process_writes_on(seed, monkeypatch):
    checked = Batch._checked

    def unchecked(batch, part, op, passed):
        try:
            return checked(batch, part, op, passed)
        except Fenced:
            head = batch.head(part.run)
            if (0 if head is None else head.seq) != part.expected:
                raise Conflict(f"Run {part.run.hex()} has moved on.", run=part.run.hex()) from None
            return head

    monkeypatch.setattr(Batch, "_checked", unchecked)
    assert found(seed(2), "simulation without terms")


def test_control_where_a_wait_returns_before_the_write_what_was_acknowledged_gets_lost(seed, monkeypatch):
    monkeypatch.setattr(Disk, "awaited", lambda disk, promise: disk.event("a wait for nothing"))
    wrong = found(seed(2), "simulation of a lying disk")
    assert any("a body began whose Running is not on record" in said for said in wrong)


def test_control_where_a_crash_leaves_a_suffix_history_is_illegal(seed, monkeypatch):
    def drops(disk, count):
        if disk.queue and not count:
            disk.queue.pop(0).done = True  # the first of it is lost, and not the last
            count = len(disk.queue)
        for promise in disk.queue[:count]:
            promise.settle()
        del disk.queue[:count]

    monkeypatch.setattr(Disk, "write", drops)
    assert found(seed(2), "simulation of a disk with holes")

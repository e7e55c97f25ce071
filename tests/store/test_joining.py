"""Entries that join an append which waits: they share its fate, and stand in the log as if they had been appended one by one."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.errors import Conflict, Fenced
from pluperfect.records import open_record
from pluperfect.states import PLAIN, Completed, Packed, Running
from pluperfect_store.conformance import born, new_id, part, whole
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.writer import Writer

FOR_EVER = 3_600.0  # seconds: nothing is written that nobody waits for
LARGE = Packed(PLAIN, b"\xc4\xff" + bytes(255))
TOO_LARGE = Packed(PLAIN, b"\xc5\x7f\xff" + bytes(32_767))


@pytest.fixture
def log(tmp_path):
    log = LmdbLog(tmp_path / "runs")
    yield log
    log.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    log = LmdbLog(tmp_path_factory.mktemp("joining") / "runs")
    yield log
    assert log.verify().sound
    log.close()


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # which run goes on: the root, or one beneath it
        st.sampled_from([0] * 12 + [-1, 1]),  # how far from its end
        st.integers(1, 3),  # with how many entries
        st.sampled_from([True] * 5 + [False]),  # whether it tries to join
    ),
    max_size=30,
)


@given(steps=STEPS)
def test_what_joins_an_append_stands_as_if_it_followed_it_or_falls_with_it(shared, steps):
    runs = [new_id() for _ in range(4)]
    root, start = runs[0], shared.position()
    asked = dict.fromkeys(runs, 0)  # how many entries each will have, if all goes well
    groups, tickets = [], []
    for which, shift, count, joins in [(0, 0, 1, False), *steps]:
        run = runs[which]
        expected = max(asked[run] + shift, 0)
        above = None if run == root else root
        states = [Running()] * count if expected else [born(run, above), *[Running()] * (count - 1)]
        more = part(run, above, expected, *states)
        if joins and tickets[-1].extend(more):
            groups[-1].append(more)
        else:
            tickets.append(shared.append([more], epoch=1, hold=FOR_EVER))
            groups.append([more])
        asked[run] = max(asked[run], expected + count)
    shared.flush()

    there, wanted = dict.fromkeys(runs, 0), []
    for group, ticket in zip(groups, tickets, strict=True):
        after, brings = dict(there), []
        rooted = there[root] or any(more.run == root for more in group)
        for more in group:
            if rooted and after[more.run] == more.expected:
                after[more.run] += len(more.entries)
                brings += [(more.run, entry.seq) for entry in more.entries]
            else:
                after = None
                break
        if after is None:
            with pytest.raises(Conflict):
                ticket.wait()
        else:
            ticket.wait()
            there, wanted = after, wanted + brings
    found = [open_record(data) for _, data in shared.feed(start, 1_000)]
    assert [(record.run, record.seq) for record in found] == wanted


def test_what_joins_goes_on_with_a_run_where_the_append_leaves_it(log):
    root, child, older = new_id(), new_id(), new_id()
    log.append([part(root, None, 0, born(root)), part(older, root, 0, born(older, root))], epoch=1).wait()
    ticket = log.append([part(child, root, 0, born(child, root))], epoch=1, hold=FOR_EVER)

    assert ticket.extend(part(root, None, 1, Running()))
    assert ticket.extend(part(older, root, 1, Running()))
    assert ticket.extend(part(child, root, 1, Running()))
    assert not ticket.extend(part(child, root, 1, Running()))
    assert not ticket.extend(part(root, None, 3, Running()))
    assert not ticket.extend(part(older, root, 0, born(older, root)))
    assert ticket.extend(part(child, root, 2, Completed(data=LARGE)))
    assert ticket.extend(part(root, None, 2, Completed(data=LARGE)))
    log.flush()

    found = [open_record(data) for _, data in log.feed(2)]
    assert [record.run for record in found] == [child, root, older, child, child, root]
    assert [log.head(run).state for run in (root, older, child)] == [Completed.code, Running.code, Completed.code]
    assert log.verify().sound


def test_nothing_joins_an_append_of_another_tree_or_one_that_is_not_the_last(log):
    root, child = new_id(), new_id()
    log.append([part(root, None, 0, born(root))], epoch=1).wait()
    ticket = log.append([part(child, root, 0, born(child, root))], epoch=1, hold=FOR_EVER)

    assert not ticket.extend(whole(new_id()))
    log.append([part(root, None, 1, Running())], epoch=1, hold=FOR_EVER)
    assert not ticket.extend(part(child, root, 1, Running()))
    assert not ticket.extend(whole(new_id(), root))
    log.flush()
    assert log.position() == 3


def test_a_tree_is_claimed_by_itself(log):
    root, child = new_id(), new_id()
    ticket = log.append([part(root, None, 0, born(root))], epoch=1, hold=FOR_EVER, claim=True)

    assert not ticket.extend(part(child, root, 0, born(child, root)))
    assert ticket.extend(part(root, None, 1, Running()))
    log.flush()
    assert log.position() == 2


def test_a_value_that_is_too_large_for_its_row_goes_its_own_way(log):
    root, child = new_id(), new_id()
    log.append([part(root, None, 0, born(root))], epoch=1).wait()
    ticket = log.append([part(child, root, 0, born(child, root), Running())], epoch=1, hold=FOR_EVER)

    last = part(child, root, 2, Completed(data=TOO_LARGE))
    assert not ticket.extend(last)
    alone = log.append([last], epoch=1, hold=FOR_EVER)
    assert alone.extend(part(root, None, 1, Running()))
    log.flush()
    assert log.verify().sound
    assert log.position() == 5


def test_what_cannot_be_recorded_is_told_at_once_and_changes_nothing(log):
    root, child = new_id(), new_id()
    log.append([part(root, None, 0, born(root))], epoch=1).wait()
    ticket = log.append([part(root, None, 1, Running())], epoch=1, hold=FOR_EVER)

    with pytest.raises(ValueError, match="born under root"):
        ticket.extend(part(child, root, 0, born(child, new_id())))
    with pytest.raises(ValueError, match="16 bytes"):
        ticket.extend(part(b"short", root, 0, born(child, root)))
    assert ticket.extend(part(child, root, 0, born(child, root)))
    log.flush()
    assert log.position() == 3


def test_whoever_lost_his_tree_records_nothing_of_what_joined(log):
    root, child, sibling = new_id(), new_id(), new_id()
    log.append([part(root, None, 0, born(root))], epoch=1).wait()
    log.append([part(root, None, 1, Running())], epoch=2).wait()  # whoever has the next term
    ticket = log.append([part(child, root, 0, born(child, root))], epoch=1, hold=FOR_EVER)
    assert ticket.extend(whole(sibling, root))
    log.flush()

    with pytest.raises(Fenced):
        ticket.wait()
    assert log.records(child) == log.records(sibling) == []


def test_what_joins_one_append_is_bounded_by_its_size(log):
    root = new_id()
    log.append([part(root, None, 0, born(root))], epoch=1).wait()
    ticket = log.append([whole(new_id(), root)], epoch=1, hold=FOR_EVER)
    joined = sum(1 for _ in range(1_000) if ticket.extend(whole(new_id(), root)))

    assert 10 < joined < 200
    log.flush()
    assert log.position() == 1 + 3 * (joined + 1)


def amid(code, nth, act):
    """From now on, do this once, before the nth line of this code: as a handler of a signal may."""
    lines = itertools.count(1)

    def look(frame, event, _):
        if frame.f_code is not code:
            return None
        if event == "line" and next(lines) == nth:
            sys.settrace(None)
            act()
        return look

    sys.settrace(look)


@pytest.mark.parametrize("already", [0, 2])
def test_a_handler_of_a_signal_that_joins_amid_one_who_joins_takes_nothing_from_him(log, already):
    root, told, nth = new_id(), [], 0
    log.append([part(root, None, 0, born(root))], epoch=1).wait()
    while nth == len(told):
        ticket, one, other = log.append([whole(new_id(), root)], epoch=1, hold=FOR_EVER), new_id(), new_id()
        assert all(ticket.extend(whole(new_id(), root)) for _ in range(already))
        nth += 1
        amid(Writer.extend.__code__, nth, lambda: told.append(ticket.extend(whole(other, root))))  # noqa: B023
        try:
            joined = ticket.extend(whole(one, root, key=one.hex()))
        finally:
            sys.settrace(None)
        log.flush()
        assert len(log.records(one)) == 3 * joined
        assert len(log.records(other)) == 3 * (nth == len(told) and told[-1])
    assert nth > 15
    assert set(told) == {True}
    assert log.verify().sound

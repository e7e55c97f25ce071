"""
What every log promises, as tests. The author of a store subclasses `LogConformance` and gives one fixture::

    class TestMyLog(LogConformance):
        @pytest.fixture
        def log(self, tmp_path):
            log = MyLog(tmp_path / "runs")
            yield log
            log.close()

        @pytest.fixture
        def reopen(self):  # optional, for a log that outlives its process
            return lambda log: MyLog(log.path)

Each test begins with the number of its promise in ``specs/store.md``. ``reopen`` is given a log that was
closed, and returns it opened again. One module, although a long one: a suite is subclassed by one name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from pluperfect.errors import Conflict, Fenced, ImportRefused, RedactedValue, StoreClosed, UnknownRun
from pluperfect.evidence import Checkpoint, consistent
from pluperfect.hooks import Log, Parcel, Part
from pluperfect.records import GENESIS, decode, encode, leaf, open_record
from pluperfect.states import (
    ABSENT,
    PLAIN,
    Completed,
    Failed,
    Packed,
    Pending,
    Retrying,
    Running,
    Spec,
    State,
)
from pluperfect.transitions import NO_FACTS, Entry, Facts, Ruling, Transition

__all__ = ["AT", "LogConformance", "born", "new_id", "part", "whole"]

AT = 1_800_000_000.0
"""When everything in these tests happens, UTC seconds since the epoch."""

FIVE = Packed(PLAIN, b"\x05")
LONG = 20.0  # seconds after which something that should have happened at once has not happened


def new_id() -> bytes:
    """A run id that no other run has."""
    return os.urandom(16)


def born(
    run: bytes,
    root: bytes | None = None,
    parent: bytes | None = None,
    *,
    name: str = "fetch",
    tags: Iterable[str] = (),
    due: float | None = None,
) -> Pending:
    """The first state of a run; ``root`` is left out for a root."""
    kind = "flow" if root is None else "task"
    spec = Spec(
        kind, name, f"{name}-0001", f"{name}-0", root or run, root if parent is None else parent, tags=tuple(tags)
    )
    return Pending(spec=spec, due=due)


def part(run: bytes, root: bytes | None, expected: int, *states: State | Entry, facts: Facts = NO_FACTS) -> Part:
    """A part that continues version ``expected`` with transitions to these states; ``facts`` go to the last."""
    entries: list[Entry] = []
    for seq, state in enumerate(states, expected + 1):
        if isinstance(state, State):
            entries.append(Transition(seq, AT + seq, state, facts=facts if seq == expected + len(states) else NO_FACTS))
        else:
            entries.append(state)
    return Part(run, root or run, expected, tuple(entries))


def whole(run: bytes, root: bytes | None = None, *, key: str | None = None, **given: Any) -> Part:
    """A part that tells a run from its birth to its completion; ``given`` as for `born`."""
    return part(run, root, 0, born(run, root, **given), Running(), Completed(data=FIVE), facts=Facts(key=key))


def everything(log: Log, runs: Sequence[bytes], keys: Sequence[str] = ()) -> dict[str, Any]:
    """All that a log answers about these runs, to be compared with what it or another log answers later."""
    return {
        "heads": [log.head(run) for run in runs],
        "records": [log.records(run) for run in runs],
        "children": [log.children(run) for run in runs],
        "lists": [[*log.find()], [*log.find(roots=True)], *([*log.find(state=code)] for code in range(1, 9))],
        "due": log.due(AT * 2),
        "feed": log.feed(0, 10_000),
        "cached": [log.cached(key, AT) for key in keys],
        "position": log.position(),
    }


class LogConformance:
    """The promises of a log. Subclass it and give the fixture ``log``: a fresh, empty log."""

    @pytest.fixture
    def reopen(self) -> Callable[[Any], Log] | None:
        """Override this for a log that can be opened again after it was closed."""
        return None

    # --- appending

    def test_an_append_is_recorded_whole(self, log: Log) -> None:
        """1. All parts of an append are recorded, in the order given."""
        root, child = new_id(), new_id()
        log.append([whole(root), whole(child, root)], epoch=1).wait()

        assert [seq for _, seq in self._order(log)] == [1, 2, 3, 1, 2, 3]
        assert [run for run, _ in self._order(log)] == [root] * 3 + [child] * 3

    @staticmethod
    def _order(log: Log) -> list[tuple[bytes, int]]:
        return [(record.run, record.seq) for record in (open_record(data) for _, data in log.feed())]

    def test_a_refused_append_leaves_no_trace_of_any_part(self, log: Log) -> None:
        """1. Where one part is refused, nothing of the others is written."""
        root, child = new_id(), new_id()
        log.append([whole(root)], epoch=1).wait()
        before = everything(log, [root, child])
        refused = log.append([whole(child, root), part(root, None, 1, Running())], epoch=1)

        with pytest.raises(Conflict):
            refused.wait()
        assert everything(log, [root, child]) == before
        assert log.compare() == []

    def test_a_stale_version_is_a_conflict_that_says_what_happened_since(self, log: Log) -> None:
        """2. An append that expects another version raises Conflict with both versions and the entries since."""
        run = new_id()
        log.append([part(run, None, 0, born(run))], epoch=1).wait()
        log.append([part(run, None, 1, Running(), Completed(data=FIVE))], epoch=1).wait()

        with pytest.raises(Conflict, match="2 Running, 3 Completed") as caught:
            log.append([part(run, None, 1, Running())], epoch=1).wait()
        assert not isinstance(caught.value, Fenced)
        assert (caught.value.run, caught.value.expected, caught.value.actual) == (run.hex(), 1, 3)

    def test_a_version_that_is_not_there_yet_is_a_conflict(self, log: Log) -> None:
        """2. An append that builds on entries which were never recorded raises Conflict."""
        run = new_id()

        with pytest.raises(Conflict) as caught:
            log.append([part(run, None, 2, Running())], epoch=1).wait()
        assert (caught.value.expected, caught.value.actual) == (2, 0)
        assert log.head(run) is None

    def test_of_two_writers_with_one_version_exactly_one_is_recorded(self, log: Log) -> None:
        """3. However many threads append to one version at once, one succeeds and all others get Conflict."""
        run = new_id()
        log.append([part(run, None, 0, born(run))], epoch=1).wait()
        ready = threading.Barrier(8)
        outcomes: list[str] = []

        def compete() -> None:
            ready.wait()
            try:
                log.append([part(run, None, 1, Running())], epoch=1).wait()
                outcomes.append("recorded")
            except Conflict:
                outcomes.append("conflict")

        self._together(compete, 8)

        assert sorted(outcomes) == ["conflict"] * 7 + ["recorded"]
        assert len(log.records(run)) == 2

    @staticmethod
    def _together(work: Callable[[], None], times: int) -> None:
        threads = [threading.Thread(target=work) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert not any(thread.is_alive() for thread in threads)

    def test_a_lower_term_is_fenced_for_the_whole_tree(self, log: Log) -> None:
        """4. A term that any run of the tree has outgrown is refused for every run of the tree."""
        root, child, other = new_id(), new_id(), new_id()
        log.append([part(root, None, 0, born(root))], epoch=1).wait()
        log.append([part(child, root, 0, born(child, root))], epoch=3).wait()

        for stale in (part(root, None, 1, Running()), part(child, root, 1, Running()), whole(other, root)):
            with pytest.raises(Fenced) as caught:
                log.append([stale], epoch=2).wait()
            assert caught.value.actual == 3
        head = log.head(root)
        assert head is not None
        assert head.epoch == 3
        assert log.compare() == []

    def test_a_lower_term_is_fenced_in_the_batch_of_the_higher_one(self, log: Log) -> None:
        """4. The same where both wait to be written at once."""
        root, child, other = new_id(), new_id(), new_id()
        log.append([part(root, None, 0, born(root)), part(child, root, 0, born(child, root))], epoch=1).wait()
        first = log.append([part(child, root, 1, Running())], epoch=3, hold=60.0)
        stale = [
            log.append([one], epoch=2, hold=60.0) for one in (part(child, root, 2, Completed()), whole(other, root))
        ]
        last = log.append([part(child, root, 2, Completed())], epoch=3, hold=60.0)
        log.flush()

        first.wait()
        last.wait()
        for ticket in stale:
            with pytest.raises(Fenced):
                ticket.wait()
        assert log.records(other) == []

    def test_the_same_or_a_higher_term_may_write(self, log: Log) -> None:
        """4. The term that was seen last goes on, a higher one takes over, and other trees do not care."""
        root, other = new_id(), new_id()
        log.append([part(root, None, 0, born(root))], epoch=5).wait()
        log.append([part(root, None, 1, Running())], epoch=5).wait()
        log.append([part(root, None, 2, Completed(data=FIVE))], epoch=9).wait()
        log.append([whole(other)], epoch=1).wait()

        assert [open_record(data).epoch for data in log.records(root)] == [5, 5, 9]

    def test_a_root_that_somebody_else_has_taken_is_not_born_by_the_one_before(self, log: Log) -> None:
        """4. A claim counts from the moment it is made, also where the root is not born yet."""
        root = new_id()
        first, second = log.claim(root, AT), log.claim(root, AT)

        with pytest.raises(Fenced) as caught:
            log.append([part(root, None, 0, born(root))], epoch=first).wait()
        assert caught.value.actual == second
        assert log.head(root) is None
        log.append([part(root, None, 0, born(root))], epoch=second).wait()
        assert log.compare() == []

    def test_a_run_without_its_root_is_refused(self, log: Log) -> None:
        """5. A run is recorded only where its root is in the log, or is born in the same append."""
        root, child = new_id(), new_id()

        with pytest.raises(Conflict, match="root"):
            log.append([whole(child, root)], epoch=1).wait()
        log.append([whole(child, root), whole(root)], epoch=1).wait()
        assert log.children(root) == [child]
        assert log.compare() == []

    def test_parts_that_contradict_themselves_are_errors_of_the_caller(self, log: Log) -> None:
        """6. What can be seen to be wrong raises ValueError in append(), and nothing is written."""
        run, other = new_id(), new_id()
        wrong = [
            [],
            [part(run, None, 0)],
            [whole(run), whole(run)],
            [part(b"short", None, 0, born(run))],
            [part(run, None, 0, Transition(2, AT, born(run)))],
            [part(run, None, 1, Running(), Transition(4, AT, Running()))],
            [part(run, other, 0, born(run))],
        ]
        for parts in wrong:
            with pytest.raises(ValueError, match=r"\w"):
                log.append(parts, epoch=1)
        assert log.position() == 0

    def test_another_root_than_that_of_the_birth_is_refused(self, log: Log) -> None:
        """6. Nobody escapes the term of a tree by naming another root."""
        root, child, other = new_id(), new_id(), new_id()
        log.append([whole(root), part(child, root, 0, born(child, root)), whole(other)], epoch=1).wait()

        with pytest.raises(ValueError, match="born under root"):
            log.append([part(child, other, 1, Running())], epoch=1).wait()
        assert len(log.records(child)) == 1

    def test_what_cannot_be_written_raises_in_append(self, log: Log) -> None:
        """7. An entry that cannot be encoded, or not be decoded again, raises in the caller's thread."""
        run = new_id()
        unreadable: Any = "five"
        for bad in (Completed(data=object()), Completed(data=2**70), Running(attempt=unreadable)):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                log.append([part(run, None, 0, born(run), Running(), bad)], epoch=1)
        assert log.position() == 0

    @pytest.mark.parametrize("at", [1e30, float("nan"), float("-inf"), 10**30, None, "noon", True])
    def test_a_time_that_no_record_can_hold_raises_in_append(self, log: Log, at: Any) -> None:
        """7. Nothing of the append is written, and others go on."""
        run = new_id()
        first = part(run, None, 0, born(run)).entries
        with pytest.raises(ValueError, match="time"):
            log.append([whole(new_id()), Part(run, run, 0, (*first, Transition(2, at, Running())))], epoch=1)

        log.append([Part(run, run, 0, first)], epoch=1).wait()
        assert log.position() == 1

    def test_a_log_does_not_judge(self, log: Log) -> None:
        """8. The table of states is the rules' business: what is appended is recorded."""
        run = new_id()
        states = [Completed(data=FIVE), born(run), Failed(), Running()]
        log.append([part(run, None, 0, *states)], epoch=1).wait()

        assert [getattr(decode(data), "to", None) for data in log.records(run)] == states
        assert log.compare() == []

    # --- records

    def test_records_are_gapless_chained_and_what_was_appended(self, log: Log) -> None:
        """9. The entries of a run are numbered from 1, bound by hashes, of the append's term, and unaltered."""
        run = new_id()
        appended = [*whole(run).entries, Ruling(4, AT + 4, Running(), "no-fridays", "it is Friday", None)]
        log.append([Part(run, run, 0, tuple(appended[:2]))], epoch=2).wait()
        log.append([Part(run, run, 2, tuple(appended[2:]))], epoch=2).wait()
        prev = GENESIS
        found: list[Entry | None] = []
        for seq, data in enumerate(log.records(run), 1):
            record = open_record(data)
            assert (record.run, record.seq, record.epoch, record.prev) == (run, seq, 2, prev)
            prev = leaf(data)
            found.append(decode(data))

        assert [str(entry) for entry in found] == [str(entry) for entry in appended]
        assert [entry.to for entry in found if entry is not None] == [entry.to for entry in appended]

    def test_a_range_of_records_can_be_read(self, log: Log) -> None:
        """9. records(run, after, upto) are those with after < seq <= upto; of an unknown run there are none."""
        run = new_id()
        log.append([whole(run)], epoch=1).wait()
        records = log.records(run)

        assert len(records) == 3
        for after in range(-1, 5):
            for upto in [*range(5), None]:
                last = 3 if upto is None else upto
                assert log.records(run, after, upto) == records[max(after, 0) : max(last, 0)]
        assert log.records(new_id()) == []
        assert log.records(b"") == []

    def test_positions_have_no_gaps(self, log: Log) -> None:
        """10. Records stand at positions 1, 2, 3 ... in the order of their commits, and feed() gives each once."""
        runs = [new_id() for _ in range(5)]
        assert (log.position(), log.feed(), log.record_at(1)) == (0, [], None)
        for run in runs:
            log.append([whole(run)], epoch=1)
        log.flush()
        fed = log.feed()

        assert [position for position, _ in fed] == [*range(1, 16)]
        assert [open_record(data).run for _, data in fed] == [run for run in runs for _ in range(3)]
        assert [log.record_at(position) for position, _ in fed] == [data for _, data in fed]
        assert log.position() == 15
        pages = [log.feed(after, 4) for after in range(0, 16, 4)]
        assert [row for page in pages for row in page] == fed
        assert log.feed(15) == log.feed(99) == []
        assert log.record_at(0) is log.record_at(16) is None

    # --- tickets

    def test_a_ticket_that_was_waited_for_is_committed(self, log: Log) -> None:
        """11. When wait() returns, the ticket is done and everybody sees the entries; waiting again does nothing."""
        run = new_id()
        ticket = log.append([whole(run)], epoch=1, hold=30.0)
        ticket.wait(LONG)

        assert ticket.done
        assert len(log.records(run)) == 3
        ticket.wait(0)

    def test_a_callback_is_called_once(self, log: Log) -> None:
        """11. notify() calls once, whether the append is done already or not, committed or refused."""
        run = new_id()
        called: list[str] = []
        done = threading.Event()
        good = log.append([whole(run)], epoch=1, hold=30.0)
        bad = log.append([whole(run)], epoch=1, hold=30.0)
        good.notify(lambda: called.append("good"))
        bad.notify(lambda: called.append("bad"))
        bad.notify(done.set)
        assert done.wait(LONG)
        good.notify(lambda: called.append("late"))

        assert called == ["good", "bad", "late"]

    def test_an_append_that_goes_on_is_one(self, log: Log) -> None:
        """11. An append that waits may take more entries of its run: then both are recorded or neither; else nothing changed."""
        runs = [new_id() for _ in range(20)]
        for number, run in enumerate(runs):
            ticket = log.append([part(run, None, 0, born(run))], epoch=1, hold=60.0)
            more = part(run, None, 1, Running(), Completed(data=FIVE))
            if number % 3 == 0:
                log.append([whole(new_id())], epoch=1, hold=60.0)
            if not ticket.extend(more):
                log.append([more], epoch=1, hold=60.0)
            assert not ticket.extend(part(run, None, 9, Running()))
            assert not ticket.extend(whole(new_id()))
        twice = log.append([whole(runs[0])], epoch=1, hold=60.0)
        twice.extend(part(runs[0], None, 3, Running()))
        log.flush()

        assert [len(log.records(run)) for run in runs] == [3] * 20
        with pytest.raises(Conflict):
            twice.wait()
        assert not twice.extend(part(runs[0], None, 6, Running()))

    def test_an_append_may_go_on_with_whatever_follows_in_its_tree(self, log: Log) -> None:
        """11. An append that waits may take more entries of its tree: then all are recorded, in this order, or none."""
        root, runs = new_id(), [new_id() for _ in range(10)]
        log.append([part(root, None, 0, born(root))], epoch=1).wait()
        wanted: list[tuple[bytes, int]] = [(root, 1)]
        ticket = log.append([part(root, None, 1, Running())], epoch=1, hold=60.0)
        wanted.append((root, 2))
        for expected, states in enumerate(((None,), (Running(),), (Completed(data=FIVE),))):
            for number, run in enumerate(runs):
                more = part(run, root, expected, *(state or born(run, root) for state in states))
                if number % 7 == 5 or not ticket.extend(more):
                    ticket = log.append([more], epoch=1, hold=60.0)
                wanted.append((run, expected + 1))
                assert not ticket.extend(more)  # it is there already
                assert not ticket.extend(part(run, root, expected + 2, Running()))  # a gap
                assert not ticket.extend(whole(new_id()))  # another tree
        log.flush()

        assert self._order(log) == wanted

        first, other = runs[0], new_id()
        refused = log.append([whole(first, root)], epoch=1, hold=60.0)
        joined = refused.extend(whole(other, root))
        log.flush()
        with pytest.raises(Conflict):
            refused.wait()
        assert not joined or log.records(other) == []

    def test_a_refused_append_fails_alone(self, log: Log) -> None:
        """12. Around an append that is refused, all others are recorded, in their order."""
        first, second = new_id(), new_id()
        tickets = [
            log.append([part(first, None, 0, born(first))], epoch=1),
            log.append([part(first, None, 0, born(first))], epoch=1),
            log.append([part(first, None, 1, Running())], epoch=1),
            log.append([whole(second)], epoch=1),
        ]
        log.flush()

        assert all(ticket.done for ticket in tickets)
        for good in (tickets[0], tickets[2], tickets[3]):
            good.wait()
        with pytest.raises(Conflict):
            tickets[1].wait()
        assert [open_record(data).run for _, data in log.feed()] == [first] * 2 + [second] * 3

    def test_a_birth_of_a_run_that_is_there_is_refused_wherever_it_stands_among_others(self, log: Log) -> None:
        """2. Of many births of one tree that nobody waits for, with ids side by side, those are recorded that are not there yet."""
        root = new_id()
        runs = [root[:6] + bytes(9) + bytes([number]) for number in range(60)]
        there = {run for run in runs if os.urandom(1)[0] < 100}
        log.append([whole(root)], epoch=1)
        for run in there:
            log.append([whole(run, root)], epoch=1).wait()
        asked = [*runs, *sorted(runs, key=lambda _: os.urandom(2))]
        tickets = [(run, log.append([whole(run, root)], epoch=1, hold=30.0)) for run in asked]
        log.flush()

        for run, ticket in tickets:
            if run in there:
                with pytest.raises(Conflict):
                    ticket.wait()
            else:
                ticket.wait()
                there.add(run)
        assert [len(log.records(run)) for run in runs] == [3] * len(runs)

    def test_after_a_flush_everything_is_there(self, log: Log) -> None:
        """13. flush() returns when all that this process appended before is committed, however long its hold."""
        runs = [new_id() for _ in range(50)]
        for run in runs:
            log.append([whole(run)], epoch=1, hold=30.0)
        log.flush()

        assert [*log.find()] == runs[::-1]

    def test_what_nobody_waits_for_is_committed_within_its_hold(self, log: Log) -> None:
        """14. An append that nobody waits for is committed when its hold is over, without any further call."""
        run = new_id()
        log.append([whole(run)], epoch=1, hold=0.05)

        assert log.await_position(2, LONG)
        assert len(log.records(run)) == 3

    def test_appends_of_many_threads_are_all_there(self, log: Log) -> None:
        """12. Runs that threads append to at the same time are all recorded, each in its own order."""

        def live() -> None:
            run = new_id()
            for seq, state in enumerate((born(run), Running(), Completed(data=FIVE))):
                log.append([part(run, None, seq, state)], epoch=1).wait()

        self._together(live, 16)

        assert log.position() == 48
        assert len([*log.find(state=Completed.code)]) == 16
        assert log.compare() == []

    # --- views

    def test_the_head_says_what_the_records_say(self, log: Log) -> None:
        """15. A head holds version, positions, state, hash, root, outcome, term and due time as they follow from the log."""
        root, child = new_id(), new_id()
        assert log.head(root) is None
        log.append([part(root, None, 0, born(root, due=AT + 60))], epoch=1).wait()
        waiting = log.head(root)
        log.append([whole(child, root), part(root, None, 1, Running())], epoch=2).wait()
        ended, running = log.head(child), log.head(root)
        assert waiting is not None
        assert ended is not None
        assert running is not None

        assert (waiting.seq, waiting.position, waiting.born, waiting.state) == (1, 1, 1, Pending.code)
        assert (waiting.root, waiting.outcome, waiting.epoch, waiting.due) == (None, 0, 1, (AT + 60) * 1000)
        assert (ended.seq, ended.position, ended.born, ended.state) == (3, 4, 2, Completed.code)
        assert (ended.root, ended.outcome, ended.epoch, ended.due) == (root, 4, 0, 0)
        assert (running.seq, running.position, running.born, running.state) == (2, 5, 1, Running.code)
        assert (running.outcome, running.epoch, running.due) == (0, 2, 0)
        assert running.leaf == leaf(log.records(root)[-1])

    def test_children_come_in_call_order(self, log: Log) -> None:
        """16. children() are the runs that name this one as their parent, in the order of their births."""
        root = new_id()
        first, second, below = sorted((new_id(), new_id(), new_id()), reverse=True)
        log.append([whole(root)], epoch=1).wait()
        for run, parent in ((first, root), (second, root), (below, first)):
            log.append([whole(run, root, parent=parent)], epoch=1).wait()

        assert log.children(root) == [first, second]
        assert log.children(first) == [below]
        assert log.children(second) == log.children(new_id()) == []

    def test_the_runs_that_one_called_are_read_in_call_order_some_at_a_time(self, log: Log) -> None:
        """16. called() gives the records of children(), as placed() does, from those born behind a position on."""
        root, other = new_id(), new_id()
        runs = sorted((new_id() for _ in range(5)), reverse=True)
        log.append([whole(root), whole(other)], epoch=1).wait()
        for run in runs:
            log.append([part(run, root, 0, born(run, root, parent=root))], epoch=1).wait()
            log.append([whole(new_id(), other, parent=other)], epoch=1).wait()
        for run in runs:
            log.append([part(run, root, 1, Running())], epoch=1).wait()

        everything = [(placed[0][0], placed) for placed in map(log.placed, runs)]
        assert log.called(root) == everything
        assert log.called(root, limit=2) == everything[:2]
        assert log.called(root, everything[1][0], 2) == everything[2:4]
        assert log.called(root, everything[3][0] - 1) == everything[3:]
        assert log.called(root, everything[4][0]) == log.called(new_id()) == log.called(root, limit=0) == []

    def test_what_is_beneath_a_run_comes_in_the_order_of_the_log(self, log: Log) -> None:
        """16. beneath() gives the records of a run and of all that children() lead to from it, in the order of the log."""
        root, other = new_id(), new_id()
        alike = [root[:6] + new_id()[6:] for _ in range(3)]  # ids of one tree mostly begin alike; they need not
        tree = {alike[0]: root, alike[1]: alike[0], new_id(): alike[1], alike[2]: root, new_id(): root}
        log.append([whole(root)], epoch=1).wait()
        log.append([whole(other)], epoch=1).wait()
        log.append([whole(root[:6] + new_id()[6:])], epoch=1).wait()  # of another tree
        for run, parent in tree.items():
            log.append([part(run, root, 0, born(run, root, parent=parent))], epoch=1).wait()
        for run in reversed([*tree]):
            log.append([part(run, root, 1, Running())], epoch=1).wait()

        assert log.beneath(root) == sorted(row for run in (root, *tree) for row in log.placed(run))
        below = [alike[0], *[run for run, parent in tree.items() if parent in alike]]
        assert log.beneath(alike[0]) == sorted(row for run in below for row in log.placed(run))
        assert log.beneath(other) == log.placed(other)
        assert log.beneath(new_id()) == []

    def test_lists_are_exact_and_the_youngest_comes_first(self, log: Log) -> None:
        """17. find() gives the runs that match all that is given, once each, the youngest first."""
        root = new_id()
        runs: list[tuple[bytes, int, str, tuple[str, ...], bool]] = [(root, 2, "main", ("a",), True)]
        log.append([part(root, None, 0, born(root, name="main", tags=("a",)), Running())], epoch=1).wait()
        for number in range(60):
            run, name, tags = new_id(), f"task{number % 3}", ("a", "b", "a")[: number % 4]
            child, ended = number % 5 > 0, number % 2 > 0
            first = born(run, root if child else None, name=name, tags=tags)
            states = (Running(), Completed(data=FIVE)) if ended else ()
            log.append([part(run, root if child else None, 0, first, *states)], epoch=1)
            runs.append((run, 6 if ended else 1, name, tags, not child))
        log.flush()

        for state in (None, 1, 2, 6, 7, 0, 300):
            for name in (None, "task1", "main", "task"):
                for tag in (None, "a", "b", "c"):
                    for roots in (False, True):
                        wanted = [
                            run
                            for run, code, called, tags, top in reversed(runs)
                            if state in (None, code)
                            and name in (None, called)
                            and (tag is None or tag in tags)
                            and (top or not roots)
                        ]
                        assert [*log.find(state=state, name=name, tag=tag, roots=roots)] == wanted

    def test_names_of_any_length_and_content_are_told_apart(self, log: Log) -> None:
        """17. Texts that are long, begin alike, or hold zero bytes or any other character are told apart."""
        names = [
            "",
            "a",
            "a\0",
            "a\0b",
            "a\0bcdefghi",
            "ab",
            "\xff",
            "語" * 80,
            "x" * 160,
            "x" * 161,
            "x" * 192,
            "x" * 5000,
            "x" * 4999 + "y",
        ]
        runs = [new_id() for _ in names]
        for run, name in zip(runs, names, strict=True):
            log.append([whole(run, name=name, tags=(name,))], epoch=1)
        log.flush()

        for run, name in zip(runs, names, strict=True):
            assert [*log.find(name=name)] == [*log.find(tag=name)] == [run]
        assert log.compare() == []

    def test_a_list_that_is_read_while_runs_move_has_no_run_twice(self, log: Log) -> None:
        """17. Runs that change their state while somebody reads a list appear at most once in it."""
        runs = [new_id() for _ in range(200)]
        for run in runs:
            log.append([part(run, None, 0, born(run))], epoch=1)
        log.flush()
        seen: list[bytes] = []
        for run in log.find():
            seen.append(run)
            if len(seen) % 20 == 1:
                for other in runs[len(seen) % 40 :: 40]:
                    head = log.head(other)
                    assert head is not None
                    log.append([part(other, None, head.seq, Running())], epoch=1)
                log.flush()

        assert seen == runs[::-1]

    def test_runs_are_found_by_the_beginning_of_their_id(self, log: Log) -> None:
        """18. matching() gives the runs whose id begins with these bytes, at most as many as asked for."""
        runs = sorted(bytes((number, 255)) + os.urandom(14) for number in (1, 1, 1, 255, 255))
        for run in runs:
            log.append([whole(run)], epoch=1)
        log.flush()

        assert log.matching(b"\x01") == runs[:3]
        assert log.matching(b"\x01", 2) == runs[:2]
        assert log.matching(b"\xff\xff") == runs[3:]
        assert log.matching(runs[1]) == [runs[1]]
        assert log.matching(b"") == runs
        assert log.matching(b"\x02") == []

    def test_runs_that_wait_for_a_time_are_listed_until_they_move_on(self, log: Log) -> None:
        """19. due() lists Pending, Retrying and delayed runs by their time, to the millisecond; moving on ends it."""
        runs = [new_id() for _ in range(4)]
        log.append([part(runs[0], None, 0, born(runs[0], due=AT + 3))], epoch=1)
        log.append([part(runs[1], None, 0, born(runs[1]), Running(), Retrying(due=AT + 1))], epoch=1)
        delayed = Ruling(2, AT, Running(), "no-fridays", "it is Friday", AT + 2)
        log.append([part(runs[2], None, 0, born(runs[2]), delayed)], epoch=1)
        log.append([part(runs[3], None, 0, born(runs[3]))], epoch=1)
        log.flush()

        everything = [(AT + 1, runs[1]), (AT + 2, runs[2]), (AT + 3, runs[0])]
        assert log.due(AT + 10) == everything
        for count in range(4):
            assert log.due(AT + count) == everything[:count]
        refused = Ruling(3, AT, Running(), "no-fridays", "it is still Friday", None)
        log.append([part(runs[2], None, 2, refused)], epoch=1).wait()
        assert log.due(AT + 10) == everything
        log.append([part(runs[2], None, 3, Running())], epoch=1).wait()
        log.append([part(runs[0], None, 1, Failed(cause="cancelled"))], epoch=1).wait()
        assert log.due(AT + 10) == everything[:1]

    @pytest.mark.parametrize("due", [0.0, -5.0, 1e-9, 1e300])
    def test_any_time_can_be_due(self, log: Log, due: float) -> None:
        """19. Times before the epoch are due at once, and times beyond all bounds never."""
        run = new_id()
        log.append([part(run, None, 0, born(run, due=due))], epoch=1).wait()

        assert [found for _, found in log.due(AT)] == ([run] if due < 1 else [])
        assert log.compare() == []

    # --- the cache index

    def test_a_completed_run_answers_its_key(self, log: Log) -> None:
        """20. cached() gives the last run that completed under a key with a result on record."""
        first, second, absent = new_id(), new_id(), new_id()
        log.append([whole(first, key="k")], epoch=1).wait()
        cell = log.cached("k", AT)
        assert cell is not None
        assert (cell.run, cell.seq, cell.expires) == (first, 3, None)
        log.append([whole(second, key="k")], epoch=1).wait()
        lost = part(
            absent, None, 0, born(absent), Running(), Completed(data=Packed(ABSENT, b"too large")), facts=Facts(key="k")
        )
        log.append([lost], epoch=1).wait()
        cell = log.cached("k", AT)

        assert cell is not None
        assert cell.run == second
        assert log.cached("other", AT) is None
        assert log.compare() == []

    def test_a_result_expires(self, log: Log) -> None:
        """20. A result answers until the time at which it expires, and no longer."""
        run = new_id()
        facts = Facts(key="k", expires=AT + 10)
        log.append([part(run, None, 0, born(run), Running(), Completed(data=FIVE), facts=facts)], epoch=1).wait()

        assert log.cached("k", AT + 9.999) is not None
        assert log.cached("k", AT + 10) is None

    def test_a_key_can_be_settled(self, log: Log) -> None:
        """21. settle_key() returns when this process's results under the key are committed, or refused."""
        run = new_id()
        log.append([whole(run, key="k")], epoch=1, hold=30.0)
        log.settle_key("k")
        assert log.cached("k", AT) is not None
        log.append([whole(run, key="k")], epoch=1, hold=30.0)  # refused

        log.settle_key("k")
        log.settle_key("never heard of")

    # --- watching

    def test_waiting_for_the_log_to_grow(self, log: Log) -> None:
        """22. await_position() returns True as soon as the log is longer, and False when the time is up."""
        run = new_id()
        assert log.await_position(0, 0.01) is False
        answers: list[bool] = []
        watcher = threading.Thread(target=lambda: answers.append(log.await_position(0, LONG)))
        watcher.start()
        log.append([whole(run)], epoch=1).wait()
        watcher.join(LONG)

        assert answers == [True]
        assert log.await_position(2, 0) is True
        assert log.await_position(3, 0) is False

    # --- the whole

    def test_views_can_be_projected_again(self, log: Log) -> None:
        """23. compare() is empty, and a rebuild reads every record and changes no answer."""
        runs = self._history(log)
        before = everything(log, runs, ["k"])

        assert log.compare() == []
        assert log.rebuild() == log.position()
        assert everything(log, runs, ["k"]) == before
        assert log.compare() == []

    @staticmethod
    def _history(log: Log) -> list[bytes]:
        root, child, waiting = new_id(), new_id(), new_id()
        log.append([part(root, None, 0, born(root, name="main", tags=("x",)), Running())], epoch=1)
        log.append([whole(child, root, key="k")], epoch=4)
        log.append([part(waiting, None, 0, born(waiting), Running(), Retrying(due=AT + 1))], epoch=1)
        log.flush()
        return [root, child, waiting]

    def test_a_log_that_is_opened_again_gives_the_same_answers(
        self, log: Log, reopen: Callable[[Any], Log] | None
    ) -> None:
        """24. Closing commits what is queued; opened again, the log answers as before and goes on."""
        if reopen is None:
            pytest.skip("this log ends with its process")
        runs = self._history(log)
        before = everything(log, runs, ["k"])
        late = new_id()
        log.append([whole(late)], epoch=1, hold=30.0)
        log.close()
        again = reopen(log)
        try:
            assert len(again.records(late)) == 3
            assert {**everything(again, runs, ["k"]), "lists": 0, "feed": 0, "position": 0} == {
                **before,
                "lists": 0,
                "feed": 0,
                "position": 0,
            }
            assert again.feed()[:-3] == before["feed"]
            again.append([part(runs[0], None, 2, Completed(data=FIVE))], epoch=4).wait()
            assert again.compare() == []
        finally:
            again.close()

    def test_a_closed_log_says_so(self, log: Log) -> None:
        """25. After close(), every call raises StoreClosed, but for close() itself."""
        run = new_id()
        log.append([whole(run)], epoch=1)
        log.close()
        log.close()

        calls: list[Callable[[], Any]] = [
            lambda: log.append([whole(new_id())], epoch=1),
            log.flush,
            lambda: log.head(run),
            lambda: log.records(run),
            lambda: [*log.find()],
            lambda: log.await_position(0, 0),
            log.compare,
            log.rebuild,
        ]
        for call in calls:
            with pytest.raises(StoreClosed):
                call()

    # --- evidence

    def test_a_log_that_was_only_appended_to_is_sound(self, log: Log) -> None:
        """48. Verification finds nothing, with a checkpoint of this log or without; it finds another one's."""
        root, child = new_id(), new_id()
        log.append([whole(root, key="k"), whole(child, root)], epoch=1).wait()
        point = Checkpoint.made(log.store_id, *log.tree(), AT)
        log.append([whole(new_id())], epoch=1).wait()
        report = log.verify(against=point)

        assert report.sound
        assert (report.records, report.runs, report.size, report.root) == (9, 3, *log.tree())
        assert log.verify(root).records == 3
        assert not log.verify(against=Checkpoint.made(bytes(16), 6, point.root, AT)).sound
        assert not log.verify(against=Checkpoint.made(log.store_id, 6, bytes(32), AT)).sound
        assert not log.verify(against=Checkpoint.made(log.store_id, 10, point.root, AT)).sound

    def test_every_run_is_proved_and_every_tree_begins_with_each_earlier_one(self, log: Log) -> None:
        """49. Proofs lead from the last record that a tree has of a run to its root."""
        runs = [new_id() for _ in range(100)]
        for run in runs:
            log.append([whole(run)], epoch=1)
        log.flush()
        for run in runs[::7]:
            for size in (256, 257, 300):
                born_at = log.placed(run)[0][0]
                if born_at > size:
                    with pytest.raises(UnknownRun):
                        log.prove(run, size)
                else:
                    proof = log.prove(run, size)
                    assert proof.holds
                    assert proof.leaf == leaf(log.records(run)[proof.seq - 1])
                    assert log.placed(run)[proof.seq - 1][0] == proof.position <= size
        for size in (1, 255, 256, 299):
            path = log.consistency(size)
            assert consistent(size, log.tree(size)[1], 300, log.tree()[1], path)
        for wrong in (-1, 301):
            with pytest.raises(IndexError):
                log.tree(wrong)

    def test_rows_of_another_store_come_in_byte_for_byte_or_not_at_all(self, log: Log) -> None:
        """50. What is here is left or extended; another history is refused, and nothing of its parcel comes in."""
        run, fresh, prev = new_id(), new_id(), GENESIS
        rows: list[bytes] = []
        for entry in whole(run, key="k").entries:
            rows.append(encode(run, entry, prev))
            prev = leaf(rows[-1])

        def parcel(*given: bytes) -> Parcel:
            return Parcel(bytes(16), given, {}, (), b"header", AT)

        assert log.admit(parcel(*rows[:2])).new == (run,)
        assert log.admit(parcel(*rows)).extended == (run,)
        before = log.position()
        assert log.admit(parcel(*rows)).left == (run,)
        other = encode(run, Transition(2, AT, Failed(cause="cancelled")), leaf(rows[0]))
        with pytest.raises(ImportRefused, match=run.hex()):
            log.admit(parcel(encode(fresh, whole(fresh).entries[0], GENESIS), rows[0], other))

        assert log.position() == before
        assert log.head(fresh) is None
        assert log.records(run) == rows
        head = log.head(run)
        assert head is not None
        assert head.imported
        assert log.cached("k", AT) is None
        assert log.verify().sound
        assert log.compare() == []

    def test_a_redacted_value_is_gone_and_all_else_is_still_proved(self, log: Log) -> None:
        """51. It goes on record; the leaf, and with it every proof, stays."""
        for size in (100, 5_000):
            run, value = new_id(), Packed(PLAIN, os.urandom(size))
            log.append([part(run, None, 0, born(run), Running(), Completed(data=value))], epoch=1).wait()
            proof = log.prove(run)
            gone = log.redact(run, [value.digest], everywhere=False, by="Ada", why="law", at=AT)
            entry = decode(log.records(run)[2], log.blob)

            assert gone.digests == (value.digest,)
            assert gone.taken == ((run, 3),)
            assert isinstance(entry, Transition)
            with pytest.raises(RedactedValue):
                entry.to.data.data  # type: ignore[attr-defined] # noqa: B018
            assert log.prove(run, proof.size) == proof
        report = log.verify()

        assert report.sound
        assert report.redacted == 2
        assert log.compare() == []

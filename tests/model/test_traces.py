"""What the model accepts as a trace, and what it refuses: histories written by hand."""

from __future__ import annotations

import pytest

from model import tlc, traces

pytestmark = pytest.mark.model


def acquire(p, epoch):
    return {"a": "acquire", "p": p, "epoch": epoch}


def append(p, epoch, r, seq, st, **more):
    return {"a": "append", "p": p, "epoch": epoch, "r": r, "seq": seq, "st": st, **more}


def user(p, r, n=1):
    return {"a": "user", "p": p, "r": r, "n": n}


def ack(p, r):
    return {"a": "ack", "p": p, "r": r}


def kill(p):
    return {"a": "kill", "p": p}


SYNC, POWER = {"a": "sync"}, {"a": "power"}

BORN = [acquire("a", 1), append("a", 1, 0, 1, "Pending"), append("a", 1, 0, 2, "Running"), SYNC, user("a", 0)]
CALLED = [*BORN, append("a", 1, 1, 1, "Pending"), append("a", 1, 1, 2, "Running"), SYNC, user("a", 1)]
ENDED = [*CALLED, append("a", 1, 1, 3, "Completed"), append("a", 1, 0, 3, "Completed"), SYNC, ack("a", 0)]
TAKEN = [
    acquire("b", 2),
    append("b", 2, 0, 3, "Retrying", why="interrupted"),
    append("b", 2, 0, 4, "Running"),
    SYNC,
    user("b", 0, 2),
    append("b", 2, 1, 3, "Retrying", why="interrupted"),
    append("b", 2, 1, 4, "Running"),
    SYNC,
    user("b", 1, 2),
    append("b", 2, 1, 5, "Completed"),
    append("b", 2, 0, 5, "Completed"),
    SYNC,
    ack("b", 0),
]


def without(steps, at):
    return [step for n, step in enumerate(steps) if n != at]


ACCEPTED = {
    "a run to its end": ENDED,
    "a takeover from a killed owner": [*CALLED, kill("a"), *TAKEN],
    "a takeover from an owner that lives": [*CALLED, *TAKEN],
    "a takeover after the power was lost": [*CALLED, append("a", 1, 1, 3, "Completed"), POWER, *TAKEN],
    "an outcome found by another process": [*ENDED, kill("a"), ack("b", 0)],
    "a call in doubt that may not be made again": [
        *CALLED,
        kill("a"),
        *TAKEN[:5],
        append("b", 2, 1, 3, "Failed", why="in_doubt"),
        append("b", 2, 0, 5, "Failed"),
        SYNC,
        ack("b", 0),
    ],
    "a retry, a loop, and an answer from the cache": [
        *CALLED,
        append("a", 1, 1, 3, "Retrying", why="body"),
        append("a", 1, 1, 4, "Running"),
        SYNC,
        user("a", 1, 2),
        append("a", 1, 1, 5, "Looped"),
        append("a", 1, 1, 6, "Running"),
        SYNC,
        user("a", 1, 3),
        append("a", 1, 1, 7, "TimedOut"),
        append("a", 1, 2, 1, "Pending"),
        append("a", 1, 2, 2, "Cached"),
        append("a", 1, 0, 3, "Failed"),
        SYNC,
        ack("a", 0),
        ack("a", 1),
    ],
    "two births, of which the second is refused": [acquire("b", 1), *ENDED],
    "an epoch of which nothing was written": [*CALLED, acquire("c", 2), kill("c"), acquire("b", 3)],
}

REFUSED = {
    "an append of a zombie": ([*CALLED, *TAKEN[:2], append("a", 1, 1, 3, "Completed")], 11),
    "a birth by a zombie, whose version is right": ([*BORN, *TAKEN[:2], append("a", 1, 1, 1, "Pending")], 7),
    "a body before its Running is synced": (without(CALLED, 7), 7),
    "the root's body before its Running is synced": (without(BORN, 3), 3),
    "a body whose Running is nowhere": ([*BORN, user("a", 1)], 5),
    "a body for the second time": ([*CALLED, user("a", 1)], 9),
    "the old attempt's body again, after a takeover": ([*CALLED, kill("a"), *TAKEN[:5], user("b", 1)], 15),
    "an answer before it is synced": (without(ENDED, 11), 11),
    "an answer before there is one": ([*CALLED, ack("a", 1)], 9),
    "a gap in seq": ([*BORN, append("a", 1, 1, 2, "Running")], 5),
    "a gap in the root's seq": ([*CALLED, append("a", 1, 1, 3, "Completed"), append("a", 1, 0, 4, "Completed")], 10),
    "a move without a row": ([*ENDED, append("a", 1, 0, 4, "Running")], 13),
    "an attempt after an attempt": ([*CALLED, kill("a"), acquire("b", 2), append("b", 2, 0, 3, "Running")], 11),
    "an outcome by who did not make the attempt": (
        [*CALLED, kill("a"), *TAKEN[:5], append("b", 2, 1, 3, "Completed", why="body")],
        15,
    ),
    "an epoch for the second time": ([*CALLED, kill("a"), acquire("b", 1)], 10),
    "an epoch that nobody has taken": ([*CALLED, append("a", 2, 1, 3, "Completed")], 9),
    "an append of a killed process": ([*CALLED, kill("a"), append("a", 1, 1, 3, "Completed")], 10),
    "what the power took": ([*CALLED, append("a", 1, 1, 3, "Completed"), POWER, *TAKEN[:5], ack("b", 1)], 16),
}


def test_traces_of_whole_takeovers_are_long_enough_to_mean_something():
    assert len([*CALLED, kill("a"), *TAKEN]) >= 13


def test_legal_traces_are_accepted(tmp_path):
    tlc.need()
    verdicts = traces.follow([*ACCEPTED.values()], tmp_path)

    assert dict(zip(ACCEPTED, verdicts, strict=True)) == dict.fromkeys(ACCEPTED, traces.Verdict(True))


def test_a_trace_is_refused_at_the_step_that_is_wrong(tmp_path):
    tlc.need()
    verdicts = traces.follow([steps for steps, _ in REFUSED.values()], tmp_path)

    assert dict(zip(REFUSED, verdicts, strict=True)) == {
        name: traces.Verdict(False, wrong, steps[wrong]) for name, (steps, wrong) in REFUSED.items()
    }


def test_a_step_that_lacks_something_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no step"):
        traces.follow([[{"a": "append", "p": "a"}]], tmp_path)

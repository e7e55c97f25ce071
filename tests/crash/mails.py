"""A process that sends letters, killed at random moments: forks of a child process that has all modules loaded already."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import smtplib
from email.message import EmailMessage
from pathlib import Path

import checkers
import pluperfect
from pluperfect import flow, task
from pluperfect.exceptions import InDoubt
from pluperfect.states import Running

from .children import forked

LETTERS = 6


class Post:
    """Where the letters go."""

    port = 0


@task(on_interrupt="fail")
def mail(name):
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = name, "me@example.org", "you@example.org"
    letter.set_content("Pay now.")
    with smtplib.SMTP("127.0.0.1", Post.port, timeout=30) as server:
        server.send_message(letter)
    return name


@flow
def letters(key):
    doubtful = []
    for number in range(LETTERS):
        try:
            mail(f"{key}/{number}")
        except InDoubt:
            doubtful.append(number)
    return doubtful


def sends(uri, key, ready, *, recovers):
    """Send the letters, or go on with sending them. Says when it begins."""
    with pluperfect.open(uri, entry_points=False) as log:
        os.write(ready, b".")
        if recovers:
            log.recover(limit=1000)
        letters.with_options(idempotency_key=key)(key)


def one_process(uri, key, delay, *, recovers):
    """Start a process, and kill it so long after it began; True where it had ended before."""
    (ready, is_ready), (over, is_over) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(over)
            sends(uri, key, is_ready, recovers=recovers)
            code = 0
        finally:
            os._exit(code)
    os.close(is_ready)
    os.close(is_over)
    assert os.read(ready, 1) == b".", "the sender fell over something else"
    select.select([over], [], [], delay)  # its end closes the pipe
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(ready)
    os.close(over)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def left(uri, before):
    """
    Look at what a killed process left; what was in doubt before has to be Failed by now, where a process went on to the end.

    Returns the letters that are in doubt, and of all ended ones the state and its cause.
    """
    with pluperfect.open(uri, entry_points=False) as log:
        checkers.check(log.log)
        doubtful, ended = {run.parameters["name"] for run in log.in_doubt()}, {}
        for run in log.runs(name="mail"):
            name, state = run.parameters["name"], run.state
            assert (name in doubtful) == isinstance(state, Running), (name, state)
            if state.is_final():
                ended[name] = getattr(state, "cause", "") or state.kind
        for name in before:
            assert name in doubtful or ended[name] == "in_doubt", (name, ended.get(name))
        return doubtful, ended


def rounds(place, port, seed, kills):
    """So many kills. Yields what became of each letter, and the letters that were ever in doubt. Runs in a child process."""
    logging.disable(logging.CRITICAL)
    Post.port = port
    chance, killed, keys, stores = random.Random(seed), 0, 0, 0
    states, ever, before = {}, set(), set()
    begun = False
    while killed < kills or before:
        # Each look is at a whole store: several, none of them long. Nobody but its own store knows what a key has sent.
        if not begun and killed >= stores * 10:
            stores += 1
        uri = f"lmdb:{Path(place) / f'{seed}-{stores}'}"
        key, last = f"{seed}-{keys}", killed >= kills
        delay = 60.0 if last else chance.uniform(0, 0.25)
        begun = not one_process(uri, key, delay, recovers=chance.random() < 0.5)
        if not begun:
            keys += 1
        elif not last:
            killed += 1
        outcome = forked(lambda uri=uri, before=before: left(uri, before))
        assert outcome.how == "returned", (seed, killed, outcome)
        before, ended = outcome.what
        states |= ended
        ever |= before
    yield killed, states, ever

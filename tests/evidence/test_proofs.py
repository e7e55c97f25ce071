"""Proofs and checkpoints: what they show, and that nothing else passes for them."""

from __future__ import annotations

import random
import subprocess
import sys
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_logs import fill, opened

import pluperfect
from pluperfect.errors import BadCheckpoint, UnknownRun
from pluperfect.evidence import Checkpoint, consistent, led_to
from pluperfect.records import leaf
from pluperfect.signing import checked, new_key, sign
from pluperfect_store.memory import MemoryLog


def definition(leaves):
    """The root as RFC 6962 defines it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + definition(leaves[:half]) + definition(leaves[half:])).digest()


@pytest.fixture(scope="module", params=["memory", "lmdb"])
def log(request, tmp_path_factory):
    log = opened(request.param, tmp_path_factory.mktemp("proofs") / "runs")
    fill(log, random.Random(3), 70)
    yield log
    log.close()


def sizes(log):
    end = log.position()
    assert end > 600
    return [1, 2, 3, 7, 255, 256, 257, 300, 511, 512, 513, end - 1, end]


def test_the_tree_is_that_of_rfc_6962_at_every_size(log):
    leaves = [leaf(row) for _, row in log.feed(0, 10_000)]

    for size in [0, *sizes(log)]:
        assert log.tree(size) == (size, definition(leaves[:size]))
    assert log.tree()[0] == len(leaves)


def test_every_run_is_proved_in_every_tree_that_has_it_and_a_changed_proof_holds_nowhere(log):
    for run in [*log.find()][::3]:
        born = log.head(run).born
        for size in sizes(log):
            if born > size:
                with pytest.raises(UnknownRun):
                    log.prove(run, size)
                continue
            proof = log.prove(run, size)
            assert proof.holds
            assert proof.root == log.tree(size)[1]
            assert proof.position <= size
            for place in range(len(proof.path)):
                wrong = [*proof.path]
                wrong[place] = bytes(32)
                assert led_to(proof.leaf, proof.position - 1, size, wrong) != proof.root
            assert led_to(proof.leaf, proof.position - 1, size, proof.path[:-1]) != proof.root or size == 1
            assert led_to(proof.leaf, proof.position, size, proof.path) != proof.root or size == 1


def test_a_later_tree_is_shown_to_begin_with_an_earlier_one_and_with_no_other(log):
    for size in sizes(log):
        for later in [n for n in sizes(log) if n >= size]:
            path = log.consistency(size, later)
            one, other = log.tree(size)[1], log.tree(later)[1]
            assert consistent(size, one, later, other, path)
            assert not consistent(size, bytes(32), later, other, path)
            assert size == later or not consistent(size, one, later, bytes(32), path)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), trees=st.integers(1, 6))
def test_a_random_log_is_sound_and_all_of_it_is_proved(seed, trees):
    log = MemoryLog()
    fill(log, random.Random(seed), trees)

    assert log.verify().sound
    assert all(log.prove(run).holds and log.verify(run).sound for run in log.find())


def test_a_checkpoint_is_read_as_it_was_written_and_any_change_of_its_text_is_refused_or_seen():
    point = Checkpoint.made(bytes(16), 70, sha256(b"x").digest(), 1_800_000_000.0)
    private, public = new_key("auditor")
    text = sign(point, private).text

    assert Checkpoint.parse(text).text == text
    assert not checked(Checkpoint.parse(text), public)
    rng = random.Random(1)
    for _ in range(300):
        at = rng.randrange(len(text))
        other = text[:at] + chr(rng.randrange(32, 127)) + text[at + 1 :]
        if other == text:
            continue
        try:
            assert checked(Checkpoint.parse(other), public)
        except BadCheckpoint:
            pass


def test_keys_that_are_none_and_signatures_of_others_are_told():
    point = Checkpoint.made(bytes(16), 70, sha256(b"x").digest(), 0.0)
    private, public = new_key("auditor")
    _, other = new_key("auditor")

    assert "has no signature" in checked(sign(point, private), other)
    assert "has no signature" in checked(point, public)
    for wrong in ("", "auditor", public, private[:-4] + "AAA="):
        with pytest.raises(BadCheckpoint):
            sign(point, wrong)
    for wrong in ("", private, public.replace("auditor", "another")):
        with pytest.raises(BadCheckpoint):
            checked(point, wrong)
    for name in ("", "a b", "a+b"):
        with pytest.raises(ValueError, match="spaces"):
            new_key(name)


def test_without_the_extra_a_signature_names_the_command_that_installs_it(tmp_path):
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import pluperfect\n"
        "log = pluperfect.open('memory:')\n"
        "assert log.checkpoint().text\n"
        "try: log.checkpoint(key='PRIVATE+KEY+a+00000000+AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB')\n"
        "except pluperfect.errors.SigningUnavailable as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "pip install 'pluperfect[sign]'" in done.stdout


def test_a_checkpoint_of_this_log_holds_while_it_grows(tmp_path):
    with pluperfect.open(tmp_path / "runs") as log:
        fill(log.log, random.Random(1), 3)
        private, public = new_key("me")
        text = log.checkpoint(key=private, at=0.0).text
        fill(log.log, random.Random(2), 3)

        assert log.verify(against=text, key=public).sound
        assert not log.verify(against=text, key=new_key("me")[1]).sound

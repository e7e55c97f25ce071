"""Export and import: what goes out comes in byte for byte, and nothing else comes in."""

from __future__ import annotations

import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import zlib
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack
from random_logs import AT, Direct, fill, foreign_row, opened

import checkers
import pluperfect
from pluperfect import exports
from pluperfect.errors import (
    BadCheckpoint,
    BadExport,
    FailedRun,
    ImportRefused,
    RedactedValue,
    UnknownRun,
    UntrustedValue,
)
from pluperfect.evidence import Checkpoint
from pluperfect.records import leaf, open_row
from pluperfect.states import PICKLE, PLAIN, Completed, Error, Failed, Packed, Running
from pluperfect_store.conformance import born, new_id, part, whole
from pluperfect_store.layout import idx_key, u64
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.memory import MemoryLog

VERIFIER = Path(__file__).parents[2] / "specs" / "verify_export.py"


def second(*arguments):
    """What the other verifier says: its exit code and its words."""
    done = subprocess.run(
        [sys.executable, "-I", str(VERIFIER), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout


def taken_in(log, path, at=AT):
    return log.admit(exports.read(path).parcel(at))


def content(path):
    """Header and the other parts of a file."""
    data, parts = zlib.decompress(path.read_bytes()[60:]), []
    while data:
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}[data[0]]
        size = int.from_bytes(data[1 : 1 + width], "big")
        parts.append(data[1 + width : 1 + width + size])
        data = data[1 + width + size :]
    return msgpack.decode(parts[0]), parts[1:]


def forged(path, header, parts):
    """A file whose digest fits, whatever stands in it."""
    data = b"".join(map(msgpack.encode, [msgpack.encode(header), *parts]))
    path.write_bytes(
        b"pluperfect export 1\n" + len(data).to_bytes(8, "big") + sha256(data).digest() + zlib.compress(data)
    )
    return path


@pytest.fixture(params=["memory", "lmdb"])
def target(request, tmp_path):
    log = opened(request.param, tmp_path / "target")
    yield log
    log.close()


@pytest.fixture
def source():
    log = MemoryLog()
    log.roots = fill(log, random.Random(11), 20)
    return log


def round_trip(seed, folder, kinds=("memory", "memory")):
    """A random log, a random choice of its trees: out, in, out again. Returns how many runs that were."""
    rng = random.Random(seed)
    log, other = opened(kinds[0], folder / "a"), opened(kinds[1], folder / "b")
    try:
        roots = fill(log, rng, rng.randrange(1, 5))
        chosen = rng.sample(roots, rng.randrange(1, len(roots) + 1))
        header = exports.write(log, folder / "one", chosen)
        fill(log, rng, 1)
        exports.write(log, folder / "same", chosen[::-1])
        done = taken_in(other, folder / "one")
        exports.write_again(other, folder / "two", chosen[0])
        assert (folder / "one").read_bytes() == (folder / "two").read_bytes() == (folder / "same").read_bytes()
        assert {*done.new} == {told.run for told in header.runs}
        for told in header.runs:
            assert other.records(told.run) == log.records(told.run)
            assert other.children(told.run) == log.children(told.run)
        assert other.verify().sound
        assert other.rebuild() == other.position()
        assert other.compare() == []
        return len(header.runs)
    finally:
        log.close()
        other.close()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_random_history_comes_back_byte_for_byte(seed):
    folder = Path(tempfile.mkdtemp(prefix="pluperfect-evidence-"))
    try:
        round_trip(seed, folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_thousand_random_histories_come_back_byte_for_byte(tmp_path):
    first, runs = random.SystemRandom().randrange(2**32), 0
    for number in range(2000):
        folder = tmp_path / "now"
        folder.mkdir()
        runs += round_trip(first + number, folder, ("memory", "lmdb" if number % 20 == 0 else "memory"))
        shutil.rmtree(folder)
    print(f"seeds {first} to {first + 1999}: {runs} runs out, in, and out again")


def test_a_file_from_one_kind_of_store_goes_into_the_other_and_back(tmp_path):
    assert round_trip(5, tmp_path, ("lmdb", "memory"))


def test_the_second_verifier_agrees_with_what_was_written(source, tmp_path):
    header = exports.write(source, tmp_path / "file", source.roots[:7])
    code, said = second(tmp_path / "file")

    assert code == 0, said
    assert f"{len(header.runs)} runs" in said
    assert header.root.hex() in said


def test_the_second_verifier_holds_a_file_against_a_checkpoint_and_its_signature(source, tmp_path):
    from pluperfect.signing import new_key, sign

    private, public = new_key("auditor")
    point = sign(Checkpoint.made(source.store_id, *source.tree(), AT), private)
    exports.write(source, tmp_path / "file", source.roots[:3], point)
    (tmp_path / "point").write_text(point.text)
    (tmp_path / "key").write_text(public)
    (tmp_path / "other").write_text(new_key("auditor")[1])
    file = tmp_path / "file"

    assert second(file, "--key", tmp_path / "key", "--checkpoint", tmp_path / "point")[0] == 0
    assert second(file, "--key", tmp_path / "other")[0] == 1
    text = point.text.splitlines(keepends=True)
    name, sig = text[-1].rsplit(" ", 1)
    (tmp_path / "point").write_text(
        "".join([*text[:-1], f"{name} {sig[:20]}{'A' if sig[20] != 'A' else 'B'}{sig[21:]}"])
    )
    assert second(file, "--key", tmp_path / "key", "--checkpoint", tmp_path / "point")[0] == 1


def test_every_flipped_byte_is_refused_by_both_verifiers_and_nothing_comes_in(source, tmp_path):
    exports.write(source, tmp_path / "file", source.roots[:2])
    data, rng = (tmp_path / "file").read_bytes(), random.Random(4)
    log = MemoryLog()
    for number in range(150):
        at = rng.randrange(len(data))
        (tmp_path / "bad").write_bytes(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
        with pytest.raises(BadExport):
            taken_in(log, tmp_path / "bad")
        if number < 12:
            assert second(tmp_path / "bad")[0] == 1
    assert log.position() == 0


def test_changes_under_a_fitting_digest_are_refused_by_both_verifiers(source, tmp_path):
    """Whoever rewrites the file can mend its digest, but not chain, proofs and values."""
    exports.write(source, tmp_path / "file", source.roots[:6])
    rng, refused = random.Random(9), 0
    for number in range(120):
        header, parts = content(tmp_path / "file")
        change = rng.choice(["flip", "swap", "drop", "position", "path", "size", "root", "run"])
        if change == "flip":
            at = rng.randrange(len(parts))
            byte = rng.randrange(len(parts[at]))
            parts[at] = parts[at][:byte] + bytes([parts[at][byte] ^ rng.randrange(1, 256)]) + parts[at][byte + 1 :]
        elif change == "swap":
            one, other = rng.sample(range(len(parts)), 2)
            parts[one], parts[other] = parts[other], parts[one]
        elif change == "drop":
            del parts[rng.randrange(len(parts))]
        elif change == "position":
            told = rng.choice(header["runs"])
            told[1][-1] += rng.choice([1, -1, 2])
        elif change == "path":
            told = rng.choice(header["runs"])
            told[2][rng.randrange(len(told[2]))] = rng.randbytes(32)
        elif change == "size":
            header["size"] *= 4
        elif change == "root":
            header["root"] = rng.randbytes(32)
        else:
            header["runs"][0][0] = rng.randbytes(16)
        if (header, parts) == content(tmp_path / "file"):
            continue
        forged(tmp_path / "bad", header, parts)
        with pytest.raises(BadExport):
            exports.read(tmp_path / "bad")
        if number % 6 == 0:
            code, said = second(tmp_path / "bad")
            assert code == 1, (change, said)
        refused += 1
    assert refused > 100


def test_what_is_large_goes_into_files_of_its_own_and_out_again(source, tmp_path, monkeypatch):
    """The header too, which is kept with the note of the import."""
    monkeypatch.setattr(LmdbLog, "_file_from", 100)
    exports.write(source, tmp_path / "one", source.roots[:5])
    log = LmdbLog(tmp_path / "runs")
    taken_in(log, tmp_path / "one")
    blobs = exports.read(tmp_path / "one").blobs

    assert blobs
    assert all((tmp_path / "runs" / "blobs" / digest.hex()[:2] / digest.hex()).exists() for digest in blobs)
    assert log.verify().sound
    exports.write_again(log, tmp_path / "two", source.roots[0])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    log.close()


def test_a_run_under_the_id_of_the_store_is_refused(target, tmp_path):
    """Whoever knows the id of a store could write into its own records otherwise."""
    run, log = target.store_id, MemoryLog()
    log.append([part(run, None, 0, born(run), Running())], epoch=1)
    exports.write(log, tmp_path / "file", [run])
    with pytest.raises(ImportRefused, match="id of this store"):
        taken_in(target, tmp_path / "file")
    assert target.position() == 0


@pytest.mark.parametrize("cut", [0, 5, 19, 20, 59, 60, 61, 100, -1])
def test_a_file_that_is_cut_short_is_refused(source, tmp_path, cut):
    exports.write(source, tmp_path / "file", source.roots[:2])
    (tmp_path / "bad").write_bytes((tmp_path / "file").read_bytes()[:cut])
    with pytest.raises(BadExport, match="cannot be imported"):
        exports.read(tmp_path / "bad")
    assert second(tmp_path / "bad")[0] == 1


def test_bombs_other_versions_and_other_files_are_refused_by_name(source, tmp_path):
    exports.write(source, tmp_path / "file", source.roots[:2])
    data = (tmp_path / "file").read_bytes()

    def said(data, **given):
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(BadExport) as error:
            exports.read(tmp_path / "bad", **given)
        return str(error.value)

    bomb = zlib.compress(bytes(50 << 20))
    plain = data[:20]
    assert "--limit" in said(plain + (1 << 60).to_bytes(8, "big") + bytes(32) + bomb)
    assert "begins with byte 0x0" in said(plain + (50 << 20).to_bytes(8, "big") + bytes(32) + bomb)
    assert said(plain + (1000).to_bytes(8, "big") + bytes(32) + bomb)
    huge = b"\xc6" + (1 << 27).to_bytes(4, "big")
    assert "longer than what is left" in said(plain + (5000).to_bytes(8, "big") + bytes(32) + zlib.compress(huge))
    assert "version '2'" in said(data.replace(b"export 1", b"export 2", 1))
    assert "no export" in said(b"PK" + data[2:])
    assert "behind its end" in said(data + b"x")
    assert "allowed" in said(data, limit=100)


def test_unknown_records_pass_through_byte_for_byte(tmp_path):
    """As a later release, or another plugin, has written them."""
    log = opened("lmdb", tmp_path / "runs")
    run = new_id()
    log.append([part(run, None, 0, born(run), Running())], epoch=1).wait()
    head = log.head(run)
    row = foreign_row(run, 3, head.leaf)

    def job(batch):
        batch.enter(run, 3, None, row, leaf(row), 1)

    log._change(job)
    log.append([part(run, None, 3, Completed(data=Packed(PLAIN, b"\x01")))], epoch=1).wait()
    exports.write(log, tmp_path / "file", [run])
    other = MemoryLog()
    taken_in(other, tmp_path / "file")

    assert other.records(run) == log.records(run)
    assert other.records(run)[2] == row
    assert second(tmp_path / "file")[0] == 0
    assert other.verify().sound
    log.close()


def test_a_store_s_own_records_and_illegal_histories_are_refused(tmp_path):
    for rows in (
        [foreign_row(b"r" * 16, 1, bytes(32))],
        [foreign_row(b"r" * 16, 1, bytes(32), b"\x81\xa4rows\x09", "store/imported")],
    ):
        header = {
            "store": bytes(16), "size": 1, "root": leaf(rows[0]), "checkpoint": "", "runs": [[b"r" * 16, [1], []]],
            "code": [], "redacted": [], "blobs": [],
        }  # fmt: skip
        with pytest.raises(BadExport):
            exports.read(forged(tmp_path / "bad", header, rows))
    log, run = MemoryLog(), new_id()
    log.append([part(run, None, 0, born(run), Completed(data=None))], epoch=1)
    exports.write(log, tmp_path / "file", [run])
    with pytest.raises(BadExport, match="Pending -> Completed is not in the table"):
        exports.read(tmp_path / "file")


def test_the_same_history_is_left_a_longer_one_extended_and_another_one_refused_by_name(target, tmp_path):
    run, log = new_id(), MemoryLog()
    log.append([part(run, None, 0, born(run), Running())], epoch=1)
    exports.write(log, tmp_path / "short", [run])
    log.append([part(run, None, 2, Completed(data=Packed(PLAIN, b"\x01")))], epoch=1)
    exports.write(log, tmp_path / "long", [run])

    assert taken_in(target, tmp_path / "short").new == (run,)
    before = target.position()
    assert taken_in(target, tmp_path / "short").left == (run,)
    assert target.position() == before
    assert taken_in(target, tmp_path / "long").extended == (run,)
    assert taken_in(target, tmp_path / "short").left == (run,)
    assert target.records(run) == log.records(run)
    assert target.verify().sound
    assert target.compare() == []

    third, fourth = MemoryLog(), new_id()
    third.append([part(run, None, 0, born(run), Running(attempt=2))], epoch=1)
    third.append([whole(fourth)], epoch=1)
    exports.write(third, tmp_path / "other", [run, fourth])
    before = target.position()
    with pytest.raises(ImportRefused, match=run.hex()):
        taken_in(target, tmp_path / "other")
    assert target.position() == before
    assert target.head(fourth) is None


def test_a_run_that_somebody_carries_out_here_is_not_extended(tmp_path):
    run, log, target = new_id(), MemoryLog(), opened("lmdb", tmp_path / "runs")
    birth = part(run, None, 0, born(run), Running())
    for one in (log, target):
        one.append([birth], epoch=1, claim=True).wait()
    log.append([part(run, None, 2, Completed(data=None))], epoch=1)
    exports.write(log, tmp_path / "file", [run])
    with pytest.raises(ImportRefused, match="carried out here by process"):
        taken_in(target, tmp_path / "file")
    target.release(run, 1)
    target.flush()

    assert taken_in(target, tmp_path / "file").extended == (run,)
    target.close()


def test_imported_results_answer_no_cached_call(target, tmp_path):
    run, log = new_id(), MemoryLog()
    log.append([whole(run, key="k")], epoch=1)
    exports.write(log, tmp_path / "file", [run])
    taken_in(target, tmp_path / "file")

    assert log.cached("k", AT) is not None
    assert target.cached("k", AT) is None
    target.rebuild()
    assert target.cached("k", AT) is None
    assert target.head(run).imported
    assert target.compare() == []


class Bomb:
    """Whoever unpickles it knows."""

    def __reduce__(self):
        return print, ("BOOM",)


def test_an_imported_history_runs_no_code_unless_the_caller_trusts_it(tmp_path, capsys):
    run, log = new_id(), MemoryLog()
    bomb = Packed(PICKLE, pickle.dumps(Bomb()))
    log.append([part(run, None, 0, born(run), Running(), Completed(data=bomb))], epoch=1)
    exports.write(log, tmp_path / "file", [run])
    with pluperfect.open(tmp_path / "runs") as opened_log:
        opened_log.import_runs(tmp_path / "file")
        found = opened_log.runs()[0]
        assert str(found.history)
        assert repr(found)
        checkers.promise_9(opened_log.log)
        assert opened_log.verify().sound
        with pytest.raises(UntrustedValue, match="trust_imported=True"):
            found.result()
        assert "BOOM" not in capsys.readouterr().out
    with pluperfect.open(tmp_path / "runs", trust_imported=True) as opened_log:
        opened_log.runs()[0].result()
        assert "BOOM" in capsys.readouterr().out


def test_an_imported_exception_is_told_in_words_and_not_unpickled(tmp_path, capsys):
    run, log = new_id(), MemoryLog()
    failed = Failed(cause="error", error=Error("ValueError", "no", "", Packed(PICKLE, pickle.dumps(Bomb()))))
    log.append([part(run, None, 0, born(run), Running(), failed)], epoch=1)
    exports.write(log, tmp_path / "file", [run])
    with pluperfect.open("memory:") as opened_log:
        opened_log.import_runs(tmp_path / "file")
        with pytest.raises(FailedRun, match="ValueError: no"):
            opened_log.runs()[0].result()
    assert "BOOM" not in capsys.readouterr().out


@pytest.mark.parametrize("code", range(1, 7))
def test_of_all_codecs_those_that_may_run_code_are_refused_and_the_others_are_read(code):
    from pluperfect.values import runs_code

    harmless = {1: b"\x01", 2: msgpack.encode(["set", b"\x91\x01"]), 4: b"why", 5: b"\xc4\x01x"}
    importing = {2: msgpack.encode(["os:system", b""]), 3: b"", 6: b"", 1: None}

    if code in harmless:
        assert not runs_code(Packed(code, harmless[code]))
    if importing.get(code) is not None:
        assert runs_code(Packed(code, importing[code]))
    assert runs_code(Packed(2, b"\xff"))
    assert runs_code(Packed(9, b""))


def test_the_proofs_of_an_export_lead_to_the_checkpoint_that_it_was_given(source, tmp_path):
    run = source.roots[0]
    early = Checkpoint.made(source.store_id, *source.tree(1), AT)
    late = Checkpoint.made(source.store_id, *source.tree(), AT)

    assert exports.write(source, tmp_path / "file", [run], late).root == late.root
    assert exports.read(tmp_path / "file").header.checkpoint == late.text
    with pytest.raises(BadCheckpoint, match="later ones"):
        exports.write(source, tmp_path / "file", [run], early)
    with pytest.raises(BadCheckpoint, match="of store"):
        exports.write(source, tmp_path / "file", [run], Checkpoint.made(bytes(16), *source.tree(), AT))
    with pytest.raises(UnknownRun):
        exports.write(source, tmp_path / "file", [new_id()])


# --- redaction ------------------------------------------------------------------------------------------


def spoken(text):
    return Packed(PLAIN, msgpack.encode(text))


@pytest.mark.parametrize("secret", ["short", "long " * 1000, "huge " * 300_000])
def test_what_is_redacted_is_gone_and_all_else_is_still_proved(target, tmp_path, secret):
    run, other = new_id(), new_id()
    value = spoken(secret)
    for one in (run, other):
        target.append([part(one, None, 0, born(one), Running(), Completed(data=value))], epoch=1).wait()
    proof, leaves = target.prove(run), [leaf(row) for row in target.records(run)]
    gone = target.redact(run, {value.digest}, everywhere=False, by="me", why="law", at=AT)
    inline = len(value.data) <= 2048

    assert gone.digests == (value.digest,)
    assert (run, 3) in gone.taken
    assert ((other, 3) in gone.left) == inline
    assert ((other, 3) in gone.taken) != inline
    assert [leaf(row) for row in target.records(run)] == leaves
    assert proof.holds
    assert target.prove(run, proof.size) == proof
    report = target.verify()
    assert report.sound
    assert report.redacted == (1 if inline else 2)
    assert target.compare() == []
    assert target.blob(value.digest) is None
    with pytest.raises(RedactedValue, match="redacted"):
        open_row(target.records(run)[2]).entry(target.blob).to.data.data  # noqa: B018

    exports.write(target, tmp_path / "file", [run])
    assert second(tmp_path / "file")[0] == 0
    away = MemoryLog()
    taken_in(away, tmp_path / "file")
    assert away.verify().redacted == 1
    assert away.verify().sound
    assert not target.redact(new_id(), {sha256(b"nothing").digest()}, everywhere=True, by="", why="", at=AT).digests
    assert target.redact(run, {value.digest}, everywhere=True, by="me", why="law", at=AT).left == ()
    assert target.verify().redacted == 2


def test_a_redaction_says_by_whom_and_why_in_the_log(target):
    run, value = new_id(), spoken("x" * 40)
    target.append([part(run, None, 0, born(run), Running(), Completed(data=value))], epoch=1).wait()
    target.redact(run, [value.digest], everywhere=False, by="Ada", why="asked to", at=AT)
    note = open_row(target.records(target.store_id)[-1])

    assert note.record.type == "store/redacted"
    assert note.note() == {"values": [[value.digest, value.size]], "by": "Ada", "why": "asked to", "run": run}


def test_a_digest_in_the_place_of_a_value_without_a_note_is_a_finding(tmp_path):
    log, run, value = opened("lmdb", tmp_path / "runs"), new_id(), spoken("x" * 40)
    log.append([part(run, None, 0, born(run), Running(), Completed(data=value))], epoch=1).wait()
    log.close()
    with Direct(tmp_path / "runs") as direct:
        place = direct.get("idx", idx_key(run, 3))
        assert place == u64(3)
        direct.put("log", place, open_row(direct.get("log", place)).without([value.digest]))
    log = opened("lmdb", tmp_path / "runs")
    (finding,) = log.verify().findings

    assert (finding.seq, finding.name) == (3, "fetch")
    assert "missing" in finding.what
    log.close()


def test_a_cached_result_that_was_redacted_is_computed_anew(tmp_path):
    from pluperfect import flow, task
    from pluperfect.cache_policies import INPUTS

    calls = []

    @task(cache_policy=INPUTS)
    def secret(x):
        calls.append(x)
        return f"secret {x}"

    @flow
    def outer():
        return secret(1)

    with pluperfect.open(tmp_path / "runs") as log:
        outer()
        outer()
        for run in log.runs():
            log.redact(run.id, result=True, why="law", everywhere=True)
        assert outer() == "secret 1"
        assert calls == [1, 1]
        with pytest.raises(LookupError, match="inputs: x"):
            log.redact(log.runs(name="secret")[0].id, input="y")
        assert log.redact(log.runs(name="secret")[0].id, input="x").taken
        assert log.verify().sound


def test_redacting_a_record_takes_all_its_values(source):
    run, row = next(
        (run, open_row(row)) for run in source.find() for row in source.records(run) if len(open_row(row).values) > 1
    )
    gone = source.redact(run, row.digests, everywhere=False, by="", why="", at=AT)

    assert {*gone.digests} == {*row.digests}
    assert (run, row.record.seq) in gone.taken
    assert source.verify().sound

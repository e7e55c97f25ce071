"""The reader of exports takes any bytes and says no: it raises BadExport and nothing else."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import zlib
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_logs import fill

from pluperfect import exports
from pluperfect.errors import BadExport
from pluperfect_store.memory import MemoryLog


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    log = MemoryLog()
    path = tmp_path_factory.mktemp("fuzz") / "file"
    exports.write(log, path, fill(log, random.Random(1), 3))
    return path


def judged(path, data):
    path.write_bytes(data)
    try:
        exports.read(path, limit=1 << 20)
    except BadExport as error:
        assert "cannot be imported" in str(error)
        return False
    return True


def wrapped(content):
    """A file of version 1 whose length and digest fit."""
    head = b"pluperfect export 1\n" + len(content).to_bytes(8, "big") + sha256(content).digest()
    return head + zlib.compress(content)


FUZZ = settings(max_examples=300, deadline=None)


@FUZZ
@given(data=st.binary(max_size=400))
@example(data=b"")
def test_any_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed"

    assert not judged(path, data)
    assert not judged(path, b"pluperfect export 1\n" + data)
    assert not judged(path, wrapped(data))


@FUZZ
@given(
    edits=st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=4)
)
def test_a_sound_content_with_pieces_replaced_is_refused_or_still_sound(file, edits):
    """The digest is mended each time, so that what is behind it is reached."""
    sound = zlib.decompress(file.read_bytes()[60:])
    data = sound
    for at, piece, gone in edits:
        at %= len(data)
        data = data[:at] + piece + data[at + gone :]
    if judged(file.with_name("fuzzed"), wrapped(data)):
        told = exports.read(file.with_name("fuzzed"), limit=1 << 20)
        # Only what is told of a definition or of a reason is bound by nothing but the digest.
        assert told.rows == exports.read(file).rows
        assert told.header.root == exports.read(file).header.root


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_coverage_guided_fuzzer_finds_nothing_either(file, tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed for this Python: pip install atheris")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "sound").write_bytes(zlib.decompress(file.read_bytes()[60:]))
    program = Path(__file__).with_name("fuzz_exports.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "corpus"), "-max_total_time=60", "-max_len=20000"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    runs = re.search(r"Done (\d+) runs", done.stderr)
    print(f"files of a guided fuzzer: seed none, {runs and runs[1]} files in a minute, 0 accepted that are not sound")
    assert done.returncode == 0, done.stderr[-3000:]

"""The commands: what they print, how they exit, and that a damaged file ends no process but the reading one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest
from random_logs import Direct, copied

import pluperfect
from pluperfect import flow, task
from pluperfect.errors import UntrustedValue


@task
def double(x):
    return {x}


@flow
def total(n, word="hunter2"):
    return sum(max(double(x)) for x in range(n))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "runs"
    with pluperfect.open(folder):
        for n in range(6):
            total(n)
    return folder


def command(store, *arguments, stdin=None):
    done = subprocess.run(
        [sys.executable, "-c", "from pluperfect.authoring.cli import main; main()", "--store", str(store), *map(str, arguments)],
        capture_output=True, text=True, check=False, input=stdin,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_sound_store_exits_with_0_a_damaged_one_with_1_and_a_wrong_question_with_2(folder, tmp_path):
    code, said, _ = command(folder, "verify")
    assert code == 0
    assert said.endswith(": sound.\n")

    with Direct(copied(folder, tmp_path / "bad")) as direct:
        key, row = direct.rows("log")[4]
        direct.put("log", key, row[:-1] + bytes([row[-1] ^ 1]))
    code, said, _ = command(tmp_path / "bad", "verify")
    assert code == 1
    assert "[position 5]" in said.splitlines()[0]
    code, said, _ = command(tmp_path / "bad", "verify", "--json")
    assert code == 1
    told = json.loads(said)
    assert not told["sound"]
    assert told["findings"][0]["position"] == 5
    assert told["findings"][0]["name"] in ("total", "double")

    for arguments, word in (
        ((folder, "verify", "no-such-run"), "no run"),
        ((tmp_path / "nothing", "verify"), "no store"),
        ((folder, "verify", "--key", folder / "data.mdb"), "--against"),
        ((folder, "verify", "--against", folder / "data.mdb"), ""),
    ):
        code, _, error = command(*arguments)
        assert code == 2, error
        assert word in error
    assert not (tmp_path / "nothing").exists()


def test_damaged_views_are_found_although_the_store_does_not_open_with_them(folder, tmp_path):
    with Direct(copied(folder, tmp_path / "bad")) as direct:
        key, _ = direct.rows("head")[-1]
        for key, _ in direct.rows("head"):
            direct.drop("head", key)
    assert command(tmp_path / "bad", "runs")[0] == 1
    code, said, _ = command(tmp_path / "bad", "verify")
    assert code == 1
    assert "rebuild" in said
    assert command(f"lmdb+unchecked:{tmp_path / 'bad'}", "rebuild")[0] == 0
    assert command(tmp_path / "bad", "verify")[0] == 0


def test_a_file_that_kills_its_reader_or_cannot_be_opened_is_a_finding(folder, tmp_path):
    died = []
    for number in range(14):
        data = copied(folder, tmp_path / "bad") / "data.mdb"
        size = data.stat().st_size
        with data.open("r+b") as file:
            if number == 0:
                file.truncate(size // 2)
            else:  # pages of data overwritten: LMDB aborts, reads beyond the file, or misses rows
                page = 2 + number * (size // 4096 - 3) // 14
                file.seek(page * 4096)
                file.write(b"\xff" * 4096 if number % 2 else bytes(4096))
        code, said, error = command(tmp_path / "bad", "verify", "--json")
        assert code in (0, 1), error  # 0: the page was free
        found = json.loads(said)["findings"]
        assert bool(found) == (code == 1)
        died += [finding for finding in found if "ended the process" in finding["what"]]
        if number == 0:
            assert "cut short" in found[0]["what"]
    print(f"{len(died)} of 14 damages ended the reading process")


@pytest.fixture
def keys(folder, tmp_path):
    assert command(folder, "checkpoint", "--new-key", tmp_path / "key", "--name", "auditor")[0] == 0
    return tmp_path / "key", tmp_path / "key.pub"


def test_a_signed_checkpoint_is_checked_with_the_public_key_and_with_no_other(folder, tmp_path, keys):
    private, public = keys
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert command(folder, "checkpoint", "--new-key", private)[0] == 2
    assert command(folder, "checkpoint", "--sign", private, "-o", tmp_path / "point")[0] == 0
    code, said, _ = command(folder, "verify", "--against", tmp_path / "point", "--key", public)
    assert code == 0
    assert "held against the checkpoint" in said
    assert "signature was not checked" in command(folder, "verify", "--against", tmp_path / "point")[1]
    command(folder, "checkpoint", "--new-key", tmp_path / "other", "--name", "auditor")
    assert command(folder, "verify", "--against", tmp_path / "point", "--key", tmp_path / "other.pub")[0] == 1
    assert command(folder, "verify", "--against", tmp_path / "point", "--key", private)[0] == 2
    assert command(folder, "checkpoint")[1].startswith("pluperfect/")
    assert command(folder, "checkpoint", "--sign", public)[0] == 1


def test_runs_go_out_come_in_and_go_out_again_by_commands(folder, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert command(folder, "export", "-o", one)[0] == 2
    assert command(folder, "export", "-o", one, "--since", "2999-01-01")[0] == 0
    code, said, _ = command(folder, "export", "-o", one, "--name", "total", "--state", "completed", "--json")
    assert code == 0
    assert len(json.loads(said)["runs"]) == 21
    assert command(tmp_path / "there", "import", one)[:2] == (
        0, "21 runs are new, 0 were extended, 0 were here already.\n",
    )  # fmt: skip
    run = json.loads(said)["runs"][0]
    assert "imported from another store" in command(tmp_path / "there", "show", run)[1]
    assert command(tmp_path / "there", "export", run, "--as-imported", "-o", two)[0] == 0
    assert one.read_bytes() == two.read_bytes()
    assert command(folder, "export", run, "--as-imported", "-o", two)[0] == 2
    assert len(json.loads(command(tmp_path / "there", "import", one, "--json")[1])["left"]) == 21
    assert command(folder, "export", "--all", "-o", two)[0] == 0
    two.write_bytes(two.read_bytes()[:-1])
    code, _, error = command(tmp_path / "there", "import", two)
    assert code == 1
    assert "Nothing was imported" in error


def test_a_value_is_redacted_when_somebody_says_yes(folder, tmp_path):
    store = copied(folder, tmp_path / "runs")
    ask = ("redact", "total", "--input", "word", "--why", "law")
    assert command(store, *ask, stdin="n\n")[0] == 1
    assert command(store, "redact", "total", "--why", "law", "--yes")[0] == 2
    assert command(store, "redact", "total", "--input", "nope", "--why", "law", "--yes")[0] == 2
    code, said, _ = command(store, *ask, "--yes")
    assert code == 0
    assert said.count("--everywhere") == 5
    assert "<redacted" in command(store, "show", "total")[1]
    assert '"redacted": "' in command(store, "show", "total", "--json")[1]
    assert "1 value redacted" in command(store, "verify")[1]
    code, said, _ = command(store, *ask, "--yes", "--everywhere", "--json")
    assert len(json.loads(said)["taken"]) == 6


def test_resuming_an_imported_run_needs_trust(tmp_path):
    """It would import the module that the history names."""
    from pluperfect import exports
    from pluperfect.states import Running
    from pluperfect_store.conformance import born, new_id, part

    with pluperfect.open(tmp_path / "a") as log:
        run = new_id()
        log.log.append([part(run, None, 0, born(run, name="gone"), Running())], epoch=1).wait()
        exports.write(log.log, tmp_path / "file", [run])
    with pluperfect.open(tmp_path / "b") as log:
        log.import_runs(tmp_path / "file")
    with pluperfect.open(tmp_path / "b") as log:
        from pluperfect.authoring.resuming import resume

        with pytest.raises(UntrustedValue, match="--trust-imported"):
            resume(log, run.hex())

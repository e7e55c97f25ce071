"""The commands, as people type them: exit codes, numbers, and what needs attention."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import pluperfect
from pluperfect.authoring.cli import main
from pluperfect_store.lmdb import LmdbLog


@pluperfect.flow
def hello(n: int = 1) -> int:
    return n


@pytest.fixture
def folder(tmp_path):
    with pluperfect.open(tmp_path / "runs"):
        hello()
        hello(2)
        hello.with_options(idempotency_key="k")()
    return tmp_path / "runs"


def cli(folder, *arguments):
    return CliRunner().invoke(main, ["--store", str(folder), *map(str, arguments)])


def told(folder, *arguments):
    done = cli(folder, *arguments, "--json")
    return done.exit_code, json.loads(done.output)


def test_prune_says_what_would_go_what_went_and_what_stays_for_its_key(folder):
    code, dry = told(folder, "prune", "--older-than", "0s", "--dry-run")
    assert (code, dry["trees"], dry["records"], dry["keyed"], dry["dry_run"]) == (0, 2, 6, 1, True)
    done = cli(folder, "prune", "--older-than", "0s", "--keep", "2")
    assert "1 run and 0 that it called are pruned: 3 records" in done.output
    done = cli(folder, "prune", "--older-than", "0s")
    assert "1 run stays for its idempotency key: pruned, it would run again (--with-keys)." in done.output
    assert cli(folder, "prune", "--older-than", "30d").output == "No run fits.\n"
    assert "called again, they run again" in " ".join(cli(folder, "prune", "--help").output.split())


@pytest.mark.parametrize("wrong", [["--older-than", "3x"], ["--older-than", "1d", "--state", "compl"], []])
def test_a_wrong_rule_is_refused(folder, wrong):
    assert cli(folder, "prune", *wrong).exit_code == 2


def test_backup_prints_position_and_root_and_refuses_a_taken_place(folder, tmp_path):
    code, made = told(folder, "backup", tmp_path / "copy")
    assert (code, made["position"], made["absent"]) == (0, 9, 0)
    assert made["root"] in cli(folder, "backup", tmp_path / "other").output
    again = cli(folder, "backup", tmp_path / "copy")
    assert again.exit_code == 1
    assert "is there already" in again.output
    with pluperfect.open(tmp_path / "copy") as opened:
        assert len(opened.runs()) == 3


def test_compact_prints_sizes(folder):
    code, done = told(folder, "compact")

    assert code == 0
    assert done["after"] <= done["before"]
    assert "rows written anew" in cli(folder, "compact").output


def test_a_healthy_store_needs_no_attention(folder):
    code, found = told(folder, "doctor")

    assert (code, found["findings"], found["runs"], found["records"]) == (0, [], {"Completed": 3}, 9)
    assert set(found["versions"]) == {"python", "pluperfect", "lmdb", "msgspec"}
    assert "Nothing needs attention." in cli(folder, "doctor").output


INTERRUPTED = """
import sys, os, time, pluperfect
@pluperfect.task
def step(): os.kill(os.getpid(), 9)
@pluperfect.flow
def job(): step()
with pluperfect.open(sys.argv[1]): job()
"""


def test_what_is_in_doubt_needs_attention(folder):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(folder)], check=False, capture_output=True)
    assert done.returncode == -9
    code, found = told(folder, "doctor")

    assert code == 1
    assert [doubt["why"] for doubt in found["in_doubt"]] == ["its process has ended"] * 2
    assert [owner["alive"] for owner in found["owners"]] == [False]
    assert "2 runs are in doubt" in found["findings"][0]
    shown = cli(folder, "doctor")
    assert shown.exit_code == 1
    assert "gone: its process has ended" in shown.output
    assert told(folder, "prune", "--older-than", "0s")[1]["trees"] == 2
    assert told(folder, "doctor")[0] == 1  # what is in doubt is never pruned


READS = """
import sys, time
from pluperfect_store.lmdb import LmdbLog
log = LmdbLog(sys.argv[1])
with log._rows() as rows:
    rows.last("log")
    print("reading", flush=True)
    time.sleep(60)
"""


def test_a_dead_reader_is_cleared_and_users_are_named(folder):
    one = subprocess.Popen([sys.executable, "-c", READS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert one.stdout.readline() == "reading\n"
    log = LmdbLog(folder)
    assert one.pid in log.health().facts["open_in"]
    one.kill()
    one.communicate()

    assert log.health().facts["stale_readers"] == 1
    assert log.health().facts["stale_readers"] == 0
    log.close()


def test_a_store_that_cannot_be_opened_is_a_finding(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"my diary")
    code, found = told(tmp_path, "doctor")

    assert code == 1
    assert "no LMDB file" in found["findings"][0]


@pluperfect.flow
def large(size: int) -> str:
    return "x" * size


def test_a_dry_run_tells_the_values_that_would_go_too(folder):
    with pluperfect.open(folder):
        large(3_000_000)
        large(5_000)
    for file in (folder / "blobs").glob("??/*"):
        os.utime(file, (1, 1))
    _, dry = told(folder, "prune", "--older-than", "0s", "--dry-run", "--name", "large")
    assert "2 large values would go with them" in cli(
        folder, "prune", "--older-than", "0s", "--dry-run", "--name", "large"
    ).output.replace("\n", " ")
    _, done = told(folder, "prune", "--older-than", "0s", "--name", "large")

    assert dry["values"] == 2
    assert dry["value_bytes"] > 3_005_000
    assert {**dry, "dry_run": False} == done


def test_a_missing_value_needs_attention_and_a_redacted_one_does_not(folder, tmp_path):
    with pluperfect.open(folder) as opened:
        large(3_000_000)
        large(2_000_000)
        opened.redact(opened.runs()[0].id, result=True)
        assert opened.health().findings == []
    code, made = told(folder, "backup", tmp_path / "copy")
    assert (code, made["absent"], made["values"]) == (0, 1, 1)
    (file,) = (folder / "blobs").glob("??/*")
    file.unlink()

    code, found = told(folder, "doctor")
    assert (code, found["values_missing"]) == (1, 1)
    assert "1 values that records name are missing" in found["findings"][0]
    assert "2 values that the records name" in cli(folder, "backup", tmp_path / "other").output

"""`pluperfect replay` and `check`: what they print, and how they exit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import pluperfect

OLD = """
import sys
import pluperfect
from pluperfect import flow, task, patched

@task
def fetch(page, size=10):
    if page == 3 and "die" in sys.argv:
        import os
        log.flush()
        os._exit(9)
    return page * size

@flow
def report(pages):
    print("pages", pages)
    found = [fetch(page) for page in pages]
    return sum(found)

if __name__ == "__main__":
    with pluperfect.open("runs") as log:
        report.with_options(idempotency_key=sys.argv[1])([1, 2, 3])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(OLD)
    (tmp_path / "newer.py").write_text(OLD.replace("fetch(page) for", "fetch(page, size=20) for"))
    (tmp_path / "sound.py").write_text(OLD.replace("found", "gathered"))
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    monkeypatch.setenv("PLUPERFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    for words in (["one"], ["two", "die"]):
        subprocess.run([sys.executable, "shop.py", *words], cwd=tmp_path, capture_output=True, check=False)
    return tmp_path


def command(*words):
    done = subprocess.run(
        [sys.executable, "-m", "pluperfect", "--store", "runs", *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_replay_is_told_in_columns_in_json_and_by_the_exit_code(folder):
    with pluperfect.open("lmdb:runs") as log:
        ended = next(run.id for run in log.runs(name="report", roots=True) if run.folded.final)

    code, out, err = command("replay", ended)
    assert (code, "same: the code does what is on record; 3 calls compared" in out) == (0, True), err
    assert "pages [1, 2, 3]" in err  # what the code prints
    code, out, _ = command("replay", ended, "--flow", "newer.py:report")
    assert code == 1
    assert "first difference: inputs" in out
    assert "> size = 10" in out
    assert "| size = 20" in out
    assert "shop.py:17" in out
    assert "newer.py:17" in out
    code, out, _ = command("replay", ended, "--flow", "newer.py:report", "--json")
    assert (code, json.loads(out)["first"]["part"]) == (1, "inputs")
    code, out, _ = command("replay", ended, "--bodies")
    assert code == 0


def test_many_runs_are_told_in_a_matrix(folder):
    code, out, _ = command("replay", "--all")
    assert code == 0
    assert [line.split() for line in out.splitlines()[:2]] == [["flow", "same", "extended"], ["report", "1", "1"]]
    code, out, _ = command("replay", "--all", "--flow", "newer.py:report", "--json")
    assert (code, [one["outcome"] for one in json.loads(out)]) == (1, ["diverged", "diverged"])
    assert command("replay", "--all", "--state", "completed", "--since", "1h")[0] == 0
    assert "No runs match." in command("replay", "--name", "other")[1]


def test_a_check_says_who_may_go_on(folder):
    code, out, _ = command("check", "--flow", "sound.py:report")
    assert code == 0
    assert "report: 1 under way, 1 ended" in out
    assert "may go on " in out
    assert "ended: 1 same" in out
    code, out, _ = command("check", "--flow", "newer.py:report")
    assert code == 1
    assert "may not go on" in out
    code, out, _ = command("check", "--flow", "newer.py:report", "--json")
    assert len(json.loads(out)["blocked"]) == 1


def test_what_is_asked_wrongly_exits_with_2_and_says_what_to_do(folder):
    for words, said in [
        (["replay"], "Give a run, or --all"),
        (["replay", "report", "--all"], "Give a run, or --all"),
        (["replay", "nowhere"], "There is no run 'nowhere'"),
        (["replay", "--all", "--state", "sad"], "There is no state 'sad'"),
        (["replay", "--since", "soon"], "is no time"),
        (["replay", "report", "--flow", "broken.py:report"], "nothing_of_the_kind"),
        (["replay", "report", "--flow", "shop"], "names no flow"),
        (["replay", "report", "--flow", "shop.py:fetch"], "is a Task, and no flow"),
        (["check"], "Missing option '--flow'"),
    ]:
        code, _, err = command(*words)
        assert (code, said in err) == (2, True), (words, code, err)


def test_a_script_is_the_same_code_when_it_is_imported(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    import shop

    with pluperfect.open("lmdb:runs") as log:
        assert [one.outcome for one in log.replays(flow=shop.report)] == ["extended", "same"]

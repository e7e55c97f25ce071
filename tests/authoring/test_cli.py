"""The command line, as a real process where it matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.authoring.cli import main
from pluperfect.cache_policies import INPUTS
from pluperfect.runtime import task_run


@task(retries=1)
def shaky(n):
    if task_run.run_count == 1:
        raise ConnectionError("first time")
    if task_run.loop_count < 2:
        raise LOOP("again", result={"n": n})
    return n


@task(cache_policy=INPUTS)
def cached(x, y=0):
    return x + y


@flow
def whole(n):
    return shaky(n), cached(1), cached(1), cached(1, y=5)


@flow
def fails():
    raise ValueError("as expected")


@pytest.fixture
def store(tmp_path):
    uri = f"lmdb:{tmp_path / 'runs'}"
    with pluperfect.open(uri, entry_points=False):
        whole(7)
        with pytest.raises(ValueError):
            fails()
    return uri


@pytest.fixture
def cli(store):
    def run(*words, code=0):
        result = CliRunner().invoke(main, ["--store", store, *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return run


def test_runs_lists_roots_the_youngest_first(cli):
    rows = json.loads(cli("runs", "--json"))

    assert [(row["name"], row["state"]) for row in rows] == [("fails", "Failed"), ("whole", "Completed")]
    assert "whole" in cli("runs")
    assert len(json.loads(cli("runs", "--all", "--json"))) == 6
    assert len(json.loads(cli("runs", "--state", "cached", "--all", "--json"))) == 1
    assert json.loads(cli("runs", "--tag", "none", "--json")) == []


def test_a_wrong_use_exits_with_2_and_says_what_is_meant(cli):
    assert "Did you mean 'completed'" in cli("runs", "--state", "complete", code=2)
    assert "There is no run 'nobody'" in cli("show", "nobody", code=2)
    assert "Did you mean 'show'" in cli("sow", code=2)
    assert "0 to 3" in cli("show", "--at", "9", json.loads(cli("runs", "--json"))[0]["id"], code=2)


def test_show_json_has_every_attempt_payload_and_verdict(cli):
    run = json.loads(cli("show", json.loads(cli("runs", "--name", "whole", "--json"))[0]["id"], "--json"))

    assert run["inputs"] == {"n": 7}
    loop = run["children"][0]["history"]
    retrying = [entry for entry in loop if entry["to"]["kind"] == "Retrying"]
    assert [entry["asked"]["kind"] for entry in retrying] == ["Failed"] * 2
    assert retrying[0]["by"] == "retries"
    assert retrying[0]["asked"]["error"]["type"] == "ConnectionError"
    assert "test_cli.py" in retrying[0]["asked"]["error"]["traceback"]
    assert [entry["to"]["payload"] for entry in loop if entry["to"]["kind"] == "Looped"] == [{"n": 7}]
    hit = run["children"][2]["history"][1]
    assert (hit["to"]["kind"], hit["asked"]["kind"], hit["by"]) == ("Cached", "Running", "caching")


def test_show_at_folds_to_that_entry(cli):
    run = json.loads(cli("runs", "--name", "whole", "--json"))[0]["id"]

    assert json.loads(cli("show", run, "--at", "2", "--json"))["state"]["kind"] == "Running"
    assert "after event 2 of" in cli("show", run, "--at", "2")
    assert "Retrying" in cli("show", run)


def test_why_names_rules_and_the_part_of_the_key_that_changed(cli):
    text = cli("why", json.loads(cli("runs", "--name", "shaky", "--json"))[0]["id"])
    assert "rule retries made Retrying" in text
    assert "retry 1 of 1" in text

    assert "rule retries made Retrying" in cli("why", "whole")
    newest, hit, first = json.loads(cli("runs", "--name", "cached", "--json"))
    assert "changed since the nearest earlier call: input y" in cli("why", newest["id"])
    assert "rule caching made Cached" in cli("why", hit["id"])
    assert "no earlier call" in cli("why", first["id"])
    assert json.loads(cli("why", newest["id"], "--json"))[0]["depth"] == 0


def test_plugins_lists_names_versions_and_hooks_and_what_is_switched_off(cli):
    names = {row["name"]: row for row in json.loads(cli("plugins", "--json"))}

    assert {"retries", "caching", "callbacks", "prints", "results", "inspect", "memory", "lmdb", "threads"} <= set(
        names
    )
    assert "review" in names["retries"]["hooks"]
    assert names["retries"]["version"] == pluperfect.__version__
    result = CliRunner().invoke(main, ["--disable", "retries", "plugins"])
    assert "retries" not in result.output


def test_rebuild_check_finds_a_view_that_differs_and_rebuild_mends_it(cli, store):
    import lmdb

    assert "every view agrees" in cli("rebuild", "--check")
    env = lmdb.open(store.removeprefix("lmdb:"), max_dbs=32)
    db = env.open_db(b"by_name", create=False)
    with env.begin(write=True) as txn, txn.cursor(db) as cursor:
        cursor.first()
        cursor.delete()
    env.close()

    assert "by_name" in cli("rebuild", "--check", code=1)
    cli("rebuild")
    assert "every view agrees" in cli("rebuild", "--check")


def test_an_error_of_the_store_is_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "file").write_text("something else")
    result = CliRunner().invoke(main, ["--store", str(tmp_path / "file"), "runs"])

    assert result.exit_code == 1
    assert "a store is a folder" in result.output


def test_help_loads_no_heavy_module():
    code = (
        "import sys\n"
        "from pluperfect.authoring.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'msgspec', 'lmdb', 'rich', 'asyncio', 'cloudpickle'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "resume" in done.stdout


def test_python_m_pluperfect_is_the_command_line(store):
    done = subprocess.run(
        [sys.executable, "-m", "pluperfect", "--store", store, "runs", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)) == 2


SCRIPT = """
import os, sys
from pluperfect import flow, task
import pluperfect

@task
def step(n):
    print("step", n, flush=True)
    if n == 2 and not os.path.exists(sys.argv[0] + ".again"):
        open(sys.argv[0] + ".again", "w").close()
        os._exit(9)
    return n

@flow
def steps(count):
    return sum(step(n) for n in range(count))

if __name__ == "__main__":
    with pluperfect.open(os.environ["STORE"]):
        steps(4)
"""


def test_resume_goes_on_with_a_script_that_died(tmp_path):
    script, store = tmp_path / "program.py", f"lmdb:{tmp_path / 'runs'}"
    script.write_text(SCRIPT)
    died = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "STORE": store}, capture_output=True, check=False
    )
    assert died.returncode == 9
    with pluperfect.open(store) as log:
        run = log.runs(name="steps")[0].id
    argv0 = [
        sys.executable,
        "-c",
        f"import sys; sys.argv[0] = {str(script)!r}; from pluperfect.authoring.cli import main; main()",
    ]
    done = subprocess.run([*argv0, "--store", store, "resume", run], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["step 2", "step 3"]
    with pluperfect.open(store) as log:
        assert log.run(run).result() == 6
        assert log.compare() == []
    again = subprocess.run(
        [*argv0, "--store", store, "resume", run, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout)["state"] == "Completed"


def test_resume_of_a_failed_run_exits_with_1_and_of_a_task_says_why_not(cli):
    fail_id = json.loads(cli("runs", "--name", "fails", "--json"))[0]["id"]
    task_id = json.loads(cli("runs", "--name", "shaky", "--json"))[0]["id"]

    assert "Failed" in cli("resume", fail_id, code=1)
    assert "cannot be resumed by itself" in cli("resume", task_id, code=1)


@pytest.mark.parametrize("command", [["runs"], ["show", "1"], ["verify"], ["resume", "--all"], ["rebuild"]])
def test_a_command_on_a_store_that_is_not_there_says_so_and_makes_none(tmp_path, command):
    typo = tmp_path / "typo"

    for named in (str(typo), f"lmdb:{typo}"):
        result = CliRunner().invoke(main, ["--store", named, *command])
        assert result.exit_code == 2, result.output
        assert f"There is no store in {typo}" in result.output
        assert not typo.exists()
    for home in ({"PLUPERFECT_STORE": str(typo)}, {"PLUPERFECT_HOME": str(typo)}):
        result = CliRunner().invoke(main, command, env={"PLUPERFECT_STORE": None, "PLUPERFECT_HOME": None, **home})
        assert result.exit_code == 2, result.output
        assert "There is no store in" in result.output
        assert not typo.exists()

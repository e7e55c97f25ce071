"""A test from a history: it passes as it is written, needs no outside world, and fails when the code does something else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import pluperfect
from pluperfect import flow, task
from pluperfect.authoring.cli import main
from pluperfect.errors import Divergence
from pluperfect.states import Cancelled
from pluperfect.testing import calls, error, kinds, play, recorded, stubs

PAGES = """
import dataclasses

class BadPage(Exception):
    def __str__(self):
        return "page {}: {}".format(*self.args)

@dataclasses.dataclass
class Page:
    number: int
"""

PROGRAM = """
import asyncio, sys
import pluperfect
from pages import BadPage, Page
from pluperfect import LOOP, flow, task
from pluperfect.runtime import task_run

def reached(what):
    assert "--record" in sys.argv, f"the body of {what} was called"

@task(retries=1, retry_delay_seconds=3600)
def fetch(number):
    reached("fetch")
    if number == 2:
        raise BadPage(number, "gone")
    if number == 1:
        raise ConnectionError("no answer")
    return Page(number)

@task
def total(pages, scale=float("inf")):
    reached("total")
    return len(pages)

@task
def count(n):
    reached("count")
    if task_run.loop_count < n:
        raise LOOP("on")
    return {"n": n, "nan": float("nan")}

@task
async def later(n):
    reached("later")
    await asyncio.sleep(0.01)
    return n

@task
def items(n):
    yield from range(n)

@flow
def part(n):
    return total.map([[n], [n, n]]).result()

@flow(flow_run_name="crawl to {n}", retries=1)
def crawl(n: int, start: Page):
    states = [fetch(i, return_state=True) for i in range(n)]
    count(3)
    list(items(2))
    futures = [total.submit([i]) for i in range(3)]
    return [state.is_failed() for state in states], part(2), total([future.result() for future in futures])

@flow
async def gathering(n):
    return sum(await asyncio.gather(*[later(i) for i in range(n)]))

@flow
def fails():
    fetch(2)

if __name__ == "__main__":
    from pluperfect.testing import FakeClock
    with pluperfect.open("runs", clock=FakeClock()):
        crawl(3, Page(7))
        asyncio.run(gathering(3))
        fails(return_state=True)
"""


def in_process(folder, *words, **env):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        # No compiled module: one of the program before it was changed would be taken for its own, where both are of one second.
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PLUPERFECT_LOGGING_LEVEL": "ERROR",
            **env,
        },
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "pages.py").write_text(PAGES)
    done = in_process(folder, "program.py", "--record")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["crawl", "gathering", "fails"])
def test_a_written_test_passes_with_no_body_called_and_fails_when_the_flow_changes(program, name):
    written = in_process(program, "-m", "pluperfect", "--store", "runs", "test-from", name)
    assert written.returncode == 0, written.stderr
    (program / f"test_{name}.py").write_text(written.stdout)

    def tried():
        return in_process(
            program, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", f"test_{name}.py"
        )

    passed = tried()
    assert passed.returncode == 0, written.stdout + passed.stdout + passed.stderr
    changed = (
        PROGRAM.replace("fetch(i, ", "fetch(i + 1, ")
        .replace("later(i)", "later(i * 2)")
        .replace("fetch(2)", "fetch(3)")
    )
    (program / "program.py").write_text(changed)
    failed = tried()
    (program / "program.py").write_text(PROGRAM)
    assert failed.returncode == 1, failed.stdout
    assert "CALLS" in failed.stdout


def test_a_flow_of_a_module_is_imported_as_programs_import_it(program):
    code = "import program, pluperfect\nwith pluperfect.open('more'): program.crawl(0, program.Page(1))\n"
    done = in_process(program, "-c", code, "--record")
    assert done.returncode == 0, done.stderr
    written = in_process(program, "-m", "pluperfect", "--store", "more", "test-from", "crawl", "-o", "test_module.py")
    assert written.returncode == 0, written.stderr
    assert "from program import crawl" in (program / "test_module.py").read_text()
    passed = in_process(program, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_module.py")
    assert passed.returncode == 0, passed.stdout


def test_a_test_of_a_fork_has_stubs_for_what_the_fork_shares(program):
    forked = in_process(program, "-m", "pluperfect", "--store", "runs", "fork", "fails", "--set", "fetch:0=1")
    assert forked.returncode == 0, forked.stderr
    written = in_process(program, "-m", "pluperfect", "--store", "runs", "fork", "fails", "--json")
    assert written.returncode == 0, written.stderr
    written = in_process(program, "-m", "pluperfect", "--store", "runs", "test-from", "fails", "-o", "test_fork.py")
    assert "'fetch:0': 1," in (program / "test_fork.py").read_text()
    passed = in_process(program, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_fork.py")
    assert passed.returncode == 0, passed.stdout


REPLAYING = """
from pathlib import Path

def test_old_runs(replay_histories):
    replays = replay_histories(Path(__file__).parent / "histories", pattern="*.runs")
    assert {one.name for one in replays} == {"fails", "gathering"}  # a fork beside its parent counts once

def test_nothing_there(replay_histories):
    replay_histories("histories", pattern="*.none")
"""


def test_kept_histories_are_replayed_by_a_fixture_and_fail_the_test_when_code_does_something_else(program):
    (program / "histories").mkdir()
    (program / "test_histories.py").write_text(REPLAYING)
    for name in ("gathering", "fails"):
        done = in_process(
            program, "-m", "pluperfect", "--store", "runs", "export", name, "-o", f"histories/{name}.runs"
        )
        assert done.returncode == 0, done.stderr
    tried = in_process(program, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_histories.py")
    assert "1 failed, 1 passed" in tried.stdout, tried.stdout
    assert "There is no exported history in" in tried.stdout
    (program / "program.py").write_text(PROGRAM.replace("fetch(2)", "fetch(3)"))
    tried = in_process(program, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_histories.py")
    (program / "program.py").write_text(PROGRAM)
    assert "2 failed" in tried.stdout, tried.stdout
    assert "number = 2" in tried.stdout
    assert "number = 3" in tried.stdout


# --- stubs


@task
def fetch(page):
    raise AssertionError("the body was called")


@task
def save(text):
    raise AssertionError("the body was called")


@flow(retries=1)
def whole(n):
    texts = [fetch(page) for page in range(n)]
    for text in texts:
        save(text)
    return texts


def test_stubs_answer_in_the_place_of_bodies_and_are_on_record(log):
    run = play(whole, {"n": 2}, {"fetch:0": "a", "fetch:1": "b", "save:0": None, "save:1": None})

    assert run.result() == ["a", "b"]
    assert calls(run) == ["fetch:0(page=0)", "fetch:1(page=1)", "save:0(text='a')", "save:1(text='b')"]
    assert [kinds(child) for child in run.children] == [["Pending", "Cached"]] * 4
    assert {child.history[-1].by for child in run.children} == {"override"}


def test_a_call_without_a_stub_is_a_divergence_that_names_its_place(log):
    with pytest.raises(Divergence, match="The call fetch:1 has no stub"):
        play(whole, {"n": 2}, {"fetch": "a"})


def test_a_stub_may_hold_for_one_generation_alone(log):
    run = play(whole, {"n": 1}, {"fetch:0": ConnectionError("down"), "fetch:0@1": "up", "save": None})
    assert kinds(run) == ["Pending", "Running", "Retrying", "Running", "Completed"]
    assert calls(run) == ["fetch:0(page=0)", "fetch:0@1(page=0)", "save:0@1(text='up')"]


def test_errors_and_values_can_be_given_as_they_are_recorded(log):
    with stubs({"fetch": error("shop.SoldOut", "none left")}):
        state = whole(1, return_state=True)
    assert state.error.message == "shop.SoldOut: none left"
    with stubs({"fetch": recorded("msgpack", "oWE="), "save": None}):
        assert whole(1) == ["a"]
    with pytest.raises(ValueError, match="There is no codec 'gzip'"):
        recorded("gzip", "")


def test_what_is_live_is_carried_out(log):
    with pytest.raises(AssertionError, match="the body was called"):
        play(whole, {"n": 1}, {"fetch": 1}, live=["save"]).result()


# --- what cannot be made a test


@pytest.fixture
def command(tmp_path):
    @flow
    def stopped():
        return Cancelled()

    store = str(tmp_path / "runs")
    with pluperfect.open(store, entry_points=False) as log:
        play(whole, {"n": 1}, {"fetch": "a", "save": None})
        stopped(return_state=True)
        part = log.runs(name="fetch")[0].id

    def call(*words, code=1):
        result = CliRunner().invoke(main, ["--store", store, "test-from", *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return call, part


def test_a_run_that_no_code_alone_comes_to_is_refused(command):
    call, part = command
    assert "was ended from outside" in call("stopped")
    assert "is no flow that was called from outside" in call(part)
    assert "There is no run 'nobody'" in call("nobody", code=2)


def test_a_file_that_is_there_is_kept_and_a_folder_that_is_not_is_named(command, tmp_path):
    call, _ = command
    there = tmp_path / "test_whole.py"
    there.write_text("mine")
    assert "nothing was written" in call("whole", "-o", str(there), code=2)
    assert there.read_text() == "mine"
    told = call("whole", "-o", str(there), "--force", code=0)
    assert told.startswith(f"{there}: the test of run ")
    assert "def test_" in there.read_text()
    assert f"there is no folder {tmp_path / 'none'}" in call("whole", "-o", str(tmp_path / "none" / "x.py"), code=2)


def test_of_several_runs_of_one_name_it_is_said_which_one_was_taken(tmp_path):
    @flow(flow_run_name="daily")
    def named():
        return 1

    store = str(tmp_path / "runs")
    with pluperfect.open(store, entry_points=False) as log:
        named()
        alone = CliRunner().invoke(main, ["--store", store, "show", "daily"])
        named()
        younger, older = log.runs(name="named")
    told = CliRunner().invoke(main, ["--store", store, "show", "daily"])
    assert "runs are called" not in alone.stderr
    assert (
        told.stderr.strip() == f"2 runs are called daily: this is the youngest, {younger.id}. The others: {older.id}."
    )

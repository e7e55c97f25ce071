"""Reading what is on record."""

from __future__ import annotations

import threading

import pytest

import pluperfect
from pluperfect import Completed, flow, task
from pluperfect.errors import UnknownRun


@task(tags=["numbers"])
def double(n):
    return n * 2


@flow
def doubles(n):
    return [double(i) for i in range(n)]


@flow
def fails():
    raise ValueError("no")


def test_runs_are_found_by_state_name_and_tag_the_youngest_first(log):
    doubles(2)
    doubles(1)
    with pytest.raises(ValueError):
        fails()

    assert [run.folded.birth.name for run in log.runs(roots=True)] == ["fails", "doubles", "doubles"]
    assert len(log.runs(state="completed", roots=True)) == 2
    assert len(log.runs(state=Completed)) == 5
    assert len(log.runs(state="Failed")) == 1
    assert [run.parameters["n"] for run in log.runs(name="doubles")] == [1, 2]
    assert len(log.runs(tag="numbers")) == 3
    assert len(log.runs(tag="numbers", limit=2)) == 2
    assert log.runs(name="doubles", state="failed") == []


def test_an_unknown_state_names_the_known_ones(log):
    with pytest.raises(ValueError, match="Did you mean 'completed'"):
        log.runs(state="complete")


def test_at_folds_to_any_entry(log):
    doubles(1)
    run = log.runs(roots=True)[0]

    assert [run.after(n).state and run.after(n).state.kind for n in range(4)] == [
        None,
        "Pending",
        "Running",
        "Completed",
    ]
    assert run.after(2).seq == 2
    with pytest.raises(IndexError, match="3 entries"):
        run.after(4)


def test_a_run_is_found_by_id_prefix_suffix_and_name(log):
    doubles(1)
    run = log.runs(roots=True)[0]

    for text in (run.id, run.id.replace("-", ""), run.id.replace("-", "")[-8:], run.name, "doubles"):
        assert log.run(text) == run


def test_an_unknown_run_is_an_error_that_names_close_ones(log):
    doubles(1)
    name = log.runs(roots=True)[0].name

    with pytest.raises(UnknownRun, match=f"Close: .*{name}"):
        log.run(name[:-1])
    with pytest.raises(KeyError):
        log.run("ffffffff")


def test_a_history_prints_one_line_an_entry(log):
    doubles(1)
    lines = [str(transition) for transition in log.runs(roots=True)[0].history]

    assert len(lines) == 3
    assert lines[0].split()[0] == "1"
    assert "Z  Pending" in lines[0]
    assert "Running attempt 1" in lines[1]


def test_a_run_has_a_one_line_repr(log):
    doubles(2)
    text = repr(log.runs(roots=True)[0])

    assert text.startswith("<Run doubles/")
    assert "Completed" in text
    assert "2 children" in text


def test_follow_catches_up_and_then_waits_for_what_comes(log):
    doubles(1)
    seen = []
    done = threading.Event()

    def follow():
        for entry in log.follow(timeout=20):
            seen.append(entry)
            if entry.entry.to.kind == "Failed":
                done.set()
                return

    thread = threading.Thread(target=follow)
    thread.start()
    with pytest.raises(ValueError):
        fails()
    assert done.wait(20)
    thread.join()

    assert [entry.position for entry in seen] == list(range(1, len(seen) + 1))
    assert [entry.entry.to.kind for entry in seen[-3:]] == ["Pending", "Running", "Failed"]
    again = list(log.follow(after=seen[-2].position, timeout=0.01))
    assert [entry.position for entry in again] == [seen[-1].position]


def test_the_default_log_is_opened_once_in_home_and_closed_at_exit_with_nothing_lost(tmp_path):
    import os
    import subprocess
    import sys

    program = "from pluperfect import task\n@task(durability='lazy')\ndef one(): return 1\none()\none()\n"
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "PLUPERFECT_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, str(script)], check=True, env=environment)

    with pluperfect.open(f"lmdb:{tmp_path / 'home' / 'runs'}") as log:
        assert [run.state.kind for run in log.runs(name="one")] == ["Completed"] * 2


def test_runs_of_threads_that_the_host_started_go_to_the_log_that_is_open(log):
    threads = [threading.Thread(target=double, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(log.runs(name="double")) == 3

"""The place of a call in the user's code is recorded with its birth."""

from __future__ import annotations

import _thread
import asyncio
import subprocess
import sys
import threading
from contextvars import copy_context

from pluperfect import flow, task
from pluperfect.sites import line_of, shown_site


@task
def one(x=0):
    return x


@task
async def later(x=0):
    return x


def helper():
    return one(1)  # in a helper


@flow
def whole():
    one()  # direct
    one.submit(2).result()  # submitted
    one.map([3, 4]).result()  # mapped
    helper()
    inner()  # subflow


@flow
def inner():
    return 1


@flow
async def gathering():
    calls = [later(1)]  # made here
    calls.append(later(2))  # and there
    await asyncio.gather(*calls)


def texts(run):
    return [line_of(child.folded.birth.site).text for child in run.children]


def test_a_birth_names_the_line_that_made_the_call_whatever_the_way(log):
    whole()

    run = log.run("whole")
    assert texts(run) == [
        "one()  # direct",
        "one.submit(2).result()  # submitted",
        "one.map([3, 4]).result()  # mapped",
        "one.map([3, 4]).result()  # mapped",
        "return one(1)  # in a helper",
        "inner()  # subflow",
    ]
    assert line_of(run.folded.birth.site).text == "whole()"
    assert run.folded.birth.site.partition(":")[0] == __name__


def test_a_coroutine_is_called_where_it_was_made_and_not_where_the_loop_begins_it(log):
    asyncio.run(gathering())

    assert sorted(texts(log.run("gathering"))) == [
        "calls = [later(1)]  # made here",
        "calls.append(later(2))  # and there",
    ]


def test_a_call_in_a_script_names_its_file(tmp_path, monkeypatch):
    script = tmp_path / "program.py"
    script.write_text(
        "import pluperfect\nfrom pluperfect import flow\n@flow\ndef alone(): return 1\n"
        "with pluperfect.open('memory:') as log:\n    alone()\n    print(log.run('alone').folded.birth.site)\n"
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)

    site = done.stdout.strip()
    assert site == f"{script}:6"
    assert line_of(site).text == "alone()"
    monkeypatch.chdir(tmp_path)
    assert shown_site(site) == "program.py:6"


def test_a_call_above_which_no_code_stands_has_no_place(log):
    begun = threading.Event()

    @flow
    def alone():
        begun.set()

    _thread.start_new_thread(copy_context().run, (alone,))

    assert begun.wait(60)
    assert log.run("alone").folded.birth.site == ""


def test_a_line_is_found_without_an_import_and_what_is_gone_is_none(tmp_path, monkeypatch):
    package = tmp_path / "never_imported"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "steps.py").write_text("first()\nsecond()\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert line_of("never_imported.steps:2").text == "second()"
    assert "never_imported" not in sys.modules
    for gone in (
        "never_imported.steps:9",
        "never_imported.other:1",
        "nowhere:1",
        "",
        ":3",
        "x:y",
        f"{tmp_path}/no.py:1",
    ):
        assert line_of(gone) is None

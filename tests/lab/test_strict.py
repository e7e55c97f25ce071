"""Strict mode: what reaches outside is stopped where it stands, by name; what does not goes on."""

import asyncio
import contextvars
import importlib
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from pluperfect.errors import SideEffect
from pluperfect.strict import strict

HERE = re.escape(__file__)


def connect(folder):
    with socket.socket(socket.AF_INET):
        pass


def look_up(folder):
    socket.getaddrinfo("localhost", 80)


def talk_to_a_local_server(folder):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(folder / "nobody"))


def start_a_process(folder):
    subprocess.run([sys.executable, "-c", ""], check=False)


def use_the_shell(folder):
    os.system("true")


def fork(folder):
    if os.fork() == 0:
        os._exit(0)


def write(folder):
    (folder / "new").write_text("x")


def write_by_descriptor(folder):
    os.close(os.open(folder / "new", os.O_CREAT | os.O_WRONLY))


def append(folder):
    with open(folder / "old", "a"):
        pass


def remove(folder):
    (folder / "old").unlink()


def rename(folder):
    os.replace(folder / "old", folder / "new")


def make_a_folder(folder):
    tempfile.mkdtemp(dir=folder)


def open_a_database(folder):
    sqlite3.connect(folder / "data.db").close()


OFFENCES = [
    connect,
    look_up,
    talk_to_a_local_server,
    start_a_process,
    use_the_shell,
    fork,
    write,
    write_by_descriptor,
    append,
    remove,
    rename,
    make_a_folder,
    open_a_database,
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "old").write_text("kept")
    return tmp_path


@pytest.mark.parametrize("act", OFFENCES, ids=lambda act: act.__name__)
def test_what_reaches_outside_raises_where_it_stands_and_leaves_nothing(act, folder):
    with strict("a replay") as watch, pytest.raises(SideEffect) as caught:
        act(folder)

    line = act.__code__.co_firstlineno
    assert re.match(rf"{HERE}:({'|'.join(str(n) for n in range(line + 1, line + 4))})$", caught.value.place)
    assert f"{caught.value.place} tries to" in str(caught.value)
    assert "in a replay" in str(caught.value)
    assert watch.offences == [caught.value]
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert (folder / "old").read_text() == "kept"


@pytest.mark.parametrize("act", [write, connect], ids=lambda act: act.__name__)
def test_outside_of_the_block_nothing_is_forbidden(act, folder):
    act(folder)
    with strict():
        pass
    act(folder)


def test_reading_logging_and_an_event_loop_are_no_offence(folder, capfd):
    async def nap():
        await asyncio.sleep(0)
        return 1

    with strict() as watch:
        assert (folder / "old").read_text() == "kept"
        assert list(folder.iterdir())
        print("said", file=sys.stderr)
        logging.getLogger("tests.strict").error("logged")
        assert asyncio.run(nap()) == 1
        with open(os.devnull, "w") as nothing:
            nothing.write("x")
        sqlite3.connect(":memory:").close()
    assert watch.offences == []
    assert "said" in capfd.readouterr().err


def test_an_import_may_leave_its_bytecode(folder, monkeypatch):
    (folder / "pluperfect_strictly_new.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    importlib.invalidate_caches()
    with strict() as watch:
        assert importlib.import_module("pluperfect_strictly_new").X == 1
    assert watch.offences == []
    assert (folder / "__pycache__").is_dir()


def test_where_files_are_closed_reading_is_an_offence_but_modules_and_time_zones_are_not(folder, monkeypatch):
    from zoneinfo import ZoneInfo

    (folder / "pluperfect_strictly_read.py").write_text("X = 2\n")
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    with strict(reading=False) as watch:
        assert importlib.import_module("pluperfect_strictly_read").X == 2
        ZoneInfo.no_cache("Europe/Berlin")
        with pytest.raises(SideEffect, match="read the file"):
            (folder / "old").read_text()
    assert len(watch.offences) == 1


def test_an_offence_that_the_code_swallows_is_on_record_all_the_same(folder):
    with strict() as watch:
        try:
            write(folder)
        except Exception:
            pass
    assert [offence.event for offence in watch.offences] == ["open"]


def test_threads_and_contexts_that_begin_inside_are_watched_and_others_are_not(folder):
    caught, free = [], []
    inside, done = threading.Event(), threading.Event()

    def bystander():
        inside.wait(30)
        try:
            (folder / "other").write_text("x")
            free.append(True)
        finally:
            done.set()

    def within():
        try:
            write(folder)
        except SideEffect as error:
            caught.append(error.place)

    other = threading.Thread(target=bystander)
    other.start()
    with strict() as watch:
        inside.set()
        done.wait(30)
        for start in (within, lambda: contextvars.copy_context().run(within)):
            thread = threading.Thread(target=start)
            thread.start()
            thread.join(30)
    other.join(30)
    assert len(caught) == len(watch.offences) == 2
    assert free == [True]


def test_a_thread_that_outlives_the_block_is_free_again(folder):
    go = threading.Event()

    def later():
        go.wait(30)
        write(folder)

    with strict() as watch:
        thread = threading.Thread(target=later)
        thread.start()
    go.set()
    thread.join(30)
    assert (folder / "new").read_text() == "x"
    assert watch.offences == []


def test_blocks_nest_and_the_outer_one_holds_again(folder):
    with strict("the outer") as outer:
        with strict("the inner") as inner, pytest.raises(SideEffect, match="in the inner"):
            write(folder)
        with pytest.raises(SideEffect, match="in the outer"):
            write(folder)
    assert (len(outer.offences), len(inner.offences)) == (1, 1)


def test_the_line_named_is_the_users_however_deep_the_library_it_calls(folder):
    with strict(), pytest.raises(SideEffect) as caught:
        Path(folder / "new").open("w")
    assert caught.value.place.startswith(f"{__file__}:")

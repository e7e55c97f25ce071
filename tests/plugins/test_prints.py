"""Prints of a run go to its log, and those of nobody else."""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import io
import logging
import sys
import threading
import types

import pytest

from pluperfect.ambient import current_body
from pluperfect.hooks import Definition
from pluperfect.states import Running, Spec
from pluperfect.transitions import Run
from pluperfect_plugins import prints

PLAIN = builtins.print
CHECK = prints.options("task")[0].check


def listening(wanted, kind="flow", name="f-0"):
    spec = Spec(kind, "f", "f", name, bytes(16))
    run = Run(b"r" * 16, 2, Running(), spec)
    manager = prints.during(run, Definition(kind, "f", fn=PLAIN, options={"log_prints": wanted}))
    return None if manager is None else called(run, manager)


@contextlib.contextmanager
def called(run, manager):
    """As the engine does it: the run is the body at hand."""
    token = current_body.set(types.SimpleNamespace(run=run))
    try:
        with manager:
            yield
    finally:
        current_body.reset(token)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "pluperfect")
    return lambda: [(r.name, r.getMessage(), r.run_name) for r in caplog.records]


@pytest.fixture(autouse=True)
def _left_as_it_was():
    yield
    assert builtins.print is PLAIN


def test_a_print_goes_to_the_logger_of_its_kind_with_the_run_on_the_record(lines, caplog, capsys):
    for kind in ("flow", "task"):
        with listening(True, kind, f"{kind}-0"):
            print("a", 1, sep="-")

    assert lines() == [("pluperfect.flow_runs", "a-1", "flow-0"), ("pluperfect.task_runs", "a-1", "task-0")]
    assert {(record.levelname, record.run_id) for record in caplog.records} == {("INFO", (b"r" * 16).hex())}
    assert capsys.readouterr().out == ""


def test_a_percent_sign_is_no_format(lines):
    with listening(True):
        print("100%s", "%d")

    assert lines()[0][1] == "100%s %d"


def test_where_nothing_is_said_nothing_is_entered():
    assert listening(None) is None


def test_a_task_may_say_otherwise_than_its_flow_and_afterwards_the_flow_is_heard_again(lines, capsys):
    with listening(True):
        with listening(False, "task"):
            print("unheard")
        print("heard")

    assert [line[1] for line in lines()] == ["heard"]
    assert capsys.readouterr().out == "unheard\n"


def test_print_is_replaced_while_somebody_listens_and_no_longer():
    with listening(True):
        assert builtins.print is not PLAIN
        with listening(True, "task"):
            pass
        assert builtins.print is not PLAIN
    assert builtins.print is PLAIN


def test_print_is_put_back_after_an_error():
    with pytest.raises(OSError), listening(True):
        raise OSError
    assert builtins.print is PLAIN


def test_other_threads_and_other_contexts_print_as_ever(lines, capsys):
    outside = contextvars.copy_context()
    with listening(True):
        thread = threading.Thread(target=print, args=("thread",))
        thread.start()
        thread.join()
        outside.run(lambda: print("context"))
        contextvars.copy_context().run(lambda: print("inside"))

    assert [line[1] for line in lines()] == ["inside"]
    assert capsys.readouterr().out == "thread\ncontext\n"


def test_a_print_to_a_file_goes_to_the_file(lines, capsys):
    file = io.StringIO()
    with listening(True):
        print("to a file", file=file)
        print("to errors", file=sys.stderr)
        print("to the log", file=sys.stdout)

    assert file.getvalue() == "to a file\n"
    assert capsys.readouterr().err == "to errors\n"
    assert [line[1] for line in lines()] == ["to the log"]


def test_a_handler_that_prints_is_not_heard_again(lines, capsys):
    class Printing(logging.Handler):
        def emit(self, record):
            print("handled", record.getMessage())

    handler = Printing()
    logging.getLogger("pluperfect.flow_runs").addHandler(handler)
    try:
        with listening(True):
            print("once")
    finally:
        logging.getLogger("pluperfect.flow_runs").removeHandler(handler)

    assert [line[1] for line in lines()] == ["once"]
    assert capsys.readouterr().out == "handled once\n"


def test_a_print_that_somebody_else_has_put_in_is_kept(monkeypatch, lines):
    theirs = []
    monkeypatch.setattr(builtins, "print", lambda *values, **_: theirs.append(values))
    with listening(True):
        print("heard")
        with listening(False):
            print("theirs")
    assert builtins.print is not PLAIN
    monkeypatch.undo()

    assert theirs == [("theirs",)]


def test_where_no_logging_is_configured_a_print_is_still_seen_and_no_line_twice_once_it_is(tmp_path):
    import subprocess

    code = (
        "import logging, pluperfect\n"
        "@pluperfect.flow(log_prints=True)\n"
        "def whole(word): print(word)\n"
        "with pluperfect.open('memory:'):\n"
        "    whole('bare')\n"
        "    logging.basicConfig(level=logging.INFO, format='HOST %(message)s')\n"
        "    whole('configured')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)

    bare, configured = (
        [line for line in done.stderr.splitlines() if line.endswith(word)] for word in ("bare", "configured")
    )
    assert len(bare) == 1
    assert "| INFO    | Flow run '" in bare[0]
    assert configured == ["HOST configured"]
    assert done.stdout == ""


@pytest.mark.parametrize("value", ["yes", 1, 0])
def test_only_yes_no_and_as_the_caller_has_it_can_be_said(value):
    with pytest.raises(TypeError, match="log_prints"):
        CHECK(value)

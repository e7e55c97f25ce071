"""Who carries out a tree of runs: one process at a time, for as long as it lives, with every change of hands on record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from click.testing import CliRunner

import pluperfect
from pluperfect import LOOP, effect_id, flow, task
from pluperfect.authoring.cli import main
from pluperfect.errors import Fenced, Refused
from pluperfect.testing import FakeClock, kinds
from waiting import until

PROGRAM = """
import os, sys, time
import pluperfect
from pluperfect import flow, task

folder = sys.argv[2]

def note(*words):
    with open(os.path.join(folder, "effects"), "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def wait_for(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.005)

@task
def step(n):
    note("step", n)
    if n == int(os.environ.get("HALT", 99)):
        open(os.path.join(folder, "halted"), "w").close()
        wait_for("go")
    return n

@flow
def job():
    return sum(step(n) for n in range(4))

if __name__ == "__main__":
    with pluperfect.open(sys.argv[1]):
        try:
            note("result", job.with_options(idempotency_key="one")())
        except Exception as error:
            note(type(error).__name__)
            raise
"""


class Machine:
    """A folder with a program, its store, and what the program did to the world."""

    def __init__(self, folder):
        self.folder, self.store = folder, f"lmdb:{folder / 'runs'}"
        self.script = folder / "job_script.py"
        self.script.write_text(PROGRAM)

    def start(self, halt=99, lease=60.0):
        env = {**os.environ, "HALT": str(halt), "PLUPERFECT_LEASE_SECONDS": str(lease)}
        return subprocess.Popen(
            [sys.executable, str(self.script), self.store, str(self.folder)],
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def halted(self):
        return (self.folder / "halted").exists()

    def go(self):
        (self.folder / "go").touch()

    def effects(self):
        path = self.folder / "effects"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def noted(machine):
    with pluperfect.open(machine.store) as log:
        assert log.compare() == []
        return [(note.kind, note.body.get("why", ""), note.body["epoch"]) for note in log.journal("job")]


def test_of_two_processes_that_carry_out_the_same_run_one_is_fenced_and_each_effect_is_recorded_once(machine):
    first = machine.start(halt=1)
    until(machine.halted)
    second = machine.start()
    _, told = second.communicate(timeout=30)
    machine.go()
    first.communicate(timeout=30)

    assert (first.returncode, second.returncode) == (0, 1)
    assert "Fenced: Run " in told
    assert f"is carried out by process {first.pid} on " in told
    assert machine.effects() == ["step 0", "step 1", "Fenced", "step 2", "step 3", "result 6"]
    assert [kind for kind, _, _ in noted(machine)] == ["fenced"]


def test_a_dead_owner_is_recognised_at_once_however_long_its_lease(machine):
    first = machine.start(halt=2, lease=3600.0)
    until(machine.halted)
    first.kill()
    first.communicate()
    second = machine.start()
    machine.go()
    _, told = second.communicate(timeout=30)

    assert second.returncode == 0, told
    assert machine.effects() == ["step 0", "step 1", "step 2", "step 2", "step 3", "result 6"]
    assert noted(machine) == [("lease", "its process has ended", 2)]


def test_a_paused_process_that_wakes_after_its_lease_was_taken_is_refused_and_the_refusal_is_on_record(machine):
    zombie = machine.start(halt=1, lease=0.3)
    until(machine.halted)
    zombie.send_signal(signal.SIGSTOP)
    machine.go()
    try:

        def taken():
            heir = machine.start()
            _, told = heir.communicate(timeout=30)
            assert heir.returncode == 0 or "Fenced" in told, told
            return heir.returncode == 0

        until(taken)
    finally:
        zombie.send_signal(signal.SIGCONT)
    _, told = zombie.communicate(timeout=30)

    assert zombie.returncode == 1
    assert "was taken over" in told
    assert machine.effects().count("result 6") == 1
    notes = noted(machine)
    assert ("lease", 2) in {(kind, epoch) for kind, _, epoch in notes}
    assert any("not heard of" in why for _, why, _ in notes)
    assert notes[-1][0] == "fenced"
    with pluperfect.open(machine.store) as log:
        run = log.run("job")
        assert [kinds(child) for child in run.children] == [
            ["Pending", "Running", "Completed"],
            ["Pending", "Running", "Retrying", "Running", "Completed"],
            ["Pending", "Running", "Completed"],
            ["Pending", "Running", "Completed"],
        ]


def test_a_living_owner_is_heard_of_while_a_long_call_goes_on(machine):
    owner = machine.start(halt=1, lease=0.3)
    until(machine.halted)
    time.sleep(1.0)  # three leases long: what is shown is that nothing happens meanwhile
    other = machine.start()
    _, told = other.communicate(timeout=30)
    machine.go()
    owner.communicate(timeout=30)

    assert (owner.returncode, other.returncode) == (0, 1), told
    assert "result 6" in machine.effects()


def test_a_store_that_stopped_holds_nothing_back_from_the_process_that_opens_it_again(tmp_path):
    stopping = []

    @task
    def step(log):
        if not stopping:
            stopping.append(log)
            log.log._store.writer._broken = OSError("the disk is gone")  # what a failed write of the meta page does
        return 1

    @flow
    def job(n):
        return [step(pluperfect.authoring.logs.nearest_log()) for _ in range(n)]

    keyed = job.with_options(idempotency_key="k")
    with pytest.raises(pluperfect.errors.StoreClosed), pluperfect.open(f"lmdb:{tmp_path / 'runs'}"):
        keyed(2)
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}") as log:
        assert keyed(2) == [1, 1]
        assert [note.body["why"] for note in log.journal("job")] == [
            "this process had opened the store before, and closed it"
        ]


def test_a_run_that_was_left_open_is_let_go_of(tmp_path):
    @flow
    def breaks():
        raise KeyboardInterrupt

    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}") as log:
        with pytest.raises(KeyboardInterrupt):
            breaks()
        root = bytes.fromhex(log.runs()[0].id.replace("-", ""))
        log.flush()
        assert log.log.holder(root) is None


def test_what_is_being_carried_out_is_neither_interrupted_nor_in_doubt(log):
    seen = []

    @task
    def looks():
        seen.extend([log.in_doubt(), log.interrupted(), log.recover()])
        seen.append(log.log.holder(bytes.fromhex(log.runs(roots=True)[0].id.replace("-", ""))).gone)

    @flow
    def job():
        looks()

    job()
    assert seen == [[], [], [], ""]


def test_nothing_is_leased_once_all_has_ended(tmp_path):
    @flow
    def ends():
        return 1

    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}") as log:
        for _ in range(3):
            ends()
        log.flush()
        with log.log._rows() as rows:
            assert rows.last("lease") is None
            assert rows.last("owner") is not None
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}") as log, log.log._rows() as rows:
        assert rows.last("owner") is None


# --- what is in doubt, and what becomes of it


LEFT = """
    import os, sys
    import pluperfect
    from pluperfect import flow, task

    @task(on_interrupt={on_interrupt!r})
    def mail(to):
        with open(os.environ["SENT"], "a") as file:
            file.write(to + "\\n")
        if not os.environ.get("WELL"):
            os._exit(9)
        return "sent"

    @flow
    def letters():
        return [mail("a"), mail("b")]

    if __name__ == "__main__":
        with pluperfect.open(sys.argv[1]):
            letters.with_options(idempotency_key="l")()
"""


@pytest.fixture
def left(tmp_path, monkeypatch):
    """A store with a run whose process died in the middle of a task; gives its address."""

    def make(on_interrupt="retry"):
        script = tmp_path / "letters_script.py"
        script.write_text(textwrap.dedent(LEFT.format(on_interrupt=on_interrupt)))
        monkeypatch.setenv("SENT", str(tmp_path / "sent"))
        uri = f"lmdb:{tmp_path / 'runs'}"
        assert subprocess.run([sys.executable, str(script), uri], check=False).returncode == 9
        monkeypatch.setenv("WELL", "1")
        monkeypatch.chdir(tmp_path)
        return uri

    make.sent = lambda: (tmp_path / "sent").read_text().split()
    return make


def test_what_is_in_doubt_is_listed_and_its_flow_is_interrupted(left):
    with pluperfect.open(left()) as log:
        assert [run.name for run in log.in_doubt()] == ["mail-0"]
        assert [run.folded.birth.name for run in log.interrupted()] == ["letters"]


def test_the_list_of_runs_says_which_were_left_behind_and_what_goes_on_with_them(left):
    uri = left()

    before = CliRunner().invoke(main, ["--store", uri, "runs"]).output
    assert "Running, interrupted" in before
    assert "`pluperfect resume RUN`" in before
    assert CliRunner().invoke(main, ["--store", uri, "resume", "--all"]).exit_code == 0
    assert "interrupted" not in CliRunner().invoke(main, ["--store", uri, "runs"]).output.lower()


def test_recover_goes_on_with_what_dead_processes_left(left):
    with pluperfect.open(left()) as log:
        (done,) = log.recover()

        assert (done.outcome, done.run.state.kind) == ("ended", "Completed")
        assert done.run.result() == ["sent", "sent"]
        assert left.sent() == ["a", "a", "b"]
        assert log.recover() == log.in_doubt() == log.interrupted() == []


def test_recover_leaves_a_run_that_killed_too_many_processes(left, monkeypatch, tmp_path):
    uri = left()
    monkeypatch.delenv("WELL")
    for _ in range(2):
        again = [sys.executable, str(tmp_path / "letters_script.py"), uri]
        assert subprocess.run(again, check=False).returncode == 9
    monkeypatch.setenv("WELL", "1")
    with pluperfect.open(uri) as log:
        (done,) = log.recover(limit=3)
        assert done.outcome == "given up"
        assert "3 processes died of it" in done.why
        (done,) = log.recover(limit=4)
        assert done.outcome == "ended"


def test_recover_takes_only_the_flows_it_is_told_to(left):
    with pluperfect.open(left()) as log:
        assert log.recover(only=["others"]) == []
        with pytest.raises(ValueError, match="1 or more, not 0"):
            log.recover(limit=0)


@pytest.mark.parametrize(
    ("action", "result", "answer", "sent"),
    [
        ("retry", None, ["sent", "sent"], ["a", "a", "b"]),
        ("skip", None, [None, "sent"], ["a", "b"]),
        ("result", "by hand", ["by hand", "sent"], ["a", "b"]),
        ("fail", None, None, ["a"]),
    ],
)
def test_a_repair_is_recorded_and_the_flow_goes_on_with_it(left, action, result, answer, sent):
    with pluperfect.open(left()) as log:
        (doubt,) = log.in_doubt()
        log.repair(doubt.id, action, result=result, why="the post office says so")
        entry = doubt.history[-1]
        (done,) = log.recover()

        assert (entry.by, entry.why) == ("repair", "the post office says so")
        assert left.sent() == sent
        assert log.in_doubt() == log.interrupted() == []
        if answer is None:
            assert done.run.state.is_failed()
            assert doubt.state.cause == "in_doubt"
        else:
            assert done.run.result() == answer


def test_a_repair_is_judged_by_the_rules(left):
    class Strict:
        @pluperfect.hookimpl
        def review(self, run, proposal):
            return pluperfect.Verdict(refuse="never by hand") if proposal.to.is_completed() else None

    with pluperfect.open(left(), plugins=[Strict()]) as log:
        (doubt,) = log.in_doubt()
        with pytest.raises(Refused, match="never by hand"):
            log.repair(doubt.id, "skip")
        assert str(doubt.history[-1]).strip().endswith("never by hand")
        assert [run.name for run in log.in_doubt()] == ["mail-0"]


def test_only_what_is_in_doubt_can_be_repaired(left):
    with pluperfect.open(left()) as log:
        with pytest.raises(ValueError, match="'retry', 'fail', 'skip' or 'result', not 'mend'"):
            log.repair("letters", "mend")
        log.recover()
        with pytest.raises(ValueError, match="is in no doubt: it is Completed"):
            log.repair("mail-0", "skip")


def test_a_run_that_somebody_carries_out_cannot_be_repaired(machine):
    owner = machine.start(halt=1)
    until(machine.halted)
    with pluperfect.open(machine.store) as log:
        assert log.in_doubt() == log.interrupted() == []
        with pytest.raises(Fenced, match=f"carried out by process {owner.pid}"):
            log.repair("step-1", "skip")
    machine.go()
    owner.communicate(timeout=30)
    assert owner.returncode == 0


def test_a_call_that_must_not_be_made_twice_is_never_made_twice(left):
    with pluperfect.open(left("fail")) as log:
        (done,) = log.recover()
        assert done.run.state.is_failed()
        assert left.sent() == ["a"]
        assert log.run("mail-0").state.cause == "in_doubt"


def test_the_command_line_lists_repairs_and_resumes(left):
    uri = left()

    def cli(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "pluperfect", "--store", uri, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "mail-0" in cli("repair")
    assert "Give a run, or --all" in cli("resume", code=2)
    assert "Say what became of it" in cli("repair", "mail-0", code=2)
    assert "by repair: seen in the archive" in cli(
        "repair", "mail-0", "result", "--value", '"old"', "--why", "seen in the archive"
    )
    assert "Nothing is in doubt." in cli("repair")
    assert "ended" in cli("resume", "--all")
    assert "Nothing is left behind." in cli("resume", "--all")
    assert left.sent() == ["a", "b"]


# --- a key for effects


def test_the_effect_id_is_the_same_for_every_attempt_and_another_for_each_iteration_call_and_run():
    seen = []

    @task(retries=1)
    def acts():
        seen.append((effect_id(), effect_id("attempt")))
        if len(seen) == 1:
            raise ValueError
        if len(seen) == 2:
            raise LOOP(result=1)
        return effect_id()

    @flow
    def two():
        return [acts(), acts()]

    with pluperfect.open("memory:", clock=FakeClock()):
        two()
    runs, attempts = [run for run, _ in seen], [attempt for _, attempt in seen]
    assert runs[0] == runs[1]
    assert len({*runs}) == 3
    assert len({*attempts}) == 4
    with pytest.raises(pluperfect.errors.MissingContextError, match="in the body of one"):
        effect_id()
    with pytest.raises(ValueError, match="per 'run' or per 'attempt', not per 'day'"):
        effect_id("day")

"""The real store under real kills does what the model allows, and the program without its waits does not."""

from __future__ import annotations

import os
import random

import pytest

import checkers
import pluperfect
from model import recorder, tlc, traces

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]


def killed(folder, chance, kills, level="effect"):
    """A recorder of a run that was killed so often, unless it ended before, and then came to its end."""
    made = recorder.Recorder(folder, level)
    ended = False
    while not ended and kills:
        # Some notes, each of which stands for a moment of interest, and then anywhere in the next commits.
        ended = made.run(kill_after=chance.randint(1, 9), then=chance.uniform(0, 0.02))
        kills -= 1
    assert ended or made.run()
    with pluperfect.open(made.store, entry_points=False) as log:
        checkers.check(log.log)
        (root,) = log.runs(roots=True)
        assert root.state.is_final()
    return made


def test_a_flow_killed_and_resumed_leaves_a_trace_that_the_model_accepts(tmp_path):
    tlc.need()
    steps = killed(tmp_path / "killed", random.Random(1), kills=4).trace()
    epochs = [step["epoch"] for step in steps if step["a"] == "acquire"]

    assert len(epochs) >= 2, "nothing was taken over"
    assert {step["a"] for step in steps} == {"acquire", "append", "sync", "user", "ack", "kill"}
    assert steps[-2:] == [{"a": "ack", "p": steps[-1]["p"], "r": 0}, {"a": "kill", "p": steps[-1]["p"]}]
    (verdict,) = traces.follow([steps], tmp_path)
    assert verdict, (verdict.stuck, verdict.step, steps[: verdict.stuck])


def test_a_recorded_trace_is_refused_without_its_syncs_its_takeovers_or_one_of_its_entries(tmp_path):
    """The recorder is worth something only if what it makes can be refused."""
    tlc.need()
    steps = killed(tmp_path / "killed", random.Random(2), kills=2).trace()
    kinds = [step["a"] for step in steps]
    first, took = kinds.index("sync"), kinds.index("acquire", 1)
    asleep = [step for step in steps if step["a"] != "sync"]
    alone = [step for n, step in enumerate(steps) if n != took]
    torn = [step for n, step in enumerate(steps) if n != kinds.index("append", first)]
    (whole, *verdicts) = traces.follow([steps, asleep, alone, torn], tmp_path)

    assert whole, (whole.stuck, whole.step)
    assert [verdict.step["a"] for verdict in verdicts] == ["user", "append", "append"]


def test_a_program_that_does_not_wait_for_its_starts_is_found_out(tmp_path):
    """The control: at level `result` bodies begin before anything of them is durable."""
    tlc.need()
    steps = killed(tmp_path / "killed", random.Random(3), kills=0, level="result").trace()
    (verdict,) = traces.follow([steps], tmp_path)

    assert (verdict.accepted, verdict.step["a"]) == (False, "user")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_flows_killed_at_many_moments_leave_traces_that_the_model_accepts(tmp_path):
    tlc.need()
    chance = random.Random(int(os.environ.get("PLUPERFECT_SEED", "4")))
    made = [killed(tmp_path / f"flow-{n}", chance, kills=8) for n in range(12)]
    recorded = [one.trace() for one in made]

    for steps, verdict in zip(recorded, traces.follow(recorded, tmp_path), strict=True):
        assert verdict, (verdict.stuck, verdict.step, steps[: verdict.stuck])
    print(
        f"traces: {len(recorded)} with {sum(map(len, recorded))} steps, {sum(one.processes for one in made)} processes"
    )

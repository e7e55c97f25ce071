"""The test of a rule, as its author writes it: the rule alone, and at work."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from no_fridays import NoFridays

import pluperfect
from pluperfect import Pending, Proposal, Running, task
from pluperfect.errors import Refused
from pluperfect.states import Spec
from pluperfect.testing import FakeClock
from pluperfect.transitions import Transition, fold

FRIDAY = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
DAY = 24 * 60 * 60.0


def born(*tags):
    spec = Spec("task", "release", "release-1", "release-0", bytes(16), tags=tags)
    return fold(bytes(16), [Transition(1, FRIDAY, Pending(spec=spec))])


@pytest.mark.parametrize(
    ("tags", "to", "at", "refused"),
    [
        (["deploy"], Running(), FRIDAY, True),
        (["deploy"], Running(), FRIDAY + DAY, False),
        (["test"], Running(), FRIDAY, False),
        (["deploy"], pluperfect.Failed(), FRIDAY, False),
    ],
)
def test_only_the_start_of_a_deploy_on_a_friday_is_refused(tags, to, at, refused):
    verdict = NoFridays().review(born(*tags), Proposal(to, at))

    assert (verdict is not None) == refused


def test_a_refused_deploy_is_on_record_and_may_run_on_another_day():
    @task(tags=["deploy"])
    def release():
        return "released"

    clock = FakeClock(FRIDAY)
    with pluperfect.open("memory:", plugins=[NoFridays()], clock=clock) as log:
        with pytest.raises(Refused, match="no deploys on Fridays"):
            release()
        ruling = log.runs()[0].history[-1]
        assert (ruling.by, ruling.why) == ("no-fridays", "no deploys on Fridays")
        clock.advance(DAY)
        assert release() == "released"

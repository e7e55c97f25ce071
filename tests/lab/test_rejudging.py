"""The past, judged again: the same rules say the same, another rule's differences are listed, and nothing else is touched."""

import asyncio
from datetime import UTC, datetime

import lmdb
import msgspec
import pytest

import pluperfect
from pluperfect import LOOP, Completed, Proposal, Retrying, Verdict, flow, hookimpl, task
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import ImpureRule, PluginError, PluperfectError, Refused, RuleError, UnknownRule
from pluperfect.hooks import Option, Part
from pluperfect.records import open_row
from pluperfect.runtime import task_run
from pluperfect.transitions import Transition
from pluperfect_store.conformance import born, new_id


def no_second_attempt(run, proposal):
    if proposal.to.is_running() and proposal.to.attempt > 1:
        return Verdict(refuse="one attempt is enough")
    return None


def program(log):
    @task(retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5)
    def fetch(n):
        if n % 2 and task_run.run_count == 1:
            raise ConnectionError("busy")
        return n

    @task(cache_policy=INPUTS, retries=1)
    def double(n):
        return 2 * n

    @task
    def count():
        if task_run.loop_count < 3:
            raise LOOP(result=task_run.loop_count)
        return 3

    @task(retries=1, retry_condition_fn=lambda task, run, state: False)
    def hopeless():
        raise OSError("no")

    @flow(retries=1)
    def whole():
        found = [fetch(n) for n in range(4)]
        count()
        hopeless(return_state=True)
        return [double(n % 2) for n in found]

    return whole()


def test_under_the_same_rules_every_verdict_is_the_same(log):
    program(log)
    judged = log.rejudge()

    assert list(judged) == []
    assert judged.judged > 30
    assert judged.runs == len(log.runs())


def test_a_rule_that_was_not_there_is_asked_about_each_proposal_and_its_refusals_are_listed(log):
    program(log)
    judged = log.rejudge(no_second_attempt)
    found = list(judged)

    again = [
        (run.id, entry.seq)
        for run in log.runs()
        for entry in run.history
        if entry.to is not None and entry.to.is_running() and entry.to.attempt > 1
    ]
    assert sorted((one.run, one.seq) for one in found) == sorted(again)
    assert {one.by for one in found} == {"no-second-attempt"}
    assert {one.why for one in found} == {"one attempt is enough"}
    assert (judged.differing, judged.differing_runs) == (len(again), len({run for run, _ in again}))
    assert str(found[0]) == (
        f"{found[0].name} entry 4: Retrying -> Running: recorded Running attempt 2, now refused by no-second-attempt: one attempt"
        " is enough"
    )


def test_the_run_that_a_rule_sees_is_the_one_that_was_judged(log):
    program(log)
    seen = {}

    def noting(run, proposal):
        if run.state is not None:
            seen[run.id, run.seq] = (run, proposal)

    list(log.rejudge(noting))
    for recorded in log.runs():
        for entry in recorded.history[1:]:
            run, proposal = seen[bytes.fromhex(recorded.id.replace("-", "")), entry.seq - 1]
            assert run == recorded.after(entry.seq - 1)
            assert proposal == Proposal(entry.asked or entry.to, entry.at, entry.facts)


class NoFridays:
    @hookimpl
    def review(self, run, proposal):
        starts = proposal.to.is_running() and "deploy" in run.birth.tags
        if starts and datetime.fromtimestamp(proposal.at, UTC).strftime("%A") == "Friday":
            return Verdict(refuse="no deploys on Fridays")
        return None


class Stamp:
    @hookimpl
    def review(self, run, proposal):
        if run.state and proposal.to.is_completed() and not proposal.to.is_cached():
            return Verdict(to=Completed(name="Checked", data=proposal.to.data), why="seen")
        return None


class Seven:
    @hookimpl
    def review(self, run, proposal):
        return Verdict(to=Completed(data=7)) if run.state and proposal.to.is_completed() else None


class Evening:
    @hookimpl
    def review(self, run, proposal):
        if proposal.to.is_running() and run.ruling is None:
            return Verdict(delay=0.1 + 0.2, why="later")
        return None


class NotBorn:
    @hookimpl
    def review(self, run, proposal):
        return Verdict(refuse="no births") if run.state is None else None


class Hourly:
    @hookimpl
    def review(self, run, proposal):
        if proposal.to.is_failed() and run.state.is_running():
            return Verdict(to=Retrying(cause="requested", due=proposal.at + 3.3, error=proposal.to.error), why="again")
        return None


class Asking:
    @hookimpl
    def options(self, kind):
        return [Option("approve", None, "asked")]

    @hookimpl
    def review(self, run, proposal):
        if not proposal.to.is_running():
            return None
        answers = proposal.facts.answers or {}
        if "approve" not in answers:
            return Verdict(ask="approve")
        return None if answers["approve"] else Verdict(refuse="not approved")


@pytest.mark.parametrize("rule", [Stamp, Seven, Evening, NotBorn, Hourly, Asking], ids=lambda rule: rule.__name__)
def test_what_a_rule_decided_it_decides_again_and_without_it_that_is_what_differs(rule, clock):
    tries = iter([False, True, True, True])

    def flaky(x=1):
        if not next(tries):
            raise OSError("429")
        return x

    with pluperfect.open("memory:", plugins=[rule()], clock=clock, entry_points=False) as log:
        given = {"approve": lambda *_: True} if rule is Asking else {}
        try:
            task(flaky, name="flaky", **given)(return_state=True)
            task(flaky, name="flaky", **given)()
        except PluperfectError:
            pass
        assert [str(one) for one in log.rejudge()] == []
        assert [str(one) for one in log.rejudge(rule())] == []
        decided = [entry for run in log.runs() for entry in run.history if entry.by]
        with_silence = list(log.rejudge(silenced(rule)))

        assert sorted(str(one.recorded) for one in with_silence) == sorted(map(str, decided))
        assert bool(decided) == (rule is not Asking)


def silenced(rule):
    """A rule of the same name that has no opinion."""

    class Silent:
        name = "-".join(word.lower() for word in [rule.__name__])

        @hookimpl
        def review(self, run, proposal):
            return None

    Silent.name = {"NotBorn": "not-born"}.get(rule.__name__, Silent.name)
    return Silent()


def test_a_rule_of_the_same_name_takes_the_place_of_the_one_that_is_there(clock):
    friday = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    clock.advance(friday - clock.now())
    with pluperfect.open("memory:", plugins=[NoFridays()], clock=clock, entry_points=False) as log:
        with pytest.raises(Refused):
            task(lambda: 1, name="release", tags=["deploy"])()

        class Softer:
            name = "no-fridays"

            @hookimpl
            def review(self, run, proposal):
                return None

        (one,) = log.rejudge(Softer())
    assert (one.seq, one.was, one.becomes, one.by) == (2, "refused", "Running attempt 1", "")


def test_a_rule_that_raises_or_wants_what_the_table_has_not_is_listed_with_what_it_would_cause(log):
    task(lambda: 1, name="one")()

    def careless(run, proposal):
        return Verdict(refuse="no") if "deploy" in run.birth.tags else None

    def impossible(run, proposal):
        return Verdict(to=Retrying()) if run.state and run.state.is_pending() else None

    (born_,) = log.rejudge(careless)
    (moved,) = log.rejudge(impossible)
    assert isinstance(born_.now, RuleError)
    assert "Pending -> Retrying is not in the table" in moved.becomes


def test_a_question_to_which_no_answer_is_on_record_is_a_difference(log):
    task(lambda: 1, name="one")()
    (one,) = log.rejudge(Asking())
    assert one.becomes == "asks the option 'approve', whose answer is not on record"


def test_only_the_first_difference_of_a_run_is_called_the_first(log):
    program(log)
    found = list(log.rejudge(lambda_rule))
    firsts = [one for one in found if one.first]
    assert len(firsts) == len({one.run for one in found}) < len(found)


def lambda_rule(run, proposal):
    return Verdict(refuse="no") if proposal.to.is_running() else None


def test_filters_choose_runs_and_moments_and_change_no_verdict(log, clock):
    program(log)
    middle = clock.now() + 60
    clock.advance(120)
    program(log)
    everything = [(one.run, one.seq) for one in log.rejudge(no_second_attempt)]

    later = [(one.run, one.seq) for one in log.rejudge(no_second_attempt, since=middle)]
    assert later == [place for place in everything if at(log, place) >= middle]
    assert 0 < len(later) < len(everything)
    named = log.rejudge(no_second_attempt, name="fetch")
    assert {one.name.partition("-")[0] for one in named} == {"fetch"}
    assert named.runs == len(log.runs(name="fetch"))
    failed = log.rejudge(no_second_attempt, state="failed")
    list(failed)
    assert failed.runs == len(log.runs(state="failed"))
    with pytest.raises(ValueError, match="Did you mean 'failed'"):
        log.rejudge(no_second_attempt, state="faild")


def at(log, place):
    return log.run(place[0]).history[place[1] - 1].at


def test_a_run_that_began_before_is_folded_from_its_birth(log, clock):
    """What it was before is not judged, and known all the same."""
    seen = []

    def noting(run, proposal):
        seen.append((run.seq, run.birth.name, run.attempt))

    @task(retries=1, retry_delay_seconds=100)
    def slow():
        if task_run.run_count == 1:
            raise OSError("busy")

    began = clock.now()
    slow()
    list(log.rejudge(noting, since=began + 50))
    assert set(seen) == {(3, "slow", 1), (4, "slow", 2)}


# --- what cannot be judged ------------------------------------------------------------------------------


def test_what_a_rule_decided_that_is_not_here_is_counted_by_its_name(clock, tmp_path):
    with pluperfect.open(str(tmp_path / "runs"), plugins=[Stamp()], clock=clock, entry_points=False) as log:
        task(lambda: 1, name="one")()
    with pluperfect.open(str(tmp_path / "runs"), entry_points=False) as log:
        judged = log.rejudge()
        assert list(judged) == []
        assert judged.missing == {"stamp": 1}


def test_records_of_a_type_that_nobody_knows_are_counted_and_their_runs_passed_over(tmp_path):
    """A plugin that is not here, or a later release, wrote one of them."""
    path = str(tmp_path / "runs")
    with pluperfect.open(path, entry_points=False) as log:
        task(lambda: 1, name="one")()
        task(lambda: 1, name="other")()
    with lmdb.open(path, max_dbs=64) as env:
        rows = env.open_db(b"log", create=False)
        with env.begin(write=True, db=rows) as txn:
            key, data = next((key, data) for key, data in txn.cursor() if open_row(data).record.seq == 2)
            row = open_row(data)
            strange = msgspec.structs.replace(row.record, type="quota/spent")
            txn.put(key, msgspec.msgpack.encode((msgspec.msgpack.encode(strange), row.values)))
    with pluperfect.open(path, entry_points=False) as log:
        judged = log.rejudge(no_second_attempt)
        assert list(judged) == []
    assert judged.unknown == {"quota/spent version 1": 1}
    assert judged.judged == 4  # of that run, its birth alone


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (object(), "is no rule"),
        (3, "is no rule"),
        (type("Needy", (), {"__init__": lambda self, x: None}), "cannot be made without arguments"),
        (type("Other", (), {"pack": hookimpl(lambda self, value: None)})(), "is no rule"),
    ],
    ids=["object", "number", "needy", "other hook"],
)
def test_what_is_no_rule_is_refused_by_name(log, rule, says):
    with pytest.raises((UnknownRule, PluginError), match=says):
        log.rejudge(rule)


def test_a_function_with_an_argument_that_no_rule_gets_is_refused_by_name(log):
    def wants_more(run, proposal, moon):
        return None

    with pytest.raises(PluginError, match="wants-more"):
        log.rejudge(wants_more)


# --- purity ---------------------------------------------------------------------------------------------


def reads_a_clock(run, proposal):
    return Verdict(refuse="late") if datetime.now(UTC).year > 3000 else None


def reads_a_file(run, proposal):
    with open(__file__) as file:
        return Verdict(refuse="x") if file.read() == "x" else None


def swallows(run, proposal):
    try:
        reads_a_file(run, proposal)
    except Exception:
        pass


def keeps(run, proposal):
    kept.append(1)
    return Verdict(refuse="too many") if len(kept) > 40 and proposal.to.is_running() else None


kept = []


@pytest.mark.parametrize("rule", [reads_a_clock, reads_a_file, swallows, keeps], ids=lambda rule: rule.__name__)
def test_an_impure_rule_is_an_error_that_names_it_and_where(log, rule):
    for _ in range(30):
        task(lambda: 1, name="many")()
    kept.clear()
    with pytest.raises(ImpureRule) as caught:
        list(log.rejudge(rule))
    text = str(caught.value)
    assert rule.__name__.replace("_", "-") in text
    assert (f"{__file__}:" in text) or "asked twice" in text


def test_what_the_caller_does_with_the_answers_is_not_watched(log, tmp_path):
    program(log)
    for place, one in enumerate(log.rejudge(no_second_attempt)):
        (tmp_path / str(place)).write_text(str(one))
    assert list(tmp_path.iterdir())


def test_nothing_is_written(log):
    program(log)
    before = log.log.feed(0, 10_000)
    list(log.rejudge(no_second_attempt))
    list(log.rejudge(no_second_attempt, among=True))
    assert log.log.feed(0, 10_000) == before


def test_a_rule_may_decode_what_was_proposed(log):
    task(lambda: {"size": 5}, name="sized")()

    def small(run, proposal):
        if proposal.to.is_completed() and proposal.to.result()["size"] > 3:
            return Verdict(refuse="too large")
        return None

    (one,) = log.rejudge(small)
    assert one.why == "too large"


def test_a_large_value_is_read_from_where_it_is_kept_although_files_are_closed_to_rules(tmp_path, clock):
    with pluperfect.open(str(tmp_path / "runs"), clock=clock, entry_points=False) as log:
        task(lambda: "x" * 300_000, name="large")()

        def weighed(run, proposal):
            if proposal.to.is_completed() and len(proposal.to.result()) > 3:
                return Verdict(refuse="too large")
            return None

        (one,) = log.rejudge(weighed)
    assert one.why == "too large"


def test_async_programs_are_judged_alike(log):
    @task(retries=1)
    async def fetch(n):
        if n % 2 and task_run.run_count == 1:
            raise ConnectionError("busy")
        return n

    @flow
    async def whole():
        return sum(await asyncio.gather(*[fetch(n) for n in range(6)]))

    asyncio.run(whole())
    assert list(log.rejudge()) == []
    assert len(list(log.rejudge(no_second_attempt))) == 3


def test_a_run_without_any_entry_but_its_birth_is_judged_too(log):
    run = new_id()
    log.log.append([Part(run, run, 0, (Transition(1, 5.0, born(run)),))], epoch=1).wait()
    judged = log.rejudge(lambda_rule)
    assert list(judged) == []
    assert (judged.judged, judged.runs) == (1, 1)
    (one,) = log.rejudge(NotBorn())
    assert (one.seq, one.becomes) == (1, "refused")

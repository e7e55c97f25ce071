"""
The transcripts in specs/scenarios: commands to one run, and what the machine said.

A transcript is prose, then blocks: commands, a line ``----``, and the answer. `pytest --rewrite` writes the
answers anew; the diff is read, explained, and only then committed.

task NAME [retries=N] [delay=SECONDS[,SECONDS...]] [jitter=F] [level=LEVEL]   a task, born at 0 s
call                     begin, or go on, until the body is called, the run sleeps, or it rests
returns VALUE            the body returns; packed=VALUE in answers
raises ERROR [TEXT]      the body raises
loops PAYLOAD            the body raises LOOP with this payload
times-out LIMIT          the body runs into its limit
crash                    forget all that is not in the history, fold it, go on with `call`
advance SECONDS          let time pass
rule refuse|delay KIND [SECONDS] REASON     a rule about proposals of this kind; delay is given once
rule none                no rule any more
answers OPTION VALUE     what a callable of the user will answer
cached RUN:SEQ           the cache has the result of that run
upstream TEXT            a run that the call depends on has failed
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pluperfect import records
from pluperfect.course import Ask, Call, Durable, Propose, Resolve, Sleep, course
from pluperfect.errors import PluperfectError
from pluperfect.rules import Proposal, Question, Verdict, settle
from pluperfect.states import (
    PLAIN,
    Completed,
    Error,
    Failed,
    Looped,
    Packed,
    Pending,
    Retrying,
    Running,
    Spec,
    State,
    TimedOut,
)
from pluperfect.transitions import NO_FACTS, Facts, Ruling, Run, Transition, apply, fold
from pluperfect_plugins import caching, retries

FOLDER = Path(__file__).parents[2] / "specs" / "scenarios"
RUN = bytes.fromhex("00112233445566778899aabbccddeeff")


class Bench:
    """One run, its history, a virtual clock, and the built-in rules."""

    def __init__(self):
        self.now = 0.0
        self.run = Run(RUN)
        self.records, self.told = [], []
        self.rule = None
        self.answers, self.hit, self.obstacle = {}, None, None
        self.steps = self.waiting = None

    # --- commands

    def task(self, name, **options):
        plain = {"retries": int(options.get("retries", 0))}
        if "delay" in options:
            delays = [float(text) for text in options["delay"].split(",")]
            plain["retry_delay_seconds"] = delays[0] if len(delays) == 1 else tuple(delays)
        if "jitter" in options:
            plain["retry_jitter_factor"] = float(options["jitter"])
        if "condition" in options:
            plain["retry_condition_fn"] = "asked"
        self.level = options.get("level", "effect")
        spec = Spec("task", name, name, f"{name}-0", RUN, options=plain, durability=self.level)
        self.record(settle(self.run, Proposal(Pending(spec=spec), self.now)))

    def call(self):
        self.steps, self.waiting = course(self.run, intent=self.level == "effect"), None
        self.go(None)

    def returns(self, value):
        self.go(Completed(data=Packed(PLAIN, value.encode())))

    def raises(self, error, text=""):
        self.go(Failed(message=f"{error}: {text}" if text else error, error=Error(error, text)))

    def loops(self, payload):
        self.go(Looped(count=self.run.loop_count, payload=Packed(PLAIN, payload.encode())))

    def times_out(self, limit):
        self.go(TimedOut(limit=float(limit), elapsed=float(limit)))

    def crash(self):
        history = [records.decode(data) for data in self.records]
        self.run, self.steps, self.waiting = fold(RUN, history), None, None
        self.told.append(f"folded {len(history)} entries: {self.run.state.kind}")

    def advance(self, seconds):
        self.now += float(seconds)
        if isinstance(self.waiting, Sleep) and self.waiting.until <= self.now:
            self.go(None)

    def rule_is(self, what, kind="", *words):
        self.rule = None if what == "none" else (what, kind, words)

    # --- the host

    def go(self, answer):
        try:
            while True:
                effect = self.steps.send(answer)
                self.waiting = effect
                if isinstance(effect, Call):
                    payload = effect.run.payload
                    given = "" if payload is None else f", payload {bytes(payload.data).decode()}"
                    self.told.append(
                        f"calls the body: iteration {effect.run.loop_count}, attempt {effect.run.attempt}{given}"
                    )
                    return
                if isinstance(effect, Sleep) and effect.until > self.now:
                    self.told.append(f"sleeps until {effect.until:g} s")
                    return
                answer = self.perform(effect)
        except StopIteration as end:
            self.told.append("ends" if end.value.final else f"rests in {end.value.state.kind}")
        except PluperfectError as error:
            self.told.append(f"{type(error).__name__}: {error}")
        self.waiting = None

    def perform(self, effect):
        if isinstance(effect, Durable):
            self.told.append("waits until that is durable")
        if isinstance(effect, Resolve):
            return self.obstacle
        if isinstance(effect, Ask):
            answer = self.answers[effect.option]
            self.told.append(f"asks {effect.option} about {effect.about.kind}: {answer}")
            if effect.option == "on_interrupt" and answer == "retry":
                return Retrying(cause="interrupted", due=self.now, message="the process died during this attempt")
            return {"yes": True, "no": False}.get(answer, answer)
        if isinstance(effect, Propose):
            return self.propose(effect)
        return None

    def propose(self, effect):
        facts = effect.facts
        if self.hit and isinstance(self.run.state, Pending) and isinstance(effect.to, Running):
            facts = Facts(key="k", hit=self.hit)
        proposal = Proposal(effect.to, self.now, facts)
        verdict, by = self.judge(proposal)
        decision = settle(self.run, proposal, verdict, by)
        if isinstance(decision, Question):
            return decision
        return self.record(decision)

    def judge(self, proposal):
        if self.rule is not None and proposal.to.kind == self.rule[1]:
            what, _, words = self.rule
            if what == "refuse":
                return Verdict(refuse=" ".join(words)), "house-rule"
            self.rule = None
            return Verdict(delay=float(words[0]), why=" ".join(words[1:])), "house-rule"
        for name, plugin in (("retries", retries), ("caching", caching)):
            verdict = plugin.review(self.run, proposal, None)
            if verdict is not None:
                return verdict, name
        return None, ""

    def record(self, entry):
        prev = records.leaf(self.records[-1]) if self.records else records.GENESIS
        self.records.append(records.encode(RUN, entry, prev))
        self.run = apply(self.run, entry)
        self.told.append(line_of(entry))
        return self.run


def line_of(entry):
    if isinstance(entry, Ruling):
        what = "refused" if entry.until is None else f"delayed until {entry.until:g} s:"
        return f"{entry.seq} {what} {shown(entry.asked)}   by {entry.by}: {entry.why}"
    assert isinstance(entry, Transition)
    line = f"{entry.seq} {shown(entry.to)}"
    if entry.asked is not None:
        line += f"   asked {shown(entry.asked)}   by {entry.by}: {entry.why}"
    if entry.facts != NO_FACTS and entry.facts.answers:
        line += f"   told {entry.facts.answers}"
    return line


def shown(state: State) -> str:
    words = [state.kind]
    if isinstance(state, Running):
        words.append(f"attempt {state.attempt}" + (f" iteration {state.loop_count}" if state.loop_count > 1 else ""))
    elif isinstance(state, Retrying):
        words.append(f"({state.cause}) due {state.due:.4g} s")
    elif isinstance(state, Looped):
        words.append(f"iteration {state.count} payload {bytes(state.payload.data).decode()}")
    elif isinstance(state, Completed):
        words.append(bytes(state.data.data).decode())
    elif isinstance(state, Failed):
        words.append(f"({state.cause})" + (f" {state.message}" if state.message else ""))
    elif state.kind == "Cached":
        words.append(f"from {state.source[0].hex()[-4:]}:{state.source[1]}")
    elif isinstance(state, TimedOut):
        words.append(f"after {state.elapsed:g} s")
    return " ".join(words)


def perform(bench, line):
    word, *rest = shlex.split(line)
    options = dict(text.split("=", 1) for text in rest if "=" in text)
    plain = [text for text in rest if "=" not in text]
    if word == "answers":
        bench.answers[rest[0]] = rest[1]
    elif word == "cached":
        run, seq = rest[0].split(":")
        bench.hit = (bytes.fromhex(run), int(seq))
    elif word == "upstream":
        bench.obstacle = Failed(message=" ".join(rest), cause="upstream")
    elif word == "rule":
        bench.rule_is(*rest)
    else:
        getattr(bench, word.replace("-", "_"))(*plain, **options)


def played(transcript):
    """The transcript with the answers that the machine gives now."""
    bench = Bench()
    parts = transcript.split("\n\n")
    made = []
    for part in parts:
        if "\n----" not in part:
            made.append(part.strip("\n"))
            continue
        commands = part.split("\n----")[0].strip("\n")
        bench.told = []
        for line in commands.splitlines():
            perform(bench, line)
        made.append(f"{commands}\n----\n" + "\n".join(bench.told or ["ok"]))
    return "\n\n".join(made) + "\n"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.txt")), ids=lambda file: file.stem)
def test_the_machine_says_what_the_transcript_says(file, request):
    recorded = file.read_text()
    now = played(recorded)
    if request.config.getoption("--rewrite"):
        file.write_text(now)
    else:
        assert now.splitlines() == recorded.splitlines()


def test_there_is_a_transcript_for_each_story():
    stories = {file.stem for file in FOLDER.glob("*.txt")}
    assert stories >= {
        "retry-then-success", "retries-exhausted", "retry-jitter", "retry-condition", "loop-with-failing-iteration", "timeout",
        "cache-hit", "refusal", "delay", "interrupted", "upstream-failure",
    }  # fmt: skip

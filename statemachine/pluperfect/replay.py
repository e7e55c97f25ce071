"""
Replay without code: fold a history again, ask the rules again, and list what would have gone otherwise.

Each entry of a log holds what was asked, when, and what the rules were told; the fold of the entries before it is the run
that they judged. So any rule can be asked about the past, also one that was not there. Nothing is written, and no code of
the history is run.

What follows a different answer is judged as it was recorded: nobody knows what the flow would have done instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from .errors import ImpureRule, PluperfectError, RuleError, SideEffect
from .histories import id_text
from .manager import Attending
from .purity import agree, watched
from .records import Record, decode_each
from .rulebook import Rules, alone, name_of
from .rules import Proposal, Question, Verdict, settle
from .states import Cached, Completed, Failed, Looped, Packed, Pending, Retrying, State, TimedOut
from .strict import unwatched
from .transitions import Entry, Ruling, Run, Transition, apply, fold, sentence, stamp

if TYPE_CHECKING:
    from .histories import Histories

__all__ = ["Otherwise", "Rejudgement"]

SAMPLE: Final = 200
"""So many proposals of each row of the table are asked closely, and again at the end; a rule that keeps something shows it."""

_BATCH: Final = 400  # rows and what is made of them stay in the cache of the processor; 2,000 take a third longer


class Otherwise(Struct, frozen=True):
    """
    A recorded proposal that the rules of today judge otherwise.

    Attributes:
        run: The id of the run.
        name: Its own name.
        seq: The entry.
        before: The state that the run was in; None before its birth.
        recorded: The entry as it is recorded.
        now: The entry that would be recorded; a `Question` whose answer is not on record; or the error that the rule
            causes.
        by: The rule that speaks now; empty where none does any more.
        why: Its reason.
        first: Whether it is the first of its run: what comes later might not have come at all.
    """

    run: str
    name: str
    seq: int
    before: State | None
    recorded: Entry
    now: Entry | Question | PluperfectError
    by: str
    why: str
    first: bool

    @property
    def asked(self) -> State:
        """The state that was proposed."""
        return _asked(self.recorded)

    @property
    def was(self) -> str:
        """What is recorded, in words."""
        return _told(self.recorded)

    @property
    def becomes(self) -> str:
        """What would be recorded now, in words."""
        return _told(self.now)

    def __str__(self) -> str:
        text = (
            f"{self.name} entry {self.seq}: {'' if self.before is None else f'{self.before.kind} -> '}{self.asked.kind}"
        )
        line = f"{text}: recorded {self.was}, now {self.becomes}"
        if self.by:
            line += f" by {self.by}"
        return f"{line}: {self.why}" if self.why else line


def _told(entry: Entry | Question | PluperfectError) -> str:
    if isinstance(entry, Question):
        return f"asks the option {entry.option!r}, whose answer is not on record"
    if isinstance(entry, PluperfectError):
        return f"{type(entry).__name__}: {str(entry).partition(chr(10))[0]}"
    if isinstance(entry, Transition):
        return sentence(entry.to)
    return "refused" if entry.until is None else f"delayed until {stamp(entry.until)}"


class Rejudgement:
    """
    The past, judged again: iterate over it for what would have gone otherwise. Then it has counted.

    Attributes:
        judged: Proposals.
        runs: Runs that they belong to.
        differing: Proposals that are judged otherwise.
        differing_runs: Runs of which one is.
        missing: Entries that a rule made which is not here to be asked again, by its name.
        unknown: Records of a type that this release does not know, by type: they are passed over.
    """

    def __init__(
        self,
        histories: Histories,
        rule: Any = None,
        *,
        among: bool = False,
        since: float | None = None,
        state: Any = None,
        name: str | None = None,
    ) -> None:
        first = None if rule is None else alone(rule)
        self._histories = histories
        self._own = "" if first is None else name_of(first)
        self._all: Attending = Rules(first, histories.hooks).speaking(None)
        self._mine = None if first is None or among else first.awake(None)
        self._asked_first: Attending = self._mine or self._all
        self._known: frozenset[str] = frozenset(impl.plugin for impl in self._all.reviewers)
        self._since, self._state, self._name = since, state, name
        self.judged: int = 0
        self.runs: int = 0
        self.differing: int = 0
        self.differing_runs: int = 0
        self.missing: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._sample: list[tuple[Run, Proposal, Verdict | None]] = []
        self._sampled: Counter[tuple[Any, Any]] = Counter()

    @property
    def rule(self) -> str:
        """The name of the rule that is tried; empty where all that are there are asked again."""
        return self._own

    def __iter__(self) -> Iterator[Otherwise]:
        """
        Raises:
            ImpureRule: A rule answers from more than what it is given, so that what it says of the past means nothing.
        """
        self.judged = self.runs = self.differing = self.differing_runs = 0
        self.missing, self.unknown = Counter(), Counter()
        self._sample, self._sampled = [], Counter()
        self._histories.log.flush()
        judge = self._judge()
        next(judge)
        for batch in self._batches():
            # Not around the yield: what the caller does with the answers is not watched.
            with watched(self._own or "asked again", closely=False):
                found = judge.send(batch)
            yield from found
        with watched(self._own or "asked again", closely=False):
            found = judge.send(None)
            for run, proposal, verdict in self._sample:
                again, _ = self._asked_first.review(run, proposal, None)
                agree(self._own, run, proposal, verdict, again)
        yield from found

    # --- what is read

    def _batches(self) -> Iterator[list[bytes]]:
        log = self._histories.log
        if self._state is None and self._name is None:
            after = 0
            while page := log.feed(after, _BATCH):
                after = page[-1][0]
                yield [data for _, data in page]
            return
        batch: list[bytes] = []
        for run in log.find(state=self._state, name=self._name):
            batch += log.records(run)
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        yield batch

    def _before(self, run: bytes, seq: int) -> Run:
        """The run as it was before this entry, where the reading began in its middle."""
        read = decode_each(self._histories.log.records(run, 0, seq - 1), self._fetch)
        return fold(run, [entry for _, entry in read if entry is not None])

    def _fetch(self, digest: bytes) -> bytes | None:
        with unwatched():
            return self._histories.log.blob(digest)

    # --- what is asked

    def _judge(self) -> Generator[list[Otherwise], list[bytes] | None, None]:
        """Send it rows, and None at the end; it answers with what would have gone otherwise."""
        runs: dict[bytes, Run] = {}
        born: dict[bytes, Transition] = {}  # a birth is recorded even where it is refused: the next entry says so
        told: set[bytes] = set()
        lost: set[bytes] = set()
        since = -math.inf if self._since is None else round(self._since * 1e6)

        def late(record: Record) -> bool:
            return record.at >= since or record.run in runs

        wanted = None if self._since is None else late
        readable, own = self._histories.unpack, self._own
        speaking = [impl.call for impl in self._asked_first.reviewers]
        judged = 0
        found: list[Otherwise] = []

        def judge(run: Run, entry: Entry) -> None:
            nonlocal judged
            judged += 1
            asked = entry.to if entry.asked is None else entry.asked
            assert asked is not None
            if asked.code >= _TELLING:
                asked.read_with(readable)
            proposal = Proposal(asked, entry.at, entry.facts)
            # Mostly nobody has an opinion, as when it was recorded. Whoever has one, or raises, is asked again below: a
            # rule is a function, and this is the place where all time goes.
            if not own or self._sampled[type(run.state), type(asked)] >= SAMPLE:
                try:
                    for call in speaking:
                        if call(run, proposal, None) is not None:
                            break
                    else:
                        if not entry.by or (self._mine is not None and entry.by != own):
                            return
                except Exception:
                    pass
            one = self._compare(run, entry, proposal)
            if one is None:
                return
            now, by, why = one
            spec = run.spec or (asked.spec if isinstance(asked, Pending) else None)
            name = "" if spec is None else spec.run_name
            found.append(
                Otherwise(id_text(run.id), name, entry.seq, run.state, entry, now, by, why, run.id not in told)
            )
            told.add(run.id)

        batch = yield []
        while batch is not None:
            found, judged = [], 0
            for record, entry in decode_each(batch, self._fetch, wanted):
                key, seq = record.run, record.seq
                if entry is None:
                    if not record.type.startswith("store/"):
                        self.unknown[f"{record.type} version {record.version}"] += 1
                        lost.add(key)  # what follows was decided on what nobody here can read
                        runs.pop(key, None)
                    continue
                run = runs.get(key)
                if run is None or run.seq != seq - 1:
                    if key in lost:
                        continue
                    self.runs += run is None
                    run = Run(key) if seq == 1 else self._before(key, seq)
                    if run.seq != seq - 1:
                        lost.add(key)
                        continue
                state = entry.to
                if state is not None and state.final:
                    runs.pop(key, None)  # nothing follows, so that it need not be folded
                else:
                    runs[key] = apply(run, entry)
                    if state is not None and state.code >= _TELLING:
                        state.read_with(readable)
                if seq == 1 and type(entry) is Transition:
                    born[key] = entry
                    continue
                if seq == 2:
                    birth: Entry | None = born.pop(key, None)
                    refused = type(entry) is Ruling and type(entry.asked) is Pending
                    if birth is not None:
                        judge(Run(key), entry if refused else birth)
                    if refused:
                        continue
                if record.at >= since:
                    judge(run, entry)
            self._count(judged, found, told)
            batch = yield found
        found, judged = [], 0
        for key, birth in born.items():
            judge(Run(key), birth)
        self._count(judged, found, told)
        yield found

    def _count(self, judged: int, found: Sequence[Otherwise], told: Collection[bytes]) -> None:
        self.judged += judged
        self.differing += len(found)
        self.differing_runs = len(told)

    def _compare(
        self, run: Run, entry: Entry, proposal: Proposal
    ) -> tuple[Entry | Question | PluperfectError, str, str] | None:
        """What would be recorded now, by whom and why; None where it is what is recorded."""
        by = entry.by
        try:
            verdict, speaker = self._ask(run, proposal)
            if verdict is None and self._mine is not None:
                if by != self._own:
                    return None  # it has no opinion, so that it goes as it went
                verdict, speaker = self._all.review(run, proposal, None)
            if verdict is None:
                if not by:
                    return None
                now: Entry | Question = settle(run, proposal)
            else:
                now = settle(run, proposal, self._recordable(verdict, proposal), speaker)
        except ImpureRule:
            raise
        except SideEffect:
            raise
        except PluperfectError as error:
            return error, "", ""
        if _same(entry, now):
            return None
        if by and by not in self._known and not (speaker and speaker == self._own):
            self.missing[by] += 1
            return None
        if isinstance(now, Question):
            if run.state is None:
                return (
                    RuleError("it asks a question about a birth; there is nothing to ask before a run is born"),
                    speaker,
                    "",
                )
            return now, speaker, ""
        return now, speaker, "" if verdict is None else verdict.why or verdict.refuse or ""

    def _ask(self, run: Run, proposal: Proposal) -> tuple[Verdict | None, str]:
        asked = self._asked_first
        if not self._own:
            return asked.review(run, proposal, None)
        row = (type(run.state), type(proposal.to))
        if self._sampled[row] >= SAMPLE:
            return asked.review(run, proposal, None)
        self._sampled[row] += 1
        with watched(self._own):
            verdict, speaker = asked.review(run, proposal, None)
            again, _ = asked.review(run, proposal, None)
        agree(self._own, run, proposal, verdict, again)
        self._sample.append((run, proposal, verdict))
        return verdict, speaker

    def _recordable(self, verdict: Verdict, proposal: Proposal) -> Verdict:
        """The verdict as the engine would record it: values packed."""
        to = verdict.to
        if isinstance(to, Completed) and to is not proposal.to and type(to.data) is not Packed:
            return replace(verdict, to=replace(to, data=self._histories.hooks.pack(to.data)))
        if isinstance(to, Looped) and to.payload is not None and type(to.payload) is not Packed:
            return replace(verdict, to=replace(to, payload=self._histories.hooks.pack(to.payload)))
        return verdict


_TELLING: Final = 3
"""From this code on a state may hold values, which a rule may want to have decoded."""


def _asked(entry: Entry) -> State:
    if type(entry) is Ruling:
        return entry.asked
    assert type(entry) is Transition
    return entry.to if entry.asked is None else entry.asked


def _same(recorded: Entry, now: Entry | Question) -> bool:
    """Whether two entries amount to the same, whoever made them so."""
    if isinstance(recorded, Transition):
        return isinstance(now, Transition) and _alike(recorded.to, now.to)
    if not isinstance(now, Ruling) or (recorded.until is None) != (now.until is None):
        return False
    return recorded.until is None or now.until is None or abs(recorded.until - now.until) < _TICK


_TICK: Final = 2e-6  # times are kept to the microsecond


def _alike(recorded: State, now: State) -> bool:
    if type(recorded) is not type(now):
        return False
    if isinstance(recorded, Cached) and isinstance(now, Cached):  # the engine has put the result in
        return (recorded.source, recorded.key) == (now.source, now.key)
    if isinstance(recorded, Failed | TimedOut | Retrying) and isinstance(now, Failed | TimedOut | Retrying):
        mine, other = recorded.error, now.error
        if isinstance(now, Failed) and now.data is not None:  # an exception, of which the engine makes the error
            return isinstance(recorded, Failed) and recorded.cause == now.cause
        if (mine is None) != (other is None):
            return False
        if mine is not None and other is not None and (mine.type, mine.message) != (other.type, other.message):
            return False
        return replace(recorded, error=None) == replace(now, error=None)
    return recorded == now

"""
Reading: runs as the log has them.

Only imports and redactions write here. What is shown is folded from the records each time it is asked for, and reading a
history never runs code from it: only ``result()`` decodes values, and says so. One module, although a long one: it is one object
that its users hold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .errors import PluperfectError, RedactedValue, UnknownRun, UntrustedValue
from .evidence import Checkpoint, Finding, Proof, Redaction, Report
from .hooks import Admitted, Backup, Compacted, Health, Log, Pruned, PruneRule
from .manager import Hooks
from .records import decode, decode_each, open_row
from .states import (
    ABSENT,
    KINDS,
    PLAIN,
    RESULT,
    Cached,
    Packed,
    Retrying,
    Running,
    State,
    StateDetails,
    codec_of,
    usable,
)
from .transitions import Entry, Materialization, Run, Transition, apply, fold
from .values import runs_code

if TYPE_CHECKING:
    from .authoring.retaking import Retaken
    from .comparing import Diff
    from .divergences import Replay
    from .exports import Header
    from .replay import Rejudgement
    from .trees import Event, Moment, Tree

__all__ = ["Histories", "Made", "Noted", "RecordedRun", "Seen", "id_text", "short_id"]

_CODES: Final = {kind.kind.lower(): kind.code for kind in KINDS}


def id_text(run: bytes) -> str:
    """A run's id as people write it: 32 hexadecimal digits in the groups of a UUID."""
    text = run.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def short_id(run: bytes) -> str:
    """The last eight digits: ids of one tree begin alike and end differently."""
    return run.hex()[-8:]


def _code(state: str | type[State] | None) -> int | None:
    """The code of a state, by its class or name."""
    if state is None:
        return None
    word = (state.kind if isinstance(state, type) else str(state)).lower().replace("_", "")
    if word not in _CODES:
        import difflib

        near = difflib.get_close_matches(word, _CODES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no state {state!r}.{hint} There are: {', '.join(k.kind for k in KINDS)}.")
    return _CODES[word]


class Seen(Struct, frozen=True):
    """
    One entry of the whole log, as `Histories.follow` yields it.

    Attributes:
        position: Its place in the log; hand the last one in again to go on from there.
        run: The id of its run.
        entry: The transition or ruling; None where a later release wrote something unknown.
    """

    position: int
    run: str
    entry: Entry | None


class Made(Struct, frozen=True):
    """
    One materialization of an asset.

    Attributes:
        key: The asset's URI.
        run: The run that made it, or failed to.
        at: When, UTC seconds since the epoch.
        succeeded: Whether the run completed.
        made: What is on record about it: the tool, the assets it was made from, metadata, properties.
    """

    key: str
    run: RecordedRun
    at: float
    succeeded: bool
    made: Materialization


class Noted(Struct, frozen=True):
    """
    What the store itself did or refused.

    Attributes:
        at: When, UTC seconds since the epoch.
        kind: ``lease`` (a tree was taken over), ``fenced`` (a writer was refused), and what else stores note.
        body: The particulars, by name.
    """

    at: float
    kind: str
    body: dict[str, Any]


class RecordedRun:
    """One run, read from its log. It shows what was committed when it was asked."""

    def __init__(self, histories: Histories, run: bytes) -> None:
        self.histories: Histories = histories
        self._run = run

    @property
    def id(self) -> str:
        """The id, as text."""
        return id_text(self._run)

    @property
    def history(self) -> tuple[Entry, ...]:
        """All entries, oldest first: every transition, and every ruling that refused or delayed one."""
        run, found = Run(self._run), list[Entry]()
        for entry in self._entries():
            run = apply(run, entry)
            found.append(entry)
            if isinstance(entry, Transition):
                self.histories.show(entry.to, run)
        return tuple(found)

    def _entries(self) -> Iterator[Entry]:
        return self.histories.entries(self._run)

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """The transitions alone."""
        return tuple(entry for entry in self.history if isinstance(entry, Transition))

    def after(self, seq: int) -> Run:
        """
        This run alone as it was after its entry ``seq`` (0: before its birth). For a whole tree see `at`.

        Raises:
            IndexError: The run has no such entry.
        """
        head = self.histories.log.head(self._run)
        length = 0 if head is None else head.seq
        if not 0 <= seq <= length:
            raise IndexError(f"Run {self.id} has {length} entries; {seq} is not among 0 to {length}.")
        return self._read(fold(self._run, self.histories.entries(self._run, 0, seq)))

    @property
    def tree(self) -> Tree:
        """This run and all that it called, read once: its events, and the tree as it was after any of them."""
        from .trees import Tree

        return Tree(self.histories, self._run)

    @property
    def events(self) -> tuple[Event, ...]:
        """The entries of this run and of all that it called, in the order of the log, numbered from 1."""
        return self.tree.events

    def at(self, number: int) -> Moment:
        """
        This run and all that it called as they were after event ``number`` of the tree (0: before the run was born).

        Raises:
            IndexError: The tree has no such event.
        """
        return self.tree.at(number)

    @property
    def folded(self) -> Run:
        """The run as it is now."""
        return self._read(fold(self._run, self._entries()))

    def _read(self, run: Run) -> Run:
        if run.state is not None:
            self.histories.show(run.state, run)
        return run

    @property
    def state(self) -> State:
        """The current state. Its ``result()`` decodes what is recorded."""
        state = self.folded.state
        assert state is not None
        return state

    def result(self, raise_on_failure: bool = True) -> Any:
        """
        The recorded result, decoded; or the recorded exception, raised.

        Raises:
            UnfinishedRun: The run has not ended.
            MissingResult: It completed, but its result is not on record.
        """
        return self.state.result(raise_on_failure)

    @property
    def kind(self) -> str:
        """``"flow"`` or ``"task"``."""
        return self.folded.birth.kind

    @property
    def name(self) -> str:
        """The run's own name."""
        return self.folded.birth.run_name

    @property
    def parameters(self) -> dict[str, Any]:
        """The recorded inputs by name, decoded; what is too large to be recorded is left out."""
        return {i.name: self.histories.unpack(i.value) for i in self.folded.birth.inputs if usable(i.value)}

    @property
    def parent(self) -> RecordedRun | None:
        """The run that called this one."""
        parent = self.folded.birth.parent
        return None if parent is None else RecordedRun(self.histories, parent)

    @property
    def children(self) -> list[RecordedRun]:
        """The runs that this one called, in call order; after a retry, those of every attempt."""
        return [RecordedRun(self.histories, child) for child in self.histories.log.children(self._run)]

    def diff(self, other: RecordedRun) -> Diff:
        """
        Hold this run against another one of the same flow: where they part first, and which calls differ in what.

        Calls are aligned by their places. Times are not compared; how long each call lasted is told beside what differs.
        """
        from .comparing import diff

        return diff(self, other)

    def fork(
        self, at: int | None = None, overrides: Mapping[str, Any] | None = None, *, flow: Any = None
    ) -> RecordedRun:
        """
        Begin a new run of the flow that shares the beginning of this one, and carry it out, here and now.

        A call that had ended by event ``at``, at its place and with the same inputs, is answered from this run, and nothing is
        written for it; a call with an override ends as that says; all others are carried out.

        Args:
            at: The number of an event, as `events` counts them; the last one where left out.
            overrides: By the place of a call, such as ``"fetch:2"``: a value, an exception, or a final state.
            flow: The flow; where left out, it is imported from where the record says.

        Returns:
            The new run, ended or at rest; whether it failed, its state says.

        Raises:
            IndexError: There is no such event.
            ValueError: An override has no place of a call.
            PluperfectError: This is no root flow run, its function is not found, or a parameter is not on record.
        """
        return self.histories.carrier.fork(self, at, overrides, flow=flow)

    def replay_task(
        self,
        *,
        attempt: int | None = None,
        iteration: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        task: Any = None,
        flow: Any = None,
        strict: bool = True,
        debug: bool = False,
    ) -> Retaken:
        """Call this task's body again, with what it was given; see `pluperfect.authoring.logs.OpenLog.replay_task`."""
        return self.histories.carrier.replay_task(
            self, attempt=attempt, iteration=iteration, inputs=inputs, task=task, flow=flow, strict=strict, debug=debug
        )

    def replay(self, flow: Any = None, *, bodies: bool = False, strict: bool = True) -> Replay:
        """Lead the flow's code again beside this run, and say where the two part; see `pluperfect.authoring.logs.OpenLog.replay`."""
        return self.histories.carrier.replay(self, flow, bodies=bodies, strict=strict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordedRun) and other._run == self._run

    @property
    def interrupted(self) -> bool:
        """Whether the run has not ended, is not paused, and nobody alive carries it out: it waits to be resumed."""
        run = self.folded
        if run.final or (isinstance(run.state, Retrying) and run.state.cause == "paused"):
            return False
        holder = self.histories.log.holder(run.birth.root)
        return holder is None or bool(holder.gone)

    def __hash__(self) -> int:
        return hash(self._run)

    def __repr__(self) -> str:
        run = self.folded
        spec, state = run.birth, run.state
        assert state is not None
        words = [f"<Run {spec.name}/{spec.run_name} {getattr(state, 'name', state.kind)}"]
        words.append(f"{max(run.updated - run.born, 0.0):.1f}s")
        children = len(self.histories.log.children(self._run))
        if children:
            words.append(f"{children} child{'ren' if children > 1 else ''}")
        if run.spent:
            words.append(f"{run.spent} retr{'ies' if run.spent > 1 else 'y'}")
        if run.loop_count > 1:
            words.append(f"iteration {run.loop_count}")
        return " ".join(words) + f" {short_id(self._run)}>"


class Histories:
    """A log with the plugins that can decode what stands in it: the reading half of an opened log."""

    def __init__(self, log: Log, hooks: Hooks, *, trust_imported: bool = False) -> None:
        self.log: Log = log
        self.hooks: Hooks = hooks
        self.trust_imported: bool = trust_imported

    def runs(
        self,
        *,
        state: str | type[State] | None = None,
        name: str | None = None,
        tag: str | None = None,
        roots: bool = False,
        limit: int | None = None,
    ) -> list[RecordedRun]:
        """
        The runs that match all that is given, the youngest first.

        Args:
            state: A kind, as its class or its name: ``Completed`` or ``"completed"``.
            name: The name of the flow or task.
            tag: A tag that the run has.
            roots: Leave out the runs that another run called.
            limit: At most so many.

        Raises:
            ValueError: There is no such state.
        """
        code = _code(state)
        self.log.flush()
        found = self.log.find(state=code, name=name, tag=tag, roots=roots)
        return [RecordedRun(self, run) for run in islice(found, limit)]

    def run(self, run_id: str) -> RecordedRun:
        """
        One run by its id, the beginning or the end of it, its run name, or the name of a flow or task (its youngest run).

        Raises:
            UnknownRun: No run has it, or several have; the message names close ones.
        """
        self.log.flush()
        wanted = str(run_id).replace("-", "").lower()
        digits = bool(wanted) and not set(wanted) - set("0123456789abcdef")
        if digits and len(wanted) == 32:
            exact = bytes.fromhex(wanted)
            if self.log.head(exact) is not None:
                return RecordedRun(self, exact)
        found: list[bytes] = []
        if digits and len(wanted) >= 4:
            even = wanted[: len(wanted) // 2 * 2]
            found = [run for run in self.log.matching(bytes.fromhex(even), 1000) if run.hex().startswith(wanted)]
        if not found:
            found = list(islice(self.log.find(name=run_id), 1))
        if not found:
            # The end of an id, or a run name: a look at the roots' trees, the youngest first.
            for run in islice(self.log.find(), 100_000):
                if digits and len(wanted) >= 4 and run.hex().endswith(wanted):
                    found.append(run)
                elif self._run_name(run) == run_id:
                    found = [run]
                    break
        if len(found) == 1:
            return RecordedRun(self, found[0])
        if found:
            some = ", ".join(id_text(run) for run in found[:4])
            raise UnknownRun(
                f"{len(found)} runs match {run_id!r}: {some}{' ...' if len(found) > 4 else ''}. Give more digits."
            )
        names = {self._run_name(run): run for run in islice(self.log.find(roots=True), 200)}
        import difflib

        near = difflib.get_close_matches(str(run_id), names, 3)
        hint = f" Close: {', '.join(near)}." if near else " `pluperfect runs` lists them."
        raise UnknownRun(f"There is no run {run_id!r} in {self.log.uri}.{hint}")

    def recorded(self, run: RecordedRun | str) -> RecordedRun:
        """This run, or the one that `run` finds by this text."""
        return self.run(run) if isinstance(run, str) else run

    def namesakes(self, run: RecordedRun) -> list[RecordedRun]:
        """Other runs of the same flow or task that have the same run name, the youngest first; the last 200 are looked at."""
        spec = run.folded.birth
        youngest = map(partial(RecordedRun, self), islice(self.log.find(name=spec.name), 200))
        return [other for other in youngest if other != run and self._run_name(other._run) == spec.run_name]

    def _run_name(self, run: bytes) -> str:
        # The name stands in the birth, or in the start of a run whose name was made of other runs' results.
        start = list(self.entries(run, 0, 4))
        spec = fold(run, start).spec
        return spec.run_name if spec is not None else ""

    def follow(self, after: int = 0, *, timeout: float | None = None) -> Iterator[Seen]:
        """
        Yield every entry of the log after a position, in commit order: first what is there, then what comes.

        Args:
            after: A position; 0 begins at the first entry.
            timeout: End when nothing has come for so many seconds; None waits for ever.
        """
        while True:
            batch = self.log.feed(after)
            for position, data in batch:
                after = position
                row = open_row(data)
                yield Seen(position, id_text(row.record.run), row.entry(self.log.blob))
            if not batch and not self.log.await_position(after, timeout):
                return

    def assets(self, key: str | None = None) -> list[Made]:
        """
        The materializations on record, the youngest first.

        Args:
            key: Of this asset alone.
        """
        self.log.flush()
        found: list[Made] = []
        after = 0
        while batch := self.log.feed(after):
            for position, data in batch:
                after = position
                row = open_row(data)
                entry = row.entry()
                if isinstance(entry, Transition) and entry.facts.assets and entry.to.final:
                    run = RecordedRun(self, row.record.run)
                    done = entry.to.is_completed()
                    found += [
                        Made(made.key, run, entry.at, done, made)
                        for made in entry.facts.assets
                        if key is None or made.key == key
                    ]
        return found[::-1]

    def journal(self, run: str | None = None) -> list[Noted]:
        """
        What the store itself did or refused, the oldest first: takeovers, refused writers.

        Args:
            run: Only what concerns the tree that this run belongs to.

        Raises:
            UnknownRun: No run has this id.
        """
        root = None if run is None else self.run(run).folded.birth.root
        self.log.flush()
        found: list[Noted] = []
        for data in self.log.records(self.log.store_id):
            row = open_row(data)
            record, body = row.record, row.note()
            if root is None or body.get("root") == root:
                found.append(Noted(record.at / 1e6, record.type.removeprefix("store/"), body))
        return found

    def rejudge(
        self,
        rule: Any = None,
        *,
        among: bool = False,
        since: float | None = None,
        state: str | type[State] | None = None,
        name: str | None = None,
    ) -> Rejudgement:
        """
        Judge the past again: iterate over the answer for each recorded proposal that would go otherwise now.

        Args:
            rule: A rule to try: a plugin, a module, a class, or a function with the arguments of ``review``. It is asked first, in
                the place of the rule of its name; where it has no opinion, things go as they went. None: the rules of this log.
            among: Ask the rules of this log too, where the rule has no opinion.
            since: Only proposals made at this time or later, UTC seconds since the epoch.
            state: Only runs that are in this state now, as for `runs`.
            name: Only runs of the flow or task with this name.

        Raises:
            UnknownRule: It is no rule.
            PluginError: It does not fit the contract of a hook.
            ValueError: There is no such state.
            ImpureRule: While it is iterated over: the rule answers from more than what it is given.
        """
        from .replay import Rejudgement

        return Rejudgement(self, rule, among=among, since=since, state=_code(state), name=name)

    def compare(self) -> list[str]:
        """Fold the whole log and say where a view differs from it, one line each; empty where all agree."""
        self.log.flush()
        return self.log.compare()

    def rebuild(self) -> int:
        """Project every view again from the log. Returns the number of records read."""
        self.log.flush()
        return self.log.rebuild()

    @property
    def carrier(self) -> Any:
        """
        The `pluperfect.authoring.logs.OpenLog` that carries runs out, and calls code.

        Raises:
            PluperfectError: This log is only read.
        """
        raise PluperfectError(
            f"{self.log.uri} is only read here. Open it with pluperfect.open(...) to carry out runs, and to call code."
        )

    # --- evidence

    def verify(
        self, run_id: str | None = None, *, against: Checkpoint | str | None = None, key: str | None = None
    ) -> Report:
        """
        Read the whole log once and say everything that is wrong: changed, exchanged, missing and added records, missing values,
        views that differ. Nothing is changed, and no value is decoded.

        Args:
            run_id: Only this run, as for `run`, and that it is in the tree over the log.
            against: A checkpoint that was kept elsewhere, or its text: it finds a store that was cut, or written anew.
            key: The public key with which its signature is checked.

        Raises:
            BadCheckpoint: The text is no checkpoint, or the key no key.
            SigningUnavailable: A signature is to be checked, and the extra ``sign`` is not installed.
        """
        self.log.flush()
        point = Checkpoint.parse(against) if isinstance(against, str) else against
        only = None if run_id is None else self.run(run_id)._run
        report = self.log.verify(only, point)
        if not report.findings:  # where records are wrong, nothing can be said of what they share
            report = replace(report, findings=tuple(self._forks_amiss(only)))
        if point is not None and key is not None:
            from .signing import checked

            wrong = checked(point, key)
            if wrong:
                advice = "Do not believe this checkpoint; take the copy that its owner has."
                report = replace(report, findings=(*report.findings, Finding(f"{wrong}.", advice)))
        return report

    def _forks_amiss(self, only: bytes | None) -> Iterator[Finding]:
        from .trees import without_beginning

        for run in without_beginning(self, only):
            forked = run.birth.forked
            assert forked is not None
            yield Finding(
                f"Run {id_text(run.id)} was forked from run {id_text(forked.run)} at event {forked.at}, which is not in this log"
                " with that history.",
                "Import that run as well: a fork says nothing of what it shares.",
            )

    def prove(self, run_id: str, size: int | None = None) -> Proof:
        """
        Prove that a run is in the log, up to its last record.

        Args:
            run_id: As for `run`.
            size: In the tree that the log was when it had so many records; of now where left out.

        Raises:
            UnknownRun: There is no such run, or was none at that size.
            IndexError: The log was never so long, or (PrunedAway) all records around there were pruned.
        """
        self.log.flush()
        return self.log.prove(self.run(run_id)._run, size)

    def checkpoint(self, *, key: str | None = None, at: float | None = None) -> Checkpoint:
        """
        Say which root the log has now. Keep its ``text`` elsewhere: `verify` holds the log against it.

        Args:
            key: A private key of `pluperfect.signing.new_key`, to sign it with.
            at: When, UTC seconds; now where left out.

        Raises:
            BadCheckpoint: The key is none.
            SigningUnavailable: The extra ``sign`` is not installed.
        """
        self.log.flush()
        size, root = self.log.tree()
        made = Checkpoint.made(self.log.store_id, size, root, time.time() if at is None else at)
        if key is None:
            return made
        from .signing import sign

        return sign(made, key)

    def export(
        self,
        path: str | os.PathLike[str],
        runs: Iterable[RecordedRun | str],
        *,
        checkpoint: Checkpoint | str | None = None,
        as_imported: bool = False,
    ) -> Header:
        """
        Write runs into one file, with the whole trees that they belong to and the proofs that they are in this log.

        The same runs give the same bytes, whatever else was recorded meanwhile.

        Args:
            path: The file; what stands there is replaced.
            runs: Runs, or what `run` finds them by.
            checkpoint: A checkpoint, or its text: the proofs lead to its root, and it goes into the file.
            as_imported: Write the file again that the first run was imported from, with the proofs of the log it comes from.

        Raises:
            UnknownRun: There is no such run; or with ``as_imported`` it was not imported, or one that came with it was pruned.
            RedactedValue: With ``as_imported``: a value that came with it was taken away.
            BadCheckpoint: The checkpoint is none, of another store, or older than these runs.
            StoreDamaged: A value is missing.
        """
        from . import exports

        self.log.flush()
        wanted = [self.recorded(run)._run for run in runs]
        if as_imported:
            if not wanted:
                raise UnknownRun("Nothing was chosen, so that no file can be named.")
            return exports.write_again(self.log, path, wanted[0])
        point = Checkpoint.parse(checkpoint) if isinstance(checkpoint, str) else checkpoint
        return exports.write(self.log, path, wanted, point)

    def import_runs(
        self, path: str | os.PathLike[str], *, limit: int | None = None, at: float | None = None
    ) -> Admitted:
        """
        Take the runs of an exported file in, byte for byte: all of them, or none.

        A run that is here already is left, or gets what is new. Imported runs are marked: their values are not decoded where
        that may run code, unless the log is opened with ``trust_imported=True``; and they answer no cached call.

        Args:
            path: The file.
            limit: How many bytes it may unpack to; 256 MiB where left out.
            at: When, UTC seconds; now where left out.

        Raises:
            BadExport: The file is not sound.
            ImportRefused: A run has another history here.
        """
        from . import exports

        file = exports.read(path, limit=exports.LIMIT if limit is None else limit)
        return self.log.admit(file.parcel(time.time() if at is None else at))

    def redact(
        self,
        run_id: str,
        *,
        seq: int | None = None,
        input: str | None = None,
        result: bool = False,
        everywhere: bool = False,
        by: str = "",
        why: str = "",
        at: float | None = None,
    ) -> Redaction:
        """
        Take values of a run away for ever. Their digests stay, so that everything else is still proved; it goes on record.

        Args:
            run_id: As for `run`.
            seq: All values of this record.
            input: The value of this input.
            result: The result, or the exception, that the run ended with.
            everywhere: Also from the records of other runs that hold the same bytes; the answer names those that still do.
            by: Who wants it.
            why: For which reason.
            at: When, UTC seconds; now where left out.

        Raises:
            LookupError: There is no such record or input, or it has no value.
        """
        self.log.flush()
        found = self.run(run_id)
        run = found.folded
        values: list[Any] = []
        if seq is not None:
            records = self.log.records(run.id, seq - 1, seq)
            digests = {digest for data in records for digest in open_row(data).digests}
        else:
            if input is not None:
                values += [given.value for given in run.birth.inputs if given.name == input]
            if result and run.state is not None and run.final:
                values += [getattr(run.state, "data", None), getattr(getattr(run.state, "error", None), "data", None)]
            digests = {v.digest for v in values if isinstance(v, Packed) and v.code not in (ABSENT, RESULT)}
        if not digests:
            inputs = ", ".join(given.name for given in run.birth.inputs) or "none"
            raise LookupError(
                f"Run {found.id} has no such value. It has {run.seq} records and these inputs: {inputs}; a reference to another run"
                " is no value: redact the result of that run."
            )
        when = time.time() if at is None else at
        return self.log.redact(run.id, digests, everywhere=everywhere, by=by, why=why, at=when)

    # --- care

    def _now(self) -> float:
        return time.time()

    def prune(
        self,
        older_than: timedelta | float,
        *,
        state: str | type[State] | None = None,
        name: str | None = None,
        keep: int = 0,
        with_keys: bool = False,
        dry_run: bool = False,
    ) -> Pruned:
        """
        Take old runs out of the log: whole trees of runs that have all ended. What stays, reads as before.

        Args:
            older_than: The last record of the tree was made so long ago; seconds, or a timedelta.
            state: Only runs in this state: a kind, as its class or its name.
            name: Only runs of the flow or task with this name.
            keep: Of each flow, the youngest so many that fit ``state`` and ``name`` stay.
            with_keys: Also runs with an idempotency key. Called again with the same key, they would run again.
            dry_run: Change nothing; only say what would go.

        Raises:
            ValueError: There is no such state, or the age or the number is below 0.
        """
        age = older_than.total_seconds() if isinstance(older_than, timedelta) else float(older_than)
        if not age >= 0 or keep < 0:
            raise ValueError(f"older_than={older_than!r}, keep={keep!r}: neither may be below 0.")
        at = self._now()
        rule = PruneRule(at - age, _code(state), name, keep, with_keys)
        self.log.flush()
        return self.log.prune(rule, at, dry_run=dry_run)

    def backup(self, path: str | os.PathLike[str]) -> Backup:
        """
        Copy the store into a new folder, while others write, and check the copy in every record.

        The copy is a store: open it, or put it where the old one was. Whoever carried out runs in the old one is refused
        there.

        Raises:
            StoreError: There is something in the folder, or the log has no file.
            StoreDamaged: The copy is not sound; it was not kept.
        """
        self.log.flush()
        return self.log.backup(os.fspath(path))

    def compact(self) -> Compacted:
        """
        Write the store's file anew without the room that it does not use; nobody else may have it open.

        Raises:
            StoreError: Somebody else has the store open, or the log has no file.
        """
        return self.log.compact()

    def health(self) -> Health:
        """Look after the store: what there is, and what needs attention."""
        self.log.flush()
        return self.log.health()

    # --- decoding on demand

    def entries(self, run: bytes, after: int = 0, upto: int | None = None) -> Iterator[Entry]:
        """The entries of a run with ``after < seq <= upto``, oldest first; what this release does not know is left out."""
        for data in self.log.records(run, after, upto):
            entry = decode(data, self.log.blob)
            if entry is not None:
                yield entry

    def trusts(self, run: bytes) -> bool:
        """Whether the code that a run's record names may be loaded: nobody else made it, or it was said that they may."""
        head = self.log.head(run)
        return head is None or not head.imported or self.trust_imported

    def unpack(self, packed: Any) -> Any:
        """
        Decode a packed value; a reference to runs gives their states.

        Raises:
            UntrustedValue: It was imported, and decoding it may run code.
            UnknownRun: It refers to a run that is not in the log any more.
        """
        if packed.code != RESULT:
            if packed.run and not self.trust_imported and runs_code(packed) and not self.trusts(packed.run):
                raise UntrustedValue(
                    f"This value ({codec_of(packed)}) of run {id_text(packed.run)} was imported, and decoding it may run code"
                    " that came with it. If you trust whoever made the file, open the log with trust_imported=True."
                )
            return self.hooks.unpack(packed)
        cited = msgspec.msgpack.decode(packed.data)
        if isinstance(cited, bytes):
            return self._state_of(cited)
        return [self._state_of(run) for run in cited]

    def _state_of(self, run: bytes) -> State | None:
        state = self.load(run).state
        if state is None and run:
            raise UnknownRun(
                f"The result refers to run {id_text(run)}, which is not in the log: pruned, or not exported."
            )
        return state

    def show(self, state: State, run: Run) -> None:
        """Let the last state of a run decode what is recorded, and know where it stands and since when."""
        spec = run.spec
        kind, above = ("", None) if spec is None else (spec.kind, spec.parent)
        state.belongs_to(run.id, kind, above, run.updated, run.attempt, self)

    def dated(self, at: float) -> datetime:
        """A time of a record as a date, in UTC."""
        return datetime.fromtimestamp(at, UTC)

    def details(self, run: bytes, kind: str, above: bytes | None, state: State) -> StateDetails:
        """What is known beside a state of this run: the ids around it, its time, its key."""
        from uuid import UUID

        due: Any = getattr(state, "due", None)
        flow = self._flow_of(run, kind, above)
        return StateDetails(
            None if flow is None else UUID(bytes=flow),
            UUID(bytes=run) if kind == "task" else None,
            datetime.fromtimestamp(due, UTC) if due else None,
            state.key or None if isinstance(state, Cached) else None,
            start_time=self._begun(run),
        )

    def _begun(self, run: bytes) -> datetime | None:
        """When the body of a run was first begun: mostly its second entry; refusals and delays may stand before."""
        seq = 1
        while records := self.log.records(run, seq, seq + 1):
            entry = decode(records[0])
            if entry is not None and isinstance(entry.to, Running):
                return datetime.fromtimestamp(entry.at, UTC)
            seq += 1
        return None

    def _flow_of(self, run: bytes, kind: str, above: bytes | None) -> bytes | None:
        """The run itself where it is a flow's, else the nearest flow run above it."""
        while kind != "flow":
            if above is None:
                return None
            run = above
            born = next(iter(self.log.records(run, 0, 1)), None)
            entry = None if born is None else decode(born)
            spec = getattr(None if entry is None else entry.to, "spec", None)
            kind, above = ("", None) if spec is None else (spec.kind, spec.parent)
        return run

    def recorded_data(self, run: bytes, seq: int) -> Any:
        """The packed result that a run recorded at ``seq``; None where there is none."""
        records = self.log.records(run, seq - 1, seq)
        entry = decode(records[0], self.log.blob) if records else None
        return None if entry is None else getattr(entry.to, "data", None)

    def load(self, run: bytes) -> Run:
        """Fold a run from its log; a run without records has ``seq`` 0."""
        folded = fold(run, self.entries(run))
        if folded.state is not None:
            self.show(folded.state, folded)
        return folded

    def called(self, run: bytes, after: int = 0, limit: int = 64) -> list[tuple[int, int, Run]]:
        """
        The next runs that this one called, folded, in call order: `pluperfect.hooks.Log.called`.

        Returns:
            Of each the position of its birth, that of its last record, and the run; its state cannot decode what it recorded.
            Empty: there are none behind ``after``.
        """
        page = self.log.called(run, after, limit)
        read = decode_each([row for _, placed in page for _, row in placed], self.log.blob)
        found: list[tuple[int, int, Run]] = []
        for born, placed in page:
            folded = Run(b"")
            for _, (record, entry) in zip(placed, read, strict=False):  # of all that is read, what belongs to this one
                if not folded.id:
                    folded = Run(record.run)
                if entry is not None:
                    folded = apply(folded, entry)
            found.append((born, placed[-1][0] if placed else born, folded))
        return found

    def each_called(self, run: bytes) -> Iterator[tuple[int, int, Run]]:
        """All of them, page by page: what is called meanwhile may be among them."""
        after = 0
        while page := self.called(run, after):
            yield from page
            after = page[-1][0]

    def describe(self, packed: Any) -> str:
        """What a packed value is, without running anything that stands in it."""
        if packed is None:
            return "not recorded"
        try:
            if packed.code == PLAIN:
                return repr(self.hooks.unpack(packed))
            if packed.code == ABSENT:
                return f"not recorded: {packed.data.decode(errors='replace')}"
        except RedactedValue:
            return f"<redacted, {packed.size} bytes, SHA-256 {packed.digest.hex()[:16]}>"
        return f"<{codec_of(packed)}, {packed.size} bytes>"
